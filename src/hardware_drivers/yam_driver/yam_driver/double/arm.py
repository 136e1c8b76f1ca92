# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A double of one arm: motors, the adapter they are behind, and a plant in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from .adapter import Adapter, Frame
from .motor import Motor
from .plants import STROKE, Plant, SimplePlant

KINDS = ("DM4340", "DM4340", "DM4340", "DM4310", "DM4310", "DM4310", "DM4310")
GRIPPER_LIMITS = f"{STROKE},0.0"    # the driver's option: closed, open
MOST_CATCH_UP = 0.02                # [s]; what is older after a delay is dropped


class DoubleArm:
    """Motors 1 .. 7. start: where their shafts are at first [rad]."""

    def __init__(
        self, link: Path, plant: Plant | None = None, kinds: Sequence[str] = KINDS,
        start: Sequence[float] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    ):
        self.time = 0.0    # of the plant [s]; the motors' clock, so that a machine that stands still lets no time pass
        self.motors = [Motor(number + 1, kind, lambda: self.time) for number, kind in enumerate(kinds)]
        self.plant = plant or SimplePlant(len(kinds))
        self.plant.place(start)
        self.frames: list[Frame] = []    # what the bus carried to the motors, the newest 200000
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._show()
        self.adapter = Adapter(Path(link), self._hear)
        self._thread = threading.Thread(target=self._run, name="plant", daemon=True)
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
        self._thread.join()
        self.adapter.close()

    def positions(self) -> list[float]:
        """Of the shafts [rad]."""
        with self._lock:
            return [float(value) for value in self.plant.state()[0]]

    def place(self, positions: Sequence[float]) -> None:
        with self._lock:
            self.plant.place(positions)
            self._show()

    def _show(self) -> None:
        for motor, position, velocity in zip(self.motors, *self.plant.state(), strict=False):
            motor.drive(float(position), float(velocity))

    def _hear(self, frame: Frame) -> list[Frame]:
        with self._lock:
            self.frames.append(frame)
            del self.frames[:-200000]
            answers = [motor.hear(*frame) for motor in self.motors]
        return [answer for answer in answers if answer is not None]

    def _run(self) -> None:
        step, due = self.plant.step, time.monotonic()
        while not self._ending.wait(max(due - time.monotonic(), 0.0005)):
            now = time.monotonic()
            due = max(due, now - MOST_CATCH_UP)
            with self._lock:
                while due <= now:
                    count = len(self.plant.state()[0])
                    states = zip(self.motors[:count], *self.plant.state(), strict=True)
                    self.plant.advance([motor.drive(float(p), float(v)) for motor, p, v in states])
                    due += step
                    self.time += step
                self._show()
