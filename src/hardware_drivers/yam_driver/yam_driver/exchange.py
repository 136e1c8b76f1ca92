# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One question to each motor in a turn of the loop, and who answers. A motor that does not must not keep the others
waiting: they let go where they are not commanded for too long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .hardware import Hardware
from .health import HealthRecord
from .motors import OFF, Feedback, MotorBus, Silent
from .vendor import Chain

HURRIED = 0.01        # [s] for an answer where a motor has not answered just now
MISSES = 3            # turns in a row without an answer, after which a motor is silent
LOOK_AGAIN = 0.2      # [s] between questions to a motor that is silent


class Exchange:
    """readings: what each motor answered last, in order. silent: since when it has not answered [s], 0.0 where it has.
    returned: indices of motors that came back off: their power was away, and they are not believed yet."""

    def __init__(self, hardware: Hardware, health: HealthRecord):
        count = len(hardware.motors)
        self._hardware, self._health = hardware, health
        self.readings: list[Feedback] = []
        self.silent = np.zeros(count)
        self.returned: set[int] = set()
        self._missed = np.zeros(count, dtype=int)    # turns in a row
        self._looked = np.zeros(count)

    def begin(self, readings: Sequence[Feedback]) -> None:
        """All motors have answered."""
        self.readings = list(readings)
        self.silent[:], self._missed[:] = 0.0, 0
        self.returned.clear()

    def turn(self, bus: MotorBus, chain: Chain, driven: bool, now: float) -> None:
        """driven: the chain's commands are sent; else motors are only asked where they are. Errors: OSError,
        can.CanError."""
        for index in range(len(self.silent)):
            if not self.silent[index] or now - self._looked[index] >= LOOK_AGAIN:
                self._ask(bus, chain if driven else None, index, now)
        if self._missed.all():    # named at once, before the readings are too old
            self.silent[self.silent == 0] = now

    def _ask(self, bus: MotorBus, chain: Chain | None, index: int, now: float) -> None:
        self._looked[index] = now
        before = bus.tries, bus.reply
        bus.tries = 1
        if self._missed.any():
            bus.reply = min(HURRIED, bus.reply)
        motor = self._hardware.motors[index]
        try:
            if chain is None:
                reading = bus.refresh(motor)
            else:
                sent = chain.sent(index)
                reading = bus.command(motor, sent.pos, sent.vel, sent.kp, sent.kd, sent.torque)
        except Silent:
            self._miss(bus, index, now)
            return
        finally:
            bus.tries, bus.reply = before
        # Nothing but a loss of power switches a motor off; we have said so ourselves where it was off before.
        if reading.status == OFF and (self.silent[index] or self.readings[index].status != OFF):
            self.returned.add(index)
        self.readings[index], self.silent[index], self._missed[index] = reading, 0.0, 0

    def _miss(self, bus: MotorBus, index: int, now: float) -> None:
        self._missed[index] += 1
        if self._missed[index] < MISSES:
            bus.retries += 1    # in the next turn
        else:
            self.silent[index] = self.silent[index] or now
            self._health.unanswered += 1
