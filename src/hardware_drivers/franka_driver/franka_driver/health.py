# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot reports of its health, made of the states that come anyway. A Franka tells no temperatures."""

from __future__ import annotations

import time

import numpy as np

from arm_controller.driver import Reading

from . import words


class HealthRecord:
    """rate: share of commands in time, None while none are sent. new_at: steady time of the newest state [s]. torques:
    on each joint from outside, as the robot estimates them, (7,) [Nm]."""

    def __init__(self, least_rate: float, silent_after: float):
        self._least_rate, self._silent_after = least_rate, silent_after
        self.rate: float | None = None
        self.new_at = 0.0
        self.torques: np.ndarray | None = None
        self._reflexes = self._failures = 0
        self._reflex_at = 0.0

    def failed(self, text: str) -> None:
        """What the driver has latched, in words."""
        self._failures += 1
        if words.tells_reflex(text):
            self._reflexes, self._reflex_at = self._reflexes + 1, time.monotonic()

    def readings(self) -> list[Reading]:
        now, told = time.monotonic(), []
        if self.rate is not None:
            least = 100 * self._least_rate
            bounds = ((100 + least) / 2, least) if least else (None, None)
            told.append(Reading("commands in time", 100 * self.rate, "%", *bounds))
        if self.new_at:
            told.append(Reading("age of state", 1000 * (now - self.new_at), "ms", None, 1000 * self._silent_after))
        if self.torques is not None:
            told += [Reading(f"joint {i} torque from outside", abs(t), "N m") for i, t in enumerate(self.torques, 1)]
        told += [Reading("reflexes", self._reflexes, ""), Reading("failures", self._failures, "")]
        if self._reflexes:
            told.append(Reading("time since the last reflex", now - self._reflex_at, "s"))
        return told
