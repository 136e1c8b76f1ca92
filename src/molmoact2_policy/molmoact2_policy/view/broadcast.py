# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes a robot's frames on /tf and /tf_static, unless another node does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from tf2_msgs.msg import TFMessage

from molmoact2_contract.qos import LATCHED, TF

from .frames import RobotFrames, transform

STATE_PUBLISHER = "robot_state_publisher"
LISTEN_FOR = 2.0    # to a newly found publisher of frames, before ours are published beside its own [s]
PROFILES = {"/tf": TF, "/tf_static": LATCHED}
PUBLISH, LISTEN, REST = "publish", "listen", "rest"


class FrameWatch:
    """Decides whether frames are ours to publish.

    mode "true" and "false" settle it. "auto": not while a robot_state_publisher runs, nor while another publisher of
    frames gives one of ours; a publisher that appears is listened to first, and ours pause meanwhile.
    """

    def __init__(self, mode: str, ours: Iterable[str]):
        self._mode, self._ours = mode, set(ours)
        self._others: frozenset[str] | None = None
        self._since: float | None = None
        self._heard: set[str] = set()
        self.publishing, self.why = mode == "true", f"publish_tf is {mode}"

    @property
    def listening(self) -> bool:
        return self._since is not None

    def look(self, now: float, nodes: Iterable[str], others: frozenset[str]) -> None:
        """now: steady time [s]; nodes: names in the graph; others: the other publishers of frames."""
        if self._mode != "auto":
            return
        if STATE_PUBLISHER in nodes:
            self._settle(None, False, f"a {STATE_PUBLISHER} runs")
        elif not others:
            self._settle(frozenset(), True, "nobody else publishes frames")
        elif others != self._others:
            self._settle(others, False, "listening to another publisher of frames")
            self._since, self._heard = now, set()
        elif self._since is not None and now - self._since >= LISTEN_FOR:
            shared = sorted(self._heard & self._ours)
            theirs = f"{', '.join(sorted(others))} publishes {', '.join(shared)}"
            self._settle(others, not shared, theirs if shared else "others publish other frames")

    def _settle(self, others: frozenset[str] | None, publishing: bool, why: str) -> None:
        self._others, self._since, self.publishing, self.why = others, None, publishing, why

    def hear(self, children: Iterable[str]) -> None:
        """Frames that were received while ours paused."""
        self._heard.update(children)


class FrameBroadcaster:
    """The frames of one node. mode: see FrameWatch."""

    def __init__(self, node: Node, frames: RobotFrames, mode: str):
        self._node, self._frames, self._watch = node, frames, FrameWatch(mode, frames.children)
        self._role = ""
        self._moving: Publisher | None = None
        self._parts: list[Any] = []    # publishers while frames are ours, listeners before that is known

    @property
    def why(self) -> str:
        """Why frames are published or not, in words."""
        return self._watch.why

    @property
    def watched(self) -> bool:
        """Whether frames are ours, and somebody wants those that joints move."""
        return self._moving is not None and self._moving.get_subscription_count() > 0

    def publish(self, positions: Mapping[str, float], stamp: Time) -> None:
        """Publishes what joints move, where frames are ours. positions by joint name; stamp: of the joint state."""
        if self._moving is None:
            return
        frames = self._frames.moving(positions)
        if frames:
            self._moving.publish(TFMessage(transforms=[transform(frame, stamp) for frame in frames]))

    def look(self) -> None:
        """Looks at the graph, and changes its role where need be."""
        nodes = {name for name, _ in self._node.get_node_names_and_namespaces()}
        found = [info for topic in PROFILES for info in self._node.get_publishers_info_by_topic(topic)]
        names = {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in found}
        self._watch.look(time.monotonic(), nodes, frozenset(names - {self._node.get_fully_qualified_name()}))
        role = PUBLISH if self._watch.publishing else LISTEN if self._watch.listening else REST
        if role != self._role:
            self._node.get_logger().info(f"frames: {role} ({self._watch.why})")
            self._take(role)

    def _take(self, role: str) -> None:
        self._role, self._moving = role, None
        for part in self._parts:
            if isinstance(part, Publisher):
                self._node.destroy_publisher(part)
            else:
                self._node.destroy_subscription(part)
        self._parts = []
        if role == PUBLISH:
            create = self._node.create_publisher
            self._parts = [create(TFMessage, topic, profile) for topic, profile in PROFILES.items()]
            self._moving, fixed = self._parts
            stamp = self._node.get_clock().now().to_msg()
            fixed.publish(TFMessage(transforms=[transform(frame, stamp) for frame in self._frames.fixed]))
        elif role == LISTEN:
            hear = self._node.create_subscription
            self._parts = [hear(TFMessage, topic, self._hear, profile) for topic, profile in PROFILES.items()]

    def _hear(self, message: TFMessage) -> None:
        self._watch.hear(transform.child_frame_id for transform in message.transforms)
