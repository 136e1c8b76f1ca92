# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A scripted expert for the SO-101's tabletop: it sees the true state and needs no memory, so it can say for any moment
and any instruction what it would do next. Angles of the servos [rad], places in the robot's base [m]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..scene import TRAY_CENTRE, TRAY_HALF
from ..success import TOUCH, TRAY
from ..tabletop import RATE, Tabletop
from .solver import Solver

# [rad/s]; below what a controller allows, so that it is never slowed down by one.
SPEED = np.array([1.6, 1.6, 1.6, 1.8, 2.2, 2.2])
OPEN, SHUT = 0.85, -0.10    # of the gripper's servo
HOVER, LIFTED, OVER_TRAY = 0.055, 0.085, 0.10
GRASP_HEIGHT = 0.014
TOUCH_ABOVE = 0.010
TILTED = 0.01               # weight of pointing down where the arm cannot reach otherwise


class Expert:
    """Plans for one scene."""

    def __init__(self, table: Tabletop):
        self._table, self._solver = table, Solver(table)

    def plan(self, task: str, cube: str, steps: int) -> np.ndarray:
        """What it would command from now on, (at most `steps`, D): the last one is to be held."""
        command = self._table.command
        stops = self._touch(cube, command) if task == TOUCH else self._carry(task, cube, command)
        return _follow(command, stops, steps)

    def chunk(self, task: str, cube: str, steps: int) -> np.ndarray:
        """The same, filled up to exactly `steps`."""
        path = self.plan(task, cube, steps)[:steps]
        return np.concatenate([path, np.repeat(path[-1:], steps - len(path), axis=0)])

    def _touch(self, cube: str, command: np.ndarray) -> list[np.ndarray]:
        place = self._table.place(cube)
        top = self._table.scene.half(cube)
        above, near = (
            _with_grip(self._solver.solve(place + [0, 0, top + height], "gripperframe"), 0.0)
            for height in (HOVER, TOUCH_ABOVE)
        )
        over = np.linalg.norm((self._solver.forward(command, "gripperframe") - place)[:2]) < 0.015
        return [near] if over else [above, near]

    def _carry(self, task: str, cube: str, command: np.ndarray) -> list[np.ndarray]:
        table, solve = self._table, self._solver.solve
        place, half = table.place(cube), table.scene.half(cube)
        at_cube = np.linalg.norm(table.site("grasp") - place) < 0.026
        lifted, closed = place[2] > half + 0.006, command[5] < SHUT + 0.10
        in_tray = task == TRAY and np.abs(place[:2] - TRAY_CENTRE).max() < TRAY_HALF
        over_tray = solve([*TRAY_CENTRE, OVER_TRAY], "grasp", None, TILTED)
        drop = _with_grip(over_tray, OPEN)
        if in_tray and place[2] < 0.06:
            return [drop]
        high = solve([*place[:2], GRASP_HEIGHT + LIFTED], "grasp", None, TILTED)
        raised = np.r_[high[:4], command[4], SHUT]
        if at_cube and (closed or lifted):
            stops = [raised]
        elif at_cube and command[5] < OPEN - 0.1:
            stops = [_with_grip(command, SHUT), raised]
        else:
            stops = self._approach(cube, command, high)
        if task == TRAY:
            up = at_cube and place[2] > half + 0.03
            stops = ([] if up else stops) + [_with_grip(over_tray, SHUT), drop]
        return stops

    def _approach(self, cube: str, command: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
        table, solve = self._table, self._solver.solve
        place, yaw = table.place(cube), table.yaw(cube)
        hand = self._solver.forward(command, "grasp")
        above, low = (solve([*place[:2], h], "grasp", yaw) for h in (place[2] + HOVER, GRASP_HEIGHT))
        grip = [_with_grip(low, OPEN), _with_grip(low, SHUT), np.r_[high[:4], low[4], SHUT]]
        aside = np.linalg.norm((hand - place)[:2])
        if aside < 0.014 and hand[2] < place[2] + HOVER + 0.02:
            return grip
        if hand[2] < place[2] + HOVER - 0.02 and aside < 0.06:    # beside the cube: up first
            up = solve([*hand[:2], place[2] + HOVER + 0.01], "grasp")
            return [np.r_[up[:4], command[4], OPEN], _with_grip(above, OPEN), *grip]
        return [_with_grip(above, OPEN), *grip]


def _with_grip(angles: np.ndarray, grip: float) -> np.ndarray:
    return np.r_[angles[:5], grip]


def _follow(command: np.ndarray, stops: Sequence[np.ndarray], steps: int) -> np.ndarray:
    """Straight lines of the joints at constant speed, easing out near each stop."""
    path: list[np.ndarray] = []
    for index, stop in enumerate(stops):
        near = 0.05 if index == len(stops) - 1 else 0.6
        while len(path) < steps:
            gap = stop - command
            left = float(np.max(np.abs(gap) / SPEED)) * RATE    # steps at full speed
            if left < near:
                break
            command = command + gap * min(1.0, 1.0 / left, max(0.25, 0.5 / left))
            path.append(command)
    path.append(stops[-1])
    return np.array(path)
