# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The motion of the campaign's scripted policy in the simulated world: a sway about home."""

from __future__ import annotations

import math
import time

import numpy as np

from molmoact2_contract import Contract
from molmoact2_policy.scripted.policy import Plan

SWAY, TURN = 0.45, 2.4    # amplitude [rad], angular frequency [rad/s]: fast enough for a stop at speed to show
# By joint: its share of the amplitude, and its phase [rad]; some joint moves at any time.
PARTS = {0: (1.0, 0.0), 1: (0.4, math.pi / 2), 4: (1.0, math.pi / 2)}


def swaying(contract: Contract) -> Plan:
    """Some joints sway about home, from now on."""
    began, home = time.time(), contract.values("home")

    def plan(times: np.ndarray) -> np.ndarray:
        table = np.tile(home, (len(times), 1))
        for joint, (share, phase) in PARTS.items():
            table[:, joint] += share * SWAY * np.sin(TURN * (times - began) + phase)
        return table

    return plan
