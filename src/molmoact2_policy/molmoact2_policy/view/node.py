# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `visualizer`: traces and chunks as pictures, points, paths and frames. It only listens and shows.

Nobody waits for it: it works on the newest message of each topic, makes nothing that nobody subscribes to, does not
even receive images and joint states unless someone looks, and what it cannot show it logs and leaves out.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2
from std_msgs.msg import Header, String
from visualization_msgs.msg import MarkerArray

from molmoact2_contract import Camera, ContractError
from molmoact2_contract.qos import CHUNK, LATCHED, SENSOR_SUBSCRIBE, STATUS, VIEW
from molmoact2_model import ModelError
from molmoact2_model.depth import METRES, DepthMap
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace

from ..ingest import read_image, stamp_ns
from ..running import run_node
from . import depth_views
from .broadcast import FrameBroadcaster
from .captions import captions
from .decoders import Decoders
from .depth_views import Intrinsics
from .draw import readable
from .frames import RobotFrames
from .images import ImageStore
from .markers import plan_markers, text_marker
from .messages import COLOUR, GREY, cloud_message, image_message
from .messages import METRES as FLOATS
from .options import options_of
from .overlay import overlay
from .plans import ArmPlans
from .robot_model import load_models

CELL = 32            # pixels of a cell where the camera's size is not known
PATH_PERIOD = 0.1    # between pictures of the path [s]
WATCH_PERIOD = 0.5   # between looks at who subscribes and who publishes frames [s]


