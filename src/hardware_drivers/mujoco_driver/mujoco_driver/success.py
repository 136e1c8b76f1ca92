# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which tests of success hold in a state of the simulated world."""

from __future__ import annotations

import numpy as np

from .scene import CUBE_HALF, Scene

LIFTED = 0.03    # [m] of a cube's centre above where it lies on the table


def success_tests(scene: Scene, qpos: np.ndarray) -> dict[str, bool]:
    """Each test in words, and whether it holds. qpos: float64, generalised positions of the scene's whole model."""
    heights = {cube: float(qpos[scene.model.joint(cube).qposadr[0] + 2]) for cube in scene.cubes}
    return {f"the {cube} cube is lifted": height >= CUBE_HALF + LIFTED for cube, height in heights.items()}
