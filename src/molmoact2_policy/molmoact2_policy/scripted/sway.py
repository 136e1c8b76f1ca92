# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The motion: some joints of each arm sway about a pose, to which the arms come slowly from wherever they are. No ROS
here."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from molmoact2_contract import Arm, Contract

TURN, FASTEST = 2.0, 0.5     # angular frequency [rad/s]; share of the velocity limits that the sway reaches
MOST = 0.45          # amplitude [rad] at most
COMING = 0.2         # share of the velocity limits at which the arms come to the sway
SHORTEST = 1.0       # [s] that coming takes
# By joint of an arm: its share of the amplitude, and its phase [rad]; some joint moves at any time.
PARTS: Mapping[int, tuple[float, float]] = {0: (1.0, 0.0), 1: (0.4, math.pi / 2), 4: (1.0, math.pi / 2)}


class Sway:
    """about: the pose (J,) in the contract's joint order; None: home. fastest: share of the velocity limits that it
    reaches; turn: its angular frequency [rad/s]. Times are of ROS [s]."""

    def __init__(
        self, contract: Contract, about: np.ndarray | None = None, fastest: float = FASTEST, turn: float = TURN
    ):
        self._fastest, self._turn = fastest, turn
        self._lower, self._upper = contract.values("lower"), contract.values("upper")
        self._velocity = contract.values("velocity")
        self._pose = contract.values("home") if about is None else np.asarray(about, dtype=np.float64)
        if self._pose.shape != self._lower.shape or ((self._pose < self._lower) | (self._pose > self._upper)).any():
            count = len(self._lower)
            raise ValueError(f"a sway about {self._pose}: {count} joints within the contract's limits are needed")
        self._amplitude, self._phase = self._figure(contract, contract.values("soft_zone"))
        self._from, self._since, self._takes = self._pose.copy(), -math.inf, SHORTEST

    def _figure(self, contract: Contract, soft: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        amplitude, phase = np.zeros(len(self._pose)), np.zeros(len(self._pose))
        room = np.minimum(self._pose - self._lower, self._upper - self._pose) - soft
        for arm in contract.arms.values():
            for place, (share, at) in PARTS.items():
                joint = self._place(contract, arm, place)
                most = min(MOST, self._fastest * self._velocity[joint] / self._turn)
                amplitude[joint], phase[joint] = max(0.0, min(share * most, room[joint])), at
        return amplitude, phase

    @staticmethod
    def _place(contract: Contract, arm: Arm, place: int) -> int:
        return contract.joint_names.index(arm.joints[place])

    def begin(self, measured: np.ndarray, now: float) -> None:
        """The arms are at rest at a pose (J,): from there the motion comes to the sway. Joints that are not known (NaN)
        are taken to be on it."""
        target = self._target(np.array([now]))[0]
        self._from = np.where(np.isfinite(measured), measured, target)
        self._since = now
        # The curve from one to the other is steepest in its middle, by half.
        self._takes = max(SHORTEST, 1.5 * float((np.abs(self._from - target) / (COMING * self._velocity)).max()))

    def plan(self, times: np.ndarray) -> np.ndarray:
        """Joint targets at times (H,): (H, J)."""
        done = np.clip((times - self._since) / self._takes, 0.0, 1.0)
        share = (done * done * (3.0 - 2.0 * done))[:, None]
        table = self._from + share * (self._target(times) - self._from)
        return np.clip(table, self._lower, self._upper)

    def _target(self, times: np.ndarray) -> np.ndarray:
        return self._pose + self._amplitude * np.sin(self._turn * times[:, None] + self._phase)
