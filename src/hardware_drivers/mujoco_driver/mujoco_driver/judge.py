# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether an attempt at a task succeeded, and why not."""

from __future__ import annotations

import numpy as np

from .success import PICK, SIDEWAYS, TOUCH, TRAY, holds
from .tabletop import Tabletop

HELD = 10                                        # steps that a test must hold in a row
LATE = 5                                         # steps between two looks, beyond which nothing is known of between
LIMITS = {TOUCH: 120, PICK: 180, TRAY: 300}      # steps of an expert's attempt, at 30 a second
MOVED = 0.02                                     # [m]


class Judge:
    """Of one attempt. Made when the scene has been placed; `update` once per step. patience: how many times as long as
    an expert's the attempt may last."""

    def __init__(self, table: Tabletop, task: str, cube: str, patience: float = 1.0):
        self._table, self.task, self.cube, self._patience = table, task, cube, patience
        self._start = {name: table.place(name) for name in table.scene.cubes}
        self._in_a_row, self._nearest, self._was_held = 0, np.inf, False

    @property
    def limit(self) -> int:
        """Steps after which the attempt is over."""
        return round(self._patience * LIMITS[self.task])

    def update(self, steps: int = 1) -> bool:
        """Whether the task is done: its test has held for HELD steps, and a cube to be touched was not pushed away.

        steps: since the last look. What held then and holds now counts as having held between, over LATE steps at most.
        """
        table = self._table
        point = table.site("gripperframe" if self.task == TOUCH else "grasp")
        self._nearest = min(self._nearest, float(np.linalg.norm((point - table.place(self.cube))[:2])))
        self._was_held |= holds(table.scene, table.data, PICK, self.cube)
        good = holds(table.scene, table.data, self.task, self.cube)
        good = good and not (self.task == TOUCH and self._moved(self.cube) > MOVED)
        if not good:
            self._in_a_row = 0
        elif self._in_a_row and steps <= LATE:
            self._in_a_row += steps
        else:
            self._in_a_row = 1
        return self._in_a_row >= HELD

    def _moved(self, cube: str) -> float:
        return float(np.linalg.norm((self._table.place(cube) - self._start[cube])[:2]))

    def reason(self) -> str:
        """Why it is not done, in words."""
        table = self._table
        others = [name for name in table.scene.cubes if name != self.cube]
        if any(table.place(name)[2] > table.scene.half(name) + 0.03 for name in others):
            return "lifted the wrong cube"
        if self.task == TOUCH:
            tip = table.site("gripperframe")
            away = {name: float(np.linalg.norm((tip - table.place(name))[:2])) for name in table.scene.cubes}
            if min(away, key=lambda name: away[name]) != self.cube and min(away.values()) < 0.03:
                return "went to the wrong cube"
        if self.task == TRAY and table.place(self.cube)[2] > table.scene.half(self.cube) + 0.02:
            return "still holds the cube"
        if self._was_held:
            return "dropped the cube"
        if self._moved(self.cube) > MOVED:
            return "pushed the cube away"
        if max(self._moved(name) for name in others) > MOVED:
            return "pushed another cube"
        if not np.isfinite(self._nearest):
            return "ended before the arm was looked at"
        if self._nearest < SIDEWAYS:
            return "was over the cube and did not finish"
        return f"came no nearer than {10 * round(self._nearest * 100)} mm"
