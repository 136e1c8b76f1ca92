# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A robot that publishes what a running system does, and hears the visualizer."""

import threading
import time
from collections import defaultdict
from functools import partial

import numpy as np
import rclpy
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2
from sides import Side
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from tiny_robot import compressed, image, joint_state, time_of
from view_samples import ARM, HOME, chunk, status, trace
from visualization_msgs.msg import MarkerArray

from molmoact2_contract.qos import CHUNK, LATCHED, SENSOR_PUBLISH, STATUS, TF, TRACE, VIEW
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, InputStamp, PolicyStatus, ReasoningTrace
from molmoact2_policy.view.node import VisualizerNode

DOMAIN = 96
PATIENCE = 30.0    # seconds; only a failing test waits that long
OUTPUTS = {
    "policy/depth/image": (Image, VIEW),
    "policy/depth/image_mono": (Image, VIEW),
    "policy/depth/image_metres": (Image, VIEW),
    "policy/depth/refreshed": (Image, VIEW),
    "policy/depth/points": (PointCloud2, VIEW),
    "policy/depth/points_relative": (PointCloud2, VIEW),
    "policy/path": (MarkerArray, VIEW),
    "robot_description": (String, LATCHED),
    "/tf": (TFMessage, TF),
    "/tf_static": (TFMessage, LATCHED),
}


class Robot:
    """Publishes image, state, chunk and trace of one moment, ten times a second; hears the visualizer."""

    def __init__(self):
        self._sides = [Side(DOMAIN, lambda context: rclpy.create_node("robot", context=context))]
        self.node = self._sides[0].node
        self.heard: dict[str, list] = defaultdict(list)
        self.sent: dict[int, np.ndarray] = {}
        self._news = threading.Condition()
        self.checkpoint, self.order, self.image_late_ns, self.changed = "", "image first", 0, {}
        self.transport, self.calibrated, self.bad = "raw", True, ()
        create = self.node.create_publisher
        self._images = create(Image, "front/image_raw", SENSOR_PUBLISH)
        self._compressed = create(CompressedImage, "front/compressed", SENSOR_PUBLISH)
        self._infos = create(CameraInfo, "front/camera_info", SENSOR_PUBLISH)
        self._joints = create(JointState, "joint_states", SENSOR_PUBLISH)
        self._traces = create(ReasoningTrace, "policy/reasoning_trace", TRACE)
        self._chunks = create(ActionChunk, "policy/action_chunk", CHUNK)
        self._policy = create(PolicyStatus, "policy/status", STATUS)
        self._status = create(ControllerStatus, "arm/status", STATUS)
        self._listeners: dict = {}
        self._frame = 0
        self.node.create_timer(0.1, self._publish)

    def start(self, **parameters) -> VisualizerNode:
        given = [Parameter(name, value=value) for name, value in {"contract": "so101", **parameters}.items()]
        side = Side(DOMAIN, lambda context: VisualizerNode(context=context, parameter_overrides=given))
        self._sides.append(side)
        return side.node

    def beside(self, name: str):
        """Another node in the graph."""
        self._sides.append(Side(DOMAIN, lambda context: rclpy.create_node(name, context=context)))
        return self._sides[-1].node

    def leave(self, node) -> None:
        side = next(side for side in self._sides if side.node is node)
        self._sides.remove(side)
        side.close()

    def listen(self, *topics: str) -> None:
        for topic in topics or OUTPUTS:
            kind, profile = OUTPUTS[topic]
            keep = partial(self._keep, topic)
            self._listeners[topic] = self.node.create_subscription(kind, topic, keep, profile)

    def stop_listening(self, topic: str) -> None:
        self.node.destroy_subscription(self._listeners.pop(topic))

    def _keep(self, topic: str, message) -> None:
        with self._news:
            self.heard[topic].append(message)
            self._news.notify_all()

    def _publish(self) -> None:
        self._frame += 1
        now = self.node.get_clock().now().nanoseconds
        said = {"norm_tag": "so101_sim_molmoact2_tiny", "checkpoint": self.checkpoint}
        self._policy.publish(PolicyStatus(depth_mode=ReasoningTrace.DEPTH_ADAPTIVE, **said))
        self._joints.publish(joint_state_at_home(now))
        self._info(now)
        self._chunks.publish(chunk(1 + self._frame % 5, now, chunk_id=self._frame))
        self._status.publish(status(self._frame, acceptance_latency=0.1))
        rgb = np.full((48, 64, 3), self._frame * 7 % 200, np.uint8)
        self.sent[now] = rgb
        if self.order == "trace late":
            self._trace(sorted(self.sent)[-2:][0])    # that of the period before
        elif self.order == "trace first":
            self._trace(now)
        self._image(rgb, now)
        if self.order == "image first":
            self._trace(now)
        for publisher, message in self.bad:
            getattr(self, publisher).publish(message)

    def _image(self, rgb: np.ndarray, now: int) -> None:
        stamp = now + self.image_late_ns
        if self.transport == "compressed":
            self._compressed.publish(compressed(rgb, stamp))
        else:
            self._images.publish(image(rgb, stamp, frame_id="front_optical_frame"))

    def _info(self, now: int) -> None:
        info = CameraInfo(width=64, height=48, distortion_model="plumb_bob", d=[0.0] * 5)
        if self.calibrated:
            info.k = [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]
        info.header.stamp, info.header.frame_id = time_of(now), "front_optical_frame"
        self._infos.publish(info)

    def _trace(self, now: int) -> None:
        topic = "/front/compressed" if self.transport == "compressed" else "/front/image_raw"
        message = trace(instruction="wave", chunk_id=self._frame, **self.changed)
        message.header.stamp, message.header.frame_id = time_of(now), "front_optical_frame"
        message.inputs = [InputStamp(topic=topic, stamp=time_of(now))]
        self._traces.publish(message)

    def wait(self, condition):
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), {topic: len(m) for topic, m in self.heard.items()}
            return condition()

    def next(self, topic: str, condition=lambda message: True, count: int = 1):
        """The count-th message heard from now on for which the condition holds."""
        start = len(self.heard[topic])
        return self.wait(lambda: dict(enumerate(m for m in self.heard[topic][start:] if condition(m))).get(count - 1))

    def until(self, condition) -> None:
        """Waits for something of the graph, which tells of no changes."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the graph did not change"
            time.sleep(0.05)

    def publishers(self, topic: str) -> set[str]:
        return {info.node_name for info in self.node.get_publishers_info_by_topic(topic)}

    def close(self) -> None:
        for side in reversed(self._sides):
            side.close()


def joint_state_at_home(now: int) -> JointState:
    return joint_state(now, names=ARM.joints, **dict(zip(ARM.joints, HOME, strict=True)))
