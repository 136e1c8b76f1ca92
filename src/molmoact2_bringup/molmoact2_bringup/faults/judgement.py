# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether an arm kept what is promised whatever the fault: limits, workspace, no stop at speed. No ROS here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from molmoact2_contract import Arm, Contract

from .reasons import Late

SPAN = 0.03            # [s] over which a speed is taken, and a change of speed: arrivals scatter by some milliseconds
BUS_SPAN = 0.06        # [s] the same behind a bus, whose cycles take now more and now less time
# [s] between two setpoints behind a bus, of which the last came late: they are sent every 10 ms, and motors are told of
# them 4 ms later at most. On a busy computer pauses of 20 to 40 ms were seen, and then two setpoints in one.
LATE = 0.015
GAP = 0.1              # [s] without a setpoint: there the one before was the last of its motion
SPEED, CHANGE = 1.15, 1.6    # of the limits of velocity and acceleration, for setpoints
# Of the limit of velocity, where a bus asks again and a driver's command catches up with its setpoints: what the loop
# of the YAM allows that (FASTER). With one answer in a hundred lost, motors were told to move at 1.22.
CATCHING_UP = 1.5
MEASURED_SPEED = 1.25  # of the limit of velocity; an arm overshoots by this much at most
SLACK = 0.1            # [rad, 1] outside the position limits, where an arm may sag or swing to
ROUNDING = 2e-4        # [rad, 1] outside the position limits, for setpoints: half a step of what a YAM's motor is told
OUTSIDE, SAG = 0.005, 0.03    # [m] outside the workspace: setpoints, and the arm itself
LAST = 0.35            # of the velocity limit; what is left at the last setpoint of a ramp is far less


@dataclass(frozen=True)
class Trace:
    """times [s] (N,), positions in ROS units (N, J)."""

    times: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(cls, samples: Sequence[tuple[float, np.ndarray]]) -> Trace:
        return cls(np.array([t for t, _ in samples]), np.array([p for _, p in samples]))

    def __getitem__(self, part: slice) -> Trace:
        return Trace(self.times[part], self.positions[part])

    def speeds(self, span: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean velocities over about `span` seconds: the middles of the spans [s] (M,), velocities (M, J)."""
        later = np.searchsorted(self.times, self.times + span)
        inside = later < len(self.times)
        first, last = np.flatnonzero(inside), later[inside]
        took = self.times[last] - self.times[first]
        velocity = (self.positions[last] - self.positions[first]) / took[:, None]
        return (self.times[last] + self.times[first]) / 2, velocity


class Judge:
    """Of one arm, by its contract. span: over which speeds and changes of speed are taken [s]. untimely: share of the
    limits of velocity for setpoints that arrive otherwise than they are sent. late: a pause between two of them, around
    which they tell nothing of changes of speed [s]. memory: how much of what was seen belongs to what comes next
    [s]."""

    def __init__(
        self, contract: Contract, arm: Arm, span: float = SPAN, untimely: float = SPEED, late: float = np.inf
    ):
        self._arm, self._span, self.memory, self._untimely, self._late = arm, span, 4 * span, untimely, late
        names = ("lower", "upper", "velocity", "acceleration")
        self._lower, self._upper, self._velocity, self._acceleration = (
            contract.values(name, arm.joints) for name in names
        )

    def arm(self, seen: Trace, braking: bool = False) -> str:
        """Which promise the arm itself broke; empty where none. seen: where it was; braking: whether it has to speed up
        and to slow down as its setpoints have to."""
        positions = seen.positions
        outside = (positions < self._lower - SLACK) | (positions > self._upper + SLACK)
        if outside.any():
            return f"{self._name(outside)} left its position limits"
        left = self._arm.outside(positions[int(np.argmax(self._depth(positions)))], SAG)
        if left:
            return f"the arm left its workspace: {left}"
        _, velocity = seen.speeds(SPAN)
        error = self._over(velocity, MEASURED_SPEED * self._velocity, "moved at")
        if error or not braking:
            return error
        _, change = self._changes(*seen.speeds(self._span))
        return self._over(change, CHANGE * self._acceleration, "changed its speed by")

    def setpoints(self, told: Trace, now: float, cut_off: bool, timely: bool = True) -> str:
        """Which promise its setpoints broke; empty where none. told: by their arrival; now: as far as is known [s];
        cut_off: they could not but end at speed; timely: they arrived as they were sent, so that changes of their speed
        are known."""
        if not len(told.times):
            return ""
        positions = told.positions
        outside = (positions < self._lower - ROUNDING) | (positions > self._upper + ROUNDING)
        if outside.any():
            return f"a setpoint of {self._name(outside)} is outside its position limits"
        left = self._arm.outside(positions[int(np.argmax(self._depth(positions)))], OUTSIDE)
        if left:
            return f"a setpoint left the workspace: {left}"
        pauses = np.flatnonzero(np.diff(told.times) > GAP) + 1
        ends = [0, *pauses, len(told.times)]
        over = now - told.times[-1] > GAP
        for first, last in zip(ends[:-1], ends[1:], strict=True):
            ended = last < len(told.times) or over
            error = self._motion(told[first:last], ended and not cut_off, timely)
            if error:
                return Late(error)    # it is judged by when setpoints came
        return ""

    def _motion(self, told: Trace, ended: bool, timely: bool) -> str:
        """Of setpoints without a gap; ended: none came after them for a while."""
        times, velocity = told.speeds(self._span)
        if not len(times):
            return ""
        most = (SPEED if timely else self._untimely) * self._velocity
        error = self._over(velocity, most, "was told to move at")
        if not error and timely:
            middles, change = self._changes(times, velocity)
            sound = self._in_time(told, middles)
            error = self._over(change[sound], CHANGE * self._acceleration, "was told to change its speed by")
        if error or not ended:
            return error
        return self._over(velocity[-1:], LAST * self._velocity, "was given its last setpoint at")

    def _in_time(self, told: Trace, middles: np.ndarray) -> np.ndarray:
        """Around which of some times (N,) no setpoint was late (N,)."""
        late = told.times[1:][np.diff(told.times) > self._late]
        reach = 1.5 * self._span    # what a change of speed is made of reaches one span far; what was late came before
        return np.searchsorted(late, middles - reach) == np.searchsorted(late, middles + reach)

    def _changes(self, times: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean accelerations (N, J) over the span, of velocities (M, J) at times (M,), and their own times (N,)."""
        later = np.searchsorted(times, times + self._span)
        inside = later < len(times)
        first, last = np.flatnonzero(inside), later[inside]
        change = (velocity[last] - velocity[first]) / (times[last] - times[first])[:, None]
        return (times[last] + times[first]) / 2, change

    def _over(self, values: np.ndarray, limits: np.ndarray, what: str) -> str:
        worst = np.abs(values).max(axis=0, initial=0.0) / limits
        joint = int(np.argmax(worst))
        if worst[joint] <= 1:
            return ""
        value = np.abs(values[:, joint]).max()
        return f"{self._arm.joints[joint]} {what} {value:.2f} per second; {limits[joint]:.2f} is allowed"

    def _name(self, outside: np.ndarray) -> str:
        return self._arm.joints[int(np.argmax(outside.any(axis=0)))]

    def _depth(self, positions: np.ndarray) -> np.ndarray:
        return self._arm.depths(positions).max(axis=-1, initial=0.0)
