# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to look at: a swing of the SO-101, and a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_robot import time_of

from molmoact2_contract import load_contract
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, ReasoningTrace

CONTRACT = load_contract(Path(__file__).parents[3] / "config/embodiments/so101.yaml")
ARM = CONTRACT.arm("arm")
HOME = CONTRACT.values("home", ARM.joints)
START, DT = 1_700_000_000_000_000_000, 0.05


def chunk(number: int = 1, stamp: int = START, horizon: int = 20, **changed) -> ActionChunk:
    """The gripper swings from home to the left, the faster the higher the number."""
    positions = np.tile(HOME, (horizon, 1))
    positions[:, 0] += number * 0.01 * np.arange(horizon)
    message = ActionChunk(chunk_id=number, episode_id="e", dt=DT, first_offset=1.0, horizon=horizon)
    message.header.stamp = time_of(stamp)
    message.joint_names, message.positions = list(ARM.joints), positions.ravel().tolist()
    for name, value in changed.items():
        setattr(message, name, value)
    return message


def status(number: int, **changed) -> ControllerStatus:
    return ControllerStatus(chunk_id=number, episode_id="e", state=ControllerStatus.FOLLOWING, **changed)


def trace(**changed) -> ReasoningTrace:
    """Ten rows of codes; the first row generated anew, the last least sure."""
    message = ReasoningTrace(depth_mode=ReasoningTrace.DEPTH_ADAPTIVE, grid_rows=10, grid_cols=10)
    message.codes = list(range(100))
    message.refreshed = [cell < 10 for cell in range(100)]
    message.cell_ages = [0 if cell < 10 else 1 + cell // 10 for cell in range(100)]
    message.code_probs = [0.2 if cell >= 90 else 1.0 for cell in range(100)]
    for name, value in changed.items():
        setattr(message, name, value)
    return message
