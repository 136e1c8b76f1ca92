# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A double of one arm: motors, the adapter they are behind, and a plant.

Its time is real, or that of the bus: then a frame takes as long as it does where a loop runs 250 times a second, and
where nobody says anything no time passes. So tests mean the same on a machine that is busy with other things.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mujoco_driver.trail import Trail

from .adapter import Adapter, Frame
from .motor import Motor, Status
from .plants import STROKE, Plant, SimplePlant

KINDS = ("DM4340", "DM4340", "DM4340", "DM4310", "DM4310", "DM4310", "DM4310")
GRIPPER_LIMITS = f"{STROKE},0.0"    # the driver's option: closed, open
FRAME = 1 / 250 / 7                 # [s] of bus time for a frame and its answer
MOST_CATCH_UP = 0.02                # [s]; what is older after a delay is dropped


class DoubleArm:
    """Motors 1 .. 7. start: where their shafts are at first [rad]."""

    def __init__(
        self, link: Path, plant: Plant | None = None, kinds: Sequence[str] = KINDS,
        start: Sequence[float] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), real_time: bool = True,
    ):
        self.time = 0.0    # of the plant [s]; the motors' clock, so that a machine that stands still lets no time pass
        self.motors = [Motor(number + 1, kind, lambda: self.time) for number, kind in enumerate(kinds)]
        self.plant = plant or SimplePlant(len(kinds))
        self.plant.place(start)
        self.frames: list[Frame] = []    # what the bus carried to the motors, the newest 200000
        self._trail = Trail()
        self._goals: list[float | None] = [None] * len(kinds)    # of the shafts [rad]; None: not held anywhere
        self._turn_at, self._noted = 0, list(self._goals)        # the motor that was told last; goals of the last turn
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._show()
        self.adapter = Adapter(Path(link), self._hear)
        self._thread = threading.Thread(target=self._run, name="plant", daemon=True) if real_time else None
        self.unanswered = FRAME    # [s] of bus time that a frame takes which nobody answers
        self._owed = 0.0    # time that the plant has not gone yet [s]
        self._last = time.monotonic()
        if self._thread is not None:
            self._thread.start()

    def motor(self, number: int) -> Motor:
        return self.motors[number - 1]

    def power(self, on: bool) -> None:
        """The supply of all motors."""
        for motor in self.motors:
            motor.plugged = on
            motor.power_cycle()

    def close(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        self.adapter.close()

    def positions(self) -> list[float]:
        """Of the shafts [rad]."""
        with self._lock:
            return [float(value) for value in self.plant.state()[0]]

    def take_trail(self) -> dict[str, list[dict[str, Any]]]:
        """Where the shafts were and what the motors were told [rad], since this was last called."""
        with self._lock:
            return self._trail.take()

    def place(self, positions: Sequence[float]) -> None:
        with self._lock:
            self.plant.place(positions)
            self._show()

    def _show(self) -> None:
        for motor, position, velocity in zip(self.motors, *self.plant.state(), strict=False):
            motor.drive(float(position), float(velocity))

    def pass_time(self, seconds: float) -> None:
        """Of a double in bus time: so long nobody says anything."""
        with self._lock:
            self._go(seconds)

    def _go(self, seconds: float) -> None:
        self._owed += seconds
        while self._owed >= self.plant.step:
            count = len(self.plant.state()[0])
            states = zip(self.motors[:count], *self.plant.state(), strict=True)
            self.plant.advance([motor.drive(float(p), float(v)) for motor, p, v in states])
            self.time += self.plant.step
            self._owed -= self.plant.step
        self._show()
        if self._trail.is_due(self.time):
            self._trail.see(self.time, positions=[float(value) for value in self.plant.state()[0]])

    def _hear(self, frame: Frame) -> list[Frame]:
        with self._lock:
            self.frames.append(frame)
            del self.frames[:-200000]
            if self._thread is None:
                self._go(FRAME)
            else:
                self._catch_up()
            answers = [answer for answer in (motor.hear(*frame) for motor in self.motors) if answer is not None]
            if self._thread is None and not answers:
                self._go(self.unanswered - FRAME)
            self._note(*frame)
        return answers

    def _note(self, number: int, data: bytes) -> None:
        """What motors are told in one turn of whoever commands them, where that is another goal than before."""
        if not 1 <= number <= len(self._goals) or data[:7] == b"\xff" * 7:
            return
        if number <= self._turn_at and self._goals != self._noted and None not in self._goals:
            self._trail.tell(time.monotonic(), positions=list(self._goals))
            self._noted = list(self._goals)
        self._turn_at, motor = number, self.motor(number)
        command = motor.meant(data)    # also of one in error: it is told like the others
        held = command.kp and motor.status != Status.OFF    # one that had no power may count in another turn
        self._goals[number - 1] = command.pos - motor.turns if held else None

    def _run(self) -> None:
        while not self._ending.wait(self.plant.step):
            with self._lock:
                self._catch_up()

    def _catch_up(self) -> None:
        now = time.monotonic()
        self._go(min(now - self._last, MOST_CATCH_UP))
        self._last = now
