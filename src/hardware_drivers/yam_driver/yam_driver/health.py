# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What an arm reports of its health, made of what its motors answer anyway. No bus here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from arm_controller.driver import Reading
from arm_controller.health import KEPT, durations

from .motors import Feedback, MotorBus
from .troubles import STOP, WARM

AMBIGUOUS = 2    # whole turns that a gripper's reading fits: it may be open or closed


class HealthRecord:
    """What the bus of one arm took and cost since the start. The loop's thread writes, the driver's reads."""

    def __init__(self) -> None:
        self.unanswered = 0    # questions that nobody answered after every try
        self.losses = 0        # of the adapter
        self._retries = 0      # on buses before the one that is open

    def leave(self, bus: MotorBus) -> None:
        """A bus is closed: its counts are kept."""
        self._retries += bus.retries

    def readings(
        self, names: Sequence[str], motors: Sequence[Feedback], bus: MotorBus | None, cycles: deque[float], turns: int
    ) -> list[Reading]:
        """names: the joints, in motor order; motors: what they answered last; bus: the one that is open now; cycles:
        how long exchanges with all motors took [s]; the newest count. turns: how many may be the gripper's (Doubt)."""
        told: list[Reading] = []
        for name, motor in zip(names, motors, strict=True):
            told += [
                Reading(f"{name} winding temperature", float(motor.rotor), "°C", WARM, STOP),
                Reading(f"{name} electronics temperature", float(motor.mos), "°C", WARM, STOP),
                Reading(f"{name} torque", float(motor.torque), "N m"),
            ]
        told += durations("bus cycle", list(islice(reversed(cycles), KEPT)))
        told += [
            Reading("questions asked again", self._retries + (bus.retries if bus else 0), ""),
            Reading("questions without an answer", self.unanswered, ""),
            Reading("losses of the adapter", self.losses, ""),
            Reading(f"{names[-1]} possible turns", turns, "", AMBIGUOUS),
        ]
        return told
