# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A node that hands what the visualizer and the cameras publish to a scene."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from molmoact2_contract import Contract
from molmoact2_contract.qos import LATCHED, SENSOR_SUBSCRIBE, STATUS, TF, TRACE, VIEW
from molmoact2_msgs.msg import ControllerStatus, PolicyStatus, ReasoningTrace

from ..ingest import ObservationError, read_image, stamp_ns
from .scene import DEPTH, OVERLAY, ROBOT, Scene


class SceneNode(Node):
    """rate: of pictures and frames of each topic at most [1/s]."""

    def __init__(self, contract: Contract, scene: Scene, rate: float):
        super().__init__("browser_view")
        self._scene, self._period = scene, 1.0 / rate
        self._last: dict[str, float] = {}
        subscribe = self.create_subscription
        for name, camera in contract.cameras.items():
            kind = CompressedImage if camera.transport == "compressed" else Image
            show = partial(self._on_camera, name, camera.transport)
            subscribe(kind, camera.topic, self._seldom(camera.topic, show), SENSOR_SUBSCRIBE)
        for topic, entity in (("policy/depth/refreshed", OVERLAY), ("policy/depth/image", DEPTH)):
            subscribe(Image, topic, partial(self._on_picture, entity), VIEW)
        subscribe(PointCloud2, "policy/depth/points", partial(scene.points, metric=True), VIEW)
        subscribe(PointCloud2, "policy/depth/points_relative", partial(scene.points, metric=False), VIEW)
        subscribe(MarkerArray, "policy/path", self._on_path, VIEW)
        subscribe(TFMessage, "/tf", self._seldom("/tf", partial(self._on_frames, fixed=False)), TF)
        subscribe(TFMessage, "/tf_static", partial(self._on_frames, fixed=True), LATCHED)
        subscribe(ReasoningTrace, "policy/reasoning_trace", scene.trace, TRACE)
        subscribe(PolicyStatus, "policy/status", self._on_policy, STATUS)
        for arm in contract.arms:
            subscribe(ControllerStatus, f"{arm}/status", partial(self._on_arm, arm), STATUS)
            subscribe(String, f"{arm}/robot_description", partial(self._on_robot, arm), LATCHED)
        subscribe(String, "robot_description", partial(self._on_robot, ROBOT), LATCHED)

    def _seldom(self, topic: str, show: Callable[[Any], None]) -> Callable[[Any], None]:
        def call(message: Any) -> None:
            now = time.monotonic()
            if now - self._last.get(topic, 0.0) >= self._period:
                self._last[topic] = now
                show(message)

        return call

    def _on_camera(self, name: str, transport: str, message: Image | CompressedImage) -> None:
        try:
            pixels = read_image(name, transport, message)
        except ObservationError as error:    # the policy refuses it too
            self._scene.tell(stamp_ns(message), f"camera {name}", str(error))
            return
        self._scene.camera(name, stamp_ns(message), pixels)

    def _on_picture(self, entity: str, message: Image) -> None:
        self._scene.picture(entity, stamp_ns(message), read_image(entity, "raw", message))

    def _on_path(self, message: MarkerArray) -> None:
        self._scene.markers(message.markers)

    def _on_frames(self, message: TFMessage, fixed: bool) -> None:
        self._scene.transforms(message.transforms, fixed)

    def _on_policy(self, message: PolicyStatus) -> None:
        words = f"no chunks: {message.withheld}" if message.withheld else "sends chunks"
        self._scene.tell(stamp_ns(message), "policy", words)

    def _on_arm(self, arm: str, message: ControllerStatus) -> None:
        following = message.state == ControllerStatus.FOLLOWING
        self._scene.tell(stamp_ns(message), arm, message.fault_text or ("following" if following else message.reason))

    def _on_robot(self, arm: str, message: String) -> None:
        try:
            self._scene.robot(message.data, arm)
        except Exception as error:    # of the viewer's own reader; everything else is shown
            self.get_logger().warning(f"the robot's model cannot be shown: {error}")
