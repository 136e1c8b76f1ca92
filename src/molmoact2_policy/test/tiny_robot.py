# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A robot for the golden checkpoint: its contract, and messages as its cameras and controllers send them."""

from __future__ import annotations

import array
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from cv_bridge import CvBridge
from sensor_msgs.msg import CompressedImage, Image, JointState

from molmoact2_contract import load_contract
from molmoact2_policy.backend import Settings

HERE = Path(__file__).parent
EMBODIMENTS = HERE.parents[2] / "config/embodiments"
CHECKPOINT = HERE.parents[1] / "molmoact2_model/test/golden/tiny/checkpoint"
CONTRACT = load_contract(HERE / "tiny_arm.yaml")
TAG = CONTRACT.norm_tag("tiny_arm")
SETTINGS = Settings(str(CHECKPOINT), TAG.name, depth="adaptive", num_steps=2)
JOINTS = CONTRACT.joint_names
LOWER, UPPER = (CONTRACT.arm(name).joints for name in ("lower", "upper"))
POSITIONS = dict(zip(JOINTS, (0.1, 0.2, 0.3, 0.4, -0.5, -0.6, 0.7), strict=True))
SECOND = 1_000_000_000


def time_of(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)


def picture(seed: int = 0, height: int = 60, width: int = 80) -> np.ndarray:
    """uint8 (height, width, 3) RGB, every pixel different from its neighbours."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image(rgb: np.ndarray, stamp_ns: int, encoding: str = "rgb8", frame_id: str = "top_optical_frame") -> Image:
    message = Image(height=rgb.shape[0], width=rgb.shape[1], encoding=encoding, step=rgb.strides[0])
    message.header.stamp, message.header.frame_id = time_of(stamp_ns), frame_id
    message.data = array.array("B", rgb.tobytes())
    return message


def compressed(rgb: np.ndarray, stamp_ns: int) -> CompressedImage:
    message = CvBridge().cv2_to_compressed_imgmsg(np.ascontiguousarray(rgb[:, :, ::-1]), "png")
    message.header.stamp, message.header.frame_id = time_of(stamp_ns), "wrist_optical_frame"
    return message


def joint_state(stamp_ns: int, names=JOINTS, **changed: float) -> JointState:
    """Joints in the order of `names`; single positions may be given by name."""
    message = JointState(name=list(names), position=[{**POSITIONS, **changed}[name] for name in names])
    message.header.stamp = time_of(stamp_ns)
    return message
