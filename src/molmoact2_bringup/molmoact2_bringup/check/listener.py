# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Listens to a robot for a while: cameras, joint states, controllers, diagnostics. It publishes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from molmoact2_contract import System
from molmoact2_contract.messages import ImageError, digest, pixels_of, stamp_ns
from molmoact2_contract.qos import DIAGNOSTICS, SENSOR_SUBSCRIBE, STATUS
from molmoact2_msgs.msg import ControllerStatus, PolicyStatus

from .heard import Heard, Images, Joints, Report, Thinking, Ticks
from .wanted import heard_as, policy_of

ENOUGH = 2    # messages of a topic, after which it counts as there


class Listener:
    """On a node that another thread spins. cameras: names, in the model's order."""

    def __init__(self, node: Node, system: System, cameras: tuple[str, ...]):
        self._node, self._system, self._cameras = node, system, cameras
        self._lock = threading.Lock()
        policy = policy_of(system)
        topic = str(policy.parameters.get("joint_state_topic", "joint_states")) if policy else "joint_states"
        self._joint_topic = heard_as(system, topic)
        self._heard = self._empty()
        self._subscriptions: list[Any] = []

        def subscribe(kind: type, topic: str, take: Callable[[Any], None], quality: Any) -> None:
            self._subscriptions.append(node.create_subscription(kind, topic, take, quality))

        for name in cameras:
            camera = system.contract.cameras[name]
            kind = CompressedImage if camera.transport == "compressed" else Image
            take = self._guarded(partial(self._on_image, name))
            subscribe(kind, heard_as(system, camera.topic), take, SENSOR_SUBSCRIBE)
        subscribe(JointState, self._joint_topic, self._guarded(self._on_joints), SENSOR_SUBSCRIBE)
        subscribe(DiagnosticArray, "/diagnostics", self._guarded(self._on_diagnostics), DIAGNOSTICS)
        subscribe(PolicyStatus, "policy/status", self._guarded(self._on_policy), STATUS)
        for arm in system.contract.arms:
            subscribe(ControllerStatus, f"{arm}/status", self._guarded(partial(self._on_status, arm)), STATUS)

    def _empty(self) -> Heard:
        contract = self._system.contract
        cameras = {n: Images(heard_as(self._system, contract.cameras[n].topic)) for n in self._cameras}
        return Heard(cameras, {}, self._joint_topic, {arm: Ticks(f"{arm}/status") for arm in contract.arms})

    def _guarded(self, take: Callable[[Any, int], None]) -> Callable[[Any], None]:
        """The time of arrival is read before anything else is done."""

        def taken(message: Any) -> None:
            arrival = self._node.get_clock().now().nanoseconds
            with self._lock:
                take(message, arrival)

        return taken

    def begin(self) -> None:
        """Forgets what was heard, except for diagnostics, which come once a second."""
        with self._lock:
            reports, self._heard = self._heard.reports, self._empty()
            self._heard.reports = reports

    def silent(self) -> list[str]:
        """Topics of which too little has come."""
        with self._lock:
            heard = self._heard
            named = {joint for names in heard.joints for joint in names}
            missing = [images.topic for images in heard.cameras.values() if len(images) < ENOUGH]
            if not named >= set(self._system.contract.joints):
                missing.append(heard.joint_topic)
            return missing + [ticks.topic for ticks in heard.arms.values() if len(ticks) < ENOUGH]

    def end(self) -> Heard:
        """What was heard since begin(); the last image of each camera is read now. Nothing is listened to any more:
        what is measured next has the processor for itself."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        with self._lock:
            heard, self._heard = self._heard, self._empty()
        for name, images in heard.cameras.items():
            message, images.raw = images.raw, None
            if message is not None:
                self._read(name, images, message)
        return heard

    def _read(self, name: str, images: Images, message: Any) -> None:
        try:
            images.image = pixels_of(self._system.contract.cameras[name].transport, message)
        except ImageError as error:
            images.error = f"{images.topic}: {error}"
            return
        height, width = images.image.shape[:2]
        images.sizes.add((width, height))    # of a compressed one it is known only now

    # --- in the thread that spins -------------------------------------------------------------------------------------
    def _on_image(self, name: str, message: Any, arrival: int) -> None:
        images = self._heard.cameras[name]
        seen = digest(np.frombuffer(message.data, np.uint8))
        images.repeats = images.repeats + 1 if seen == images.digest else 0
        images.digest, images.raw, images.bytes_each = seen, message, len(message.data)
        images.stamps.append(stamp_ns(message))
        images.arrivals.append(arrival)
        images.frames.add(message.header.frame_id)
        if isinstance(message, CompressedImage):
            images.encodings.add(message.format)
        else:
            images.encodings.add(message.encoding)
            images.sizes.add((message.width, message.height))

    def _on_joints(self, message: JointState, arrival: int) -> None:
        names = tuple(message.name)
        joints = self._heard.joints.setdefault(names, Joints(self._joint_topic))
        joints.stamps.append(stamp_ns(message))
        joints.arrivals.append(arrival)
        if len(names) != len(message.position) or len(set(names)) != len(names):
            positions = len(message.position)
            joints.errors.add(f"a message names {', '.join(names) or 'nothing'} and has {positions} positions")
            return
        joints.positions.update(zip(names, message.position, strict=True))

    def _on_status(self, arm: str, message: ControllerStatus, arrival: int) -> None:
        ticks = self._heard.arms[arm]
        ticks.stamps.append(stamp_ns(message))
        ticks.arrivals.append(arrival)
        ticks.ticks.append(message.ticks)
        ticks.missed.append(message.missed_ticks)
        ticks.state, ticks.fault, ticks.shadow = message.state, message.fault_text, message.shadow

    def _on_policy(self, message: PolicyStatus, arrival: int) -> None:
        self._heard.policy = Thinking(
            message.state == PolicyStatus.ACTIVE, message.checkpoint, message.norm_tag, message.latency_p50,
            message.latency_p95, message.last_error or message.withheld,
        )

    def _on_diagnostics(self, message: DiagnosticArray, arrival: int) -> None:
        for entry in message.status:
            level = entry.level[0] if isinstance(entry.level, bytes) else int(entry.level)
            values = {value.key: value.value for value in entry.values}
            self._heard.reports[entry.name] = Report(entry.name, level, entry.message, values)
