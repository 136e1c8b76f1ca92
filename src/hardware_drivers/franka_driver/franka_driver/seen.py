# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot tells of itself, whichever library it came through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Seen:
    """A state as the robot told it. device_ms: its own time; at: steady [s]; stamp_ns: ROS [ns]; positions (7,) [rad];
    torques (7,) from outside [Nm]; mode: of libfranka's RobotMode, without the k; errors: as libfranka prints them;
    rate: share of commands in time."""

    device_ms: int
    at: float
    stamp_ns: int
    positions: np.ndarray
    torques: np.ndarray
    mode: str
    errors: str
    rate: float
