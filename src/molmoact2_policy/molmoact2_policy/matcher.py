# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the newest consistent set of messages: one image per camera and the joint states around them."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import message_filters
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from molmoact2_contract import Contract, NormTag
from molmoact2_contract.qos import NEWEST_IMAGES, SENSOR_SUBSCRIBE

from .ingest import stamp_ns

IMAGE_QUEUE, JOINT_QUEUE = 10, 400
JUMP_NS = 1_000_000_000    # a stamp this much before the topic's newest one means that a clock was set back
NANOSECOND = 1e-9    # message_filters wants a difference less than its slop; the contract's limit itself is allowed


@dataclass(frozen=True)
class MessageSet:
    """Messages of one moment: images in the tag's camera order, and joint states (one per arm that publishes them)."""

    images: tuple[Any, ...]
    joint_states: tuple[JointState, ...]


class Matching:
    """Makes sets of the messages of the cameras of a norm tag and of joint states, live ones and recorded ones alike.

    Images are matched to each other by stamp, each in one set only, so that cameras which fire together stay together;
    to them, of each group of joints that is published together, the joint state nearest to the main image. wait() gives
    the newest set, each once. `stamps`: newest stamp of each topic [ns], -1 where nothing has come.
    """

    def __init__(self, contract: Contract, tag: NormTag, joint_topic: str):
        self._contract, self._joint_topic = contract, joint_topic
        self._limit_ns, self._gone_ns = int(contract.skew_limit * 1e9), int(contract.max_observation_age * 1e9)
        self._ready = threading.Condition()
        self._newest: MessageSet | None = None
        self._last_stamp = 0
        self._closed = False
        cameras = [contract.cameras[name] for name in tag.cameras]
        self.stamps = {camera.topic: -1 for camera in cameras} | {joint_topic: -1}
        self._cameras = {camera.topic: message_filters.SimpleFilter() for camera in cameras}
        self._recent: dict[tuple[str, ...], deque[tuple[int, JointState]]] = {}    # with their stamps [ns]
        self._waiting: tuple[Any, ...] | None = None
        self._together = message_filters.ApproximateTimeSynchronizer(
            list(self._cameras.values()), IMAGE_QUEUE, contract.skew_limit + NANOSECOND
        )
        self._together.registerCallback(self._on_images)

    def take(self, topic: str, message: Any) -> None:
        """A message on one of the topics, as it comes."""
        self._note(message, topic)
        if topic == self._joint_topic:
            self._on_joints(message)
        else:
            self._cameras[topic].signalMessage(message)

    def _note(self, message: Any, topic: str) -> None:
        """Sees every message before it is matched. What waits with stamps of a clock since set back would match nothing
        and block all that comes, as would one stamp from far in the future."""
        stamp = stamp_ns(message)
        with self._ready:
            if stamp < self.stamps[topic] - JUMP_NS:
                self._forget()
            self.stamps[topic] = max(self.stamps[topic], stamp)

    def _forget(self) -> None:
        self.stamps = dict.fromkeys(self.stamps, -1)
        self._last_stamp, self._newest, self._waiting = 0, None, None
        self._recent.clear()
        for queue in self._together.queues:
            queue.clear()

    def _on_joints(self, message: JointState) -> None:
        with self._ready:
            recent = self._recent.setdefault(tuple(sorted(message.name)), deque(maxlen=JOINT_QUEUE))
            recent.append((stamp_ns(message), message))
            self._complete()

    def _on_images(self, *images: Any) -> None:
        with self._ready:
            if stamp_ns(images[0]) > self._last_stamp:    # the synchronizer may put out an older set late
                self._last_stamp, self._waiting = stamp_ns(images[0]), images
                self._complete()

    def _complete(self) -> None:
        """Makes a set of the images that wait once every group of joints has a state near enough."""
        if self._waiting is None:
            return
        stamp, joints = stamp_ns(self._waiting[0]), []
        for names, recent in list(self._recent.items()):
            if recent[-1][0] < stamp - self._gone_ns:
                del self._recent[names]    # whoever sent it has ended; joints that are missed now are named later
                continue
            apart = [abs(taken - stamp) for taken, _ in recent]
            least = min(apart)
            if least > self._limit_ns:
                return
            joints.append(recent[apart.index(least)][1])
        if joints:
            self._newest, self._waiting = MessageSet(self._waiting, tuple(joints)), None
            self._ready.notify_all()

    def wait(self, timeout: float) -> MessageSet | None:
        """The newest set not given out before; None when none came within `timeout` seconds, or after close."""
        with self._ready:
            if self._newest is None and not self._closed:
                self._ready.wait(timeout)
            newest, self._newest = self._newest, None
            return None if self._closed else newest

    def explain(self, now_ns: int) -> str:
        """Why no set comes, in words. now_ns: ROS time."""
        stamps, oldest = dict(self.stamps), now_ns - self._gone_ns
        silent = [topic for topic, stamp in stamps.items() if stamp < 0]
        if silent:
            return f"nothing has come on {', '.join(silent)}"
        unstamped = [topic for topic, stamp in stamps.items() if stamp == 0]
        if unstamped:
            return f"stamps are zero on {', '.join(unstamped)}; they must be times of capture"
        stale = [topic for topic, stamp in stamps.items() if stamp < oldest]
        if stale:
            return f"no stamp within the last {self._contract.max_observation_age:g} s on {', '.join(stale)}"
        return (
            f"the inputs do not lie within {self._contract.skew_limit:g} s of each other; "
            "check their rates and that they share a clock"
        )

    def end(self) -> None:
        """Who waits, waits no longer."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()


class Matcher(Matching):
    """Takes the messages from subscriptions of a node."""

    def __init__(self, node: Node, contract: Contract, tag: NormTag, joint_topic: str):
        super().__init__(contract, tag, joint_topic)
        kinds: dict[str, type] = {joint_topic: JointState}
        for name in tag.cameras:
            camera = contract.cameras[name]
            kinds[camera.topic] = CompressedImage if camera.transport == "compressed" else Image
        self._subscriptions = [
            node.create_subscription(
                kind, topic, partial(self.take, topic), SENSOR_SUBSCRIBE if topic == joint_topic else NEWEST_IMAGES
            )
            for topic, kind in kinds.items()
        ]

    def close(self, node: Node) -> None:
        self.end()
        for subscription in self._subscriptions:
            node.destroy_subscription(subscription)