class VisualizerNode(Node):
    """Errors on construction: ContractError, molmoact2_model.CheckpointError, for parameters that cannot be used."""

    def __init__(self, **options: Any):
        super().__init__("visualizer", **options)

        wanted = options_of(self)
        self.contract, self._display, self._joint_topic = wanted.contract, wanted.display, wanted.joint_topic
        self._decoders = Decoders(wanted.depth_decoder)
        self._models = load_models(self.contract, wanted.urdf, self.get_logger().warning)
        self.broadcaster = FrameBroadcaster(self, RobotFrames(self.contract, self._models), wanted.publish_tf)
        blend = self.contract.blend_window
        self._plans = {name: ArmPlans(arm, blend) for name, arm in self.contract.arms.items() if arm.kinematics}
        self._base = next(iter(self.contract.arms.values())).base_frame
        self._images = ImageStore()
        self._camera: Camera | None = None
        self._parts: dict[str, Subscription] = {}    # to what comes often
        self._info: CameraInfo | None = None
        self._trace: ReasoningTrace | None = None
        self._overlaid = True                      # nothing waits for its image
        self._statuses: dict[str, ControllerStatus] = {}
        self._positions: dict[str, float] = {}
        self._joint_stamp: Any = None
        self._create_publishers()
        self._subscribe()
        self.create_timer(1.0 / wanted.rate, self._safely(self._show_frames))
        self.create_timer(PATH_PERIOD, self._safely(self._show_path))
        self.create_timer(WATCH_PERIOD, self._safely(self._look_around))

    def _create_publishers(self) -> None:
        publisher = self.create_publisher
        self._depth_image = publisher(Image, "policy/depth/image", VIEW)
        self._depth_grey = publisher(Image, "policy/depth/image_mono", VIEW)
        self._depth_metres = publisher(Image, "policy/depth/image_metres", VIEW)
        self._refreshed = publisher(Image, "policy/depth/refreshed", VIEW)
        self._points = publisher(PointCloud2, "policy/depth/points", VIEW)
        self._relative_points = publisher(PointCloud2, "policy/depth/points_relative", VIEW)
        self._of_depth = (
            self._depth_image, self._depth_grey, self._depth_metres, self._points, self._relative_points
        )
        self._path = publisher(MarkerArray, "policy/path", VIEW)
        self._descriptions = {}
        for name, model in self._models.items():
            topic = "robot_description" if len(self._models) == 1 else f"{name}/robot_description"
            self._descriptions[name] = publisher(String, topic, LATCHED)
            self._descriptions[name].publish(String(data=model.description))

    def _subscribe(self) -> None:
        subscribe, safely = self.create_subscription, self._safely
        subscribe(PolicyStatus, "policy/status", safely(self._on_policy), STATUS)
        subscribe(ReasoningTrace, "policy/reasoning_trace", safely(self._on_trace), CHUNK)
        subscribe(ActionChunk, "policy/action_chunk", safely(self._on_chunk), CHUNK)
        for arm in self.contract.arms:
            subscribe(ControllerStatus, f"{arm}/status", safely(partial(self._on_status, arm)), STATUS)

    def _safely(self, function: Callable[..., None]) -> Callable[..., None]:
        """A display that fails is logged and goes on with the next message."""

        def call(*arguments: Any) -> None:
            try:
                function(*arguments)
            except (ModelError, ValueError) as error:
                self.get_logger().warning(f"not shown: {error}", throttle_duration_sec=5.0)
            except Exception as error:
                self.get_logger().error(f"not shown, an error of the visualizer: {error!r}", throttle_duration_sec=5.0)

        return call

    # --- what comes ---------------------------------------------------------------------------------------------------
    def _on_policy(self, status: PolicyStatus) -> None:
        problem = self._decoders.use(status.checkpoint) if status.depth_mode != ReasoningTrace.DEPTH_OFF else ""
        if problem:
            self.get_logger().error(f"depth is shown by code index: {problem}")
        if not status.norm_tag:
            return    # the policy is not configured yet
        main = self.contract.norm_tag(status.norm_tag).cameras[0]
        if self._camera is None or self._camera.name != main:
            self._look_through(self.contract.cameras[main])

    def _look_through(self, camera: Camera) -> None:
        """The main camera is known, or is another one now."""
        self._camera, self._info = camera, None
        for name in ("image", "info"):
            self._receive(name, False)
        self._follow_viewers()

    def _on_info(self, info: CameraInfo) -> None:
        self._info = info

    def _on_trace(self, trace: ReasoningTrace) -> None:
        self._trace, self._overlaid = trace, False
        self._images.drop_before(stamp_ns(trace))    # traces come in the order of their stamps
        self._safely(self._show_refreshed)()
        self._safely(self._show_depth)(trace)

    def _on_image(self, data: bytes) -> None:
        stamp = self._images.put(data)
        if not self._overlaid and self._trace is not None and stamp == stamp_ns(self._trace):
            self._show_refreshed()

    def _on_chunk(self, chunk: ActionChunk) -> None:
        for plans in self._plans.values():
            self._safely(plans.take_chunk)(chunk)

    def _on_status(self, arm: str, status: ControllerStatus) -> None:
        self._statuses[arm] = status
        if arm in self._plans:
            self._plans[arm].take_status(status)

    def _on_joints(self, message: JointState) -> None:
        for name, position in zip(message.name, message.position, strict=True):
            if name in self.contract.joints and math.isfinite(position):
                self._positions[name] = position
        self._joint_stamp = message.header.stamp

    # --- what is shown ------------------------------------------------------------------------------------------------
    def _show_refreshed(self) -> None:
        """The overlay of the newest trace, once, when the image of exactly its stamp is there."""
        trace, camera = self._trace, self._camera
        if trace is None or camera is None or not watched(self._refreshed):
            return
        if trace.inputs and trace.inputs[0].topic != self.resolve_topic_name(camera.topic):
            return
        data = self._images.get(stamp_ns(trace))
        if data is None:
            return
        message = deserialize_message(data, CompressedImage if camera.transport == "compressed" else Image)
        pixels = overlay(read_image(camera.topic, camera.transport, message), trace)
        self._refreshed.publish(image_message(pixels, COLOUR, trace.header))
        self._overlaid = True

    def _show_depth(self, trace: ReasoningTrace) -> None:
        if not any(watched(publisher) for publisher in self._of_depth):
            return
        depth = self._decoders.decode(trace)
        if depth is None:
            return
        info = self._info
        size = (trace.grid_cols * CELL, trace.grid_rows * CELL)
        if info is not None and info.width and info.height:
            size = info.width, info.height
        if watched(self._depth_image):
            pixels = depth_views.colour(depth, readable(size))
            self._depth_image.publish(image_message(pixels, COLOUR, trace.header))
        if watched(self._depth_grey):
            self._depth_grey.publish(image_message(depth_views.grey(depth, size), GREY, trace.header))
        if depth.unit == METRES and watched(self._depth_metres):
            self._depth_metres.publish(image_message(depth_views.resized(depth.values, size), FLOATS, trace.header))
        self._show_points(depth, trace.header)

    def _show_points(self, depth: DepthMap, header: Header) -> None:
        """Only metres are published as such; everything else goes to the topic that says it is relative."""
        publisher = self._points if depth.unit == METRES else self._relative_points
        info = self._info
        if info is None or not watched(publisher):
            return
        camera = Intrinsics.of(info.width, info.height, info.k, info.d, info.distortion_model)
        publisher.publish(cloud_message(*depth_views.points(depth, camera, self._display), header))

    def _show_frames(self) -> None:
        if self._joint_stamp is not None:
            self.broadcaster.publish(self._positions, self._joint_stamp)
            self._joint_stamp = None

    def _show_path(self) -> None:
        if not watched(self._path):
            return
        now = self.get_clock().now().nanoseconds
        markers = [marker for plans in self._plans.values() for marker in plan_markers(plans, now)]
        lines = captions(self._trace, self._statuses, self._plans, self._decoders.source)
        self._path.publish(MarkerArray(markers=[*markers, text_marker(self._base, lines, now)]))

    # --- who looks, and who else publishes frames ---------------------------------------------------------------------
    def _look_around(self) -> None:
        self._follow_viewers()
        self.broadcaster.look()

    def _follow_viewers(self) -> None:
        """What comes often is received only while someone looks at what is made of it."""
        self._receive("joints", self.broadcaster.watched)
        if self._camera is not None:
            self._receive("image", watched(self._refreshed))
            self._receive("info", any(watched(publisher) for publisher in self._of_depth))

    def _receive(self, name: str, wanted: bool) -> None:
        part = self._parts.get(name)
        if wanted and part is None:
            self._parts[name] = self._subscription(name)
        elif not wanted and part is not None:
            self.destroy_subscription(self._parts.pop(name))
            if name == "image":
                self._images.clear()
            elif name == "joints":
                self._positions.clear()    # what is old then must not be shown as new

    def _subscription(self, name: str) -> Subscription:
        subscribe, camera = self.create_subscription, self._camera
        if name == "joints":
            return subscribe(JointState, self._joint_topic, self._safely(self._on_joints), SENSOR_SUBSCRIBE)
        assert camera is not None
        if name == "info":
            return subscribe(CameraInfo, camera.info_topic, self._safely(self._on_info), SENSOR_SUBSCRIBE)
        kind = CompressedImage if camera.transport == "compressed" else Image
        return subscribe(kind, camera.topic, self._safely(self._on_image), SENSOR_SUBSCRIBE, raw=True)


def watched(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0


def main() -> int:
    return run_node(VisualizerNode, "visualizer", (ContractError, ModelError, ParameterException))


if __name__ == "__main__":
    sys.exit(main())
