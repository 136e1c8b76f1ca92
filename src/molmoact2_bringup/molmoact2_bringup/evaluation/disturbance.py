# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What may be wrong with cameras while a policy is judged. The world itself stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from molmoact2_contract import Contract, System

from ..faults.relay import JOINTS, Relays, remap
from ..faults.spoil import pixels, with_pixels

NONE, DARK, NOISE, SHIFT, BLACKOUT = "none", "dark", "noise", "shift", "blackout"
KINDS = {
    NONE: "as they are",
    DARK: "all cameras get half of the light",
    NOISE: "all cameras get noise of 12 of 255",
    SHIFT: "the main camera is off by an eightieth of its width, as if it was knocked",
    BLACKOUT: "the main camera is black from the second to the third second",
}
LIGHT, DEVIATION, OFF = 0.5, 12.0, 80
BLACK = (1.0, 2.0)    # [s] of the attempt


class Disturbance:
    """Of one attempt. kind: one of KINDS; main: name of the main camera; seed: of noise and of the direction."""

    def __init__(self, kind: str, main: str, seed: int):
        self._kind, self._main, self._random = kind, main, np.random.default_rng(seed)
        self._angle = float(self._random.uniform(0, 2 * np.pi))

    def __call__(self, camera: str, image: np.ndarray, seconds: float) -> np.ndarray:
        """uint8 (H, W, 3), as the policy gets it. seconds: since the attempt began."""
        if self._kind == DARK:
            return (image * LIGHT).astype(np.uint8)
        if self._kind == NOISE:
            noise = self._random.normal(0, DEVIATION, image.shape)
            return np.clip(image + noise, 0, 255).astype(np.uint8)
        if camera == self._main and self._kind == SHIFT:
            return _shifted(image, image.shape[1] / OFF, self._angle)
        if camera == self._main and self._kind == BLACKOUT and BLACK[0] <= seconds < BLACK[1]:
            return np.zeros_like(image)
        return image


def _shifted(image: np.ndarray, by: float, angle: float) -> np.ndarray:
    """What comes into view repeats the border."""
    down, right = round(by * np.sin(angle)), round(by * np.cos(angle))
    rows = np.clip(np.arange(image.shape[0]) + down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) + right, 0, image.shape[1] - 1)
    return image[rows][:, columns]


# --- in a running system ----------------------------------------------------------------------------------------------
def relayed(system: System) -> System:
    """The same with a policy that reads cameras behind relays."""
    topics = {topic: other for topic, other in remap(system.contract).items() if topic != JOINTS}
    return replace(system, processes=tuple(
        replace(process, remap={**process.remap, **topics}) if process.name == "policy" else process
        for process in system.processes
    ))    # fmt: skip


class DisturbedCameras:
    """Relays on a node that another thread spins. main: name of the main camera."""

    def __init__(self, node: Node, contract: Contract, main: str):
        self._relays, self._main = Relays(node, contract), main
        self._cameras, self._now = contract.cameras, node.get_clock().now

    def begin(self, kind: str, seed: int) -> None:
        """From now on, as an attempt begins."""
        disturbance, began = Disturbance(kind, self._main, seed), self._now().nanoseconds / 1e9
        for camera in self._cameras.values():
            self._relays.spoil(camera.topic, _spoiling(disturbance, camera.name, began))


def _spoiling(disturbance: Disturbance, camera: str, began: float) -> Callable[[Image], list[Image]]:
    def spoil(image: Image) -> list[Image]:
        seconds = image.header.stamp.sec + image.header.stamp.nanosec / 1e9 - began
        return [with_pixels(image, disturbance(camera, pixels(image), seconds))]

    return spoil
