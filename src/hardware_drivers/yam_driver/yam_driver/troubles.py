# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an arm's motors, from what they say and do not say. No bus here."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .checks import fault_text
from .hardware import Motor
from .motors import COMM_LOSS, HOT, OFF, ON, Feedback

WARM, STOP, COOL = 60.0, 70.0, 55.0    # [deg C], of electronics or winding
SHOWN = 1.0     # [s] for which something that has passed is still reported, so that the controller latches it
GRACE = 30.0    # [s] of motion after an operator cleared a stop for heat, for parking

logger = logging.getLogger("yam_driver")


class Troubles:
    """Of one arm. names: the joints, in motor order. Times are of the steady clock [s]."""

    def __init__(self, motors: Sequence[Motor], names: Sequence[str], where: str):
        self._motors, self._names, self._where = motors, names, where
        self._since: dict[int, float] = {}    # when each motor's trouble began
        self._warned: set[int] = set()
        self._hot = False
        self._granted: float | None = None       # when an operator was given time to park a hot arm
        self._noted, self._noted_at = "", 0.0

    def forget(self) -> None:
        """The motors are switched on anew."""
        self._since.clear()

    def grant(self, now: float) -> None:
        """An operator clears a fault: a hot arm may move for a time, to be parked."""
        self._granted = now if self._hot else None

    def note(self, text: str, now: float) -> None:
        """Something else is wrong, in words; it is reported for a time."""
        self._noted, self._noted_at = text, now

    def update(self, readings: Sequence[Feedback], silent: Sequence[float], driven: bool, now: float) -> str:
        """What is wrong now, in words; empty where nothing is.

        silent: since when each motor has not answered, 0.0 where it has. driven: whether all should be switched on.
        """
        noted = self._noted if now - self._noted_at < SHOWN else ""
        return self._silence(silent) or self._statuses(readings, driven, now) or self._heat(readings, now) or noted

    def _silence(self, silent: Sequence[float]) -> str:
        gone = [i for i, since in enumerate(silent) if since]
        if not gone:
            return ""
        if len(gone) == len(self._motors):
            return (
                f"no motor on {self._where} answers any more; without commands they let go after their timeout, and "
                "the arm sinks; check its power, the E-stop, the CAN cable and the adapter"
            )
        which = ", ".join(f"{self._motors[i].id} ({self._names[i]})" for i in gone)
        return f"motor {which} does not answer any more; the others hold; check its cable and plugs"

    def _statuses(self, readings: Sequence[Feedback], driven: bool, now: float) -> str:
        fine = (ON,) if driven else (OFF, ON, COMM_LOSS)
        texts = []
        for i, reading in enumerate(readings):
            if reading.status in fine:
                self._since.pop(i, None)
                continue
            since = self._since.setdefault(i, now)
            hot = reading.status in HOT and max(reading.mos, reading.rotor) >= WARM
            if hot or now - since < SHOWN:
                texts.append(fault_text(self._motors[i], self._names[i], reading))
        return "; ".join(texts)

    def _heat(self, readings: Sequence[Feedback], now: float) -> str:
        for i, reading in enumerate(readings):
            temperature = max(reading.mos, reading.rotor)
            if temperature < COOL:
                self._warned.discard(i)
            elif temperature >= WARM and i not in self._warned:
                self._warned.add(i)
                logger.warning(
                    "motor %d (%s) is at %.0f degC; the arm stops at %.0f", self._motors[i].id, self._names[i],
                    temperature, STOP,
                )
        hottest = max(range(len(readings)), key=lambda i: max(readings[i].mos, readings[i].rotor))
        temperature = max(readings[hottest].mos, readings[hottest].rotor)
        self._hot = temperature >= STOP
        if temperature < WARM:
            self._granted = None
        if not self._hot or (self._granted is not None and now - self._granted < GRACE):
            return ""
        return (
            f"motor {self._motors[hottest].id} ({self._names[hottest]}) is at {temperature:.0f} degC, more than "
            f"{STOP:.0f}; the arm holds; clear the fault, then arm and park within {GRACE:.0f} s, and let it cool down"
        )
