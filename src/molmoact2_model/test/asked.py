# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Requests of the kinds of clients that `molmoact2 serve` has, for the golden checkpoint."""

import numpy as np
from golden_set import textured

STATE = np.linspace(-1, 1, 7, dtype=np.float32)
IMAGES = [textured(1, size=(64, 96)), textured(2, size=(48, 48))]


def host(**fields):
    """As a client of an existing server for one robot asks."""
    return {"top_cam": IMAGES[0], "wrist_cam": IMAGES[1], "instruction": "pick up the cube", "state": STATE, **fields}


def general(**fields):
    """As a client of the existing general server asks."""
    return {"images": [image.tolist() for image in IMAGES], "instruction": "pick up the cube",
            "state": STATE.tolist(), **fields}


def extended(number=1, session="robot", **extra):
    settings = {"depth": "adaptive"}
    entry = {"name": "molmoact2_act.v1", "request": str(number), "session": session, "settings": settings, "seed": 5}
    return {"images": IMAGES, "instruction": "pick up the cube", "state": STATE, "molmoact2": {**entry, **extra}}
