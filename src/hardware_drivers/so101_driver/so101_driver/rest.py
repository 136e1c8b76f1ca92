# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where an SO-100 or SO-101 may lose its torque: at its rest pose, where it lies on itself. Anywhere else it falls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .calibration import GRIPPER
from .identify import ArmError

AT_REST = 0.15    # [rad]; so near to its rest pose an arm may lose its torque


def must_rest(motors: Sequence[str], positions: np.ndarray, rest: np.ndarray) -> None:
    """positions, rest: of the motors (J,), ROS units; the gripper's may be any. Errors: ArmError where the arm would
    fall."""
    off = np.abs(positions - rest)
    off[[motor == GRIPPER for motor in motors]] = 0.0
    if (off > AT_REST).any():
        joint = int(np.argmax(off))
        raise ArmError(
            f"{motors[joint]} is {off[joint]:.2f} rad from its rest pose, and the arm would fall: "
            "park it first, or support it with a hand and ask for --limp"
        )
