# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The tiny robot over real DDS: its topics, its policy node, and everything that is heard from the policy."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, JointState
from sides import Side
from std_msgs.msg import String
from tiny_robot import CHECKPOINT, CONTRACT, LOWER, TAG, UPPER, compressed, image, joint_state, picture

import molmoact2_model.policy  # noqa: F401  (takes long, and much longer beside threads that spin)
from molmoact2_contract.qos import CHUNK, DIAGNOSTICS, SENSOR_PUBLISH, STATUS, TRACE
from molmoact2_msgs.msg import ActionChunk, PolicyStatus, ReasoningTrace
from molmoact2_policy.node import PolicyNode

WRIST = "wrist/image_raw/compressed"
PATIENCE = 120.0    # seconds; only a failing test waits that long
PARAMETERS = {
    "contract": str(CONTRACT.path),
    "checkpoint": str(CHECKPOINT),
    "norm_tag": TAG.name,
    "depth": "adaptive",
    "num_steps": 2,
    "min_period": 0.05,
    "instruction": "pick up the cube",
}
# A lifecycle node's services outlive it until Python frees it; in a domain of its own no test can meet an old one.
DOMAINS = (30 + (os.getpid() + count) % 36 for count in itertools.count())    # others use those from 67 on
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP


class Robot:
    """Cameras at 20 Hz and two controllers' joint states, and everything that is heard from the policy."""

    def __init__(self):
        self.domain = next(DOMAINS)
        self._sides = [Side(self.domain, lambda context: rclpy.create_node("robot", context=context))]
        self.node, self.spun = self._sides[0].node, self._sides[0].spun
        self.behave()
        self.sent: dict[int, np.ndarray] = {}
        self.chunks: list[ActionChunk] = []
        self.traces: list[ReasoningTrace] = []
        self.statuses: list[PolicyStatus] = []
        self.diagnostics: list[DiagnosticArray] = []
        self._news = threading.Condition()
        publisher = self.node.create_publisher
        self._images = publisher(Image, "top/image_raw", SENSOR_PUBLISH)
        self._wrist = publisher(CompressedImage, WRIST, SENSOR_PUBLISH)
        self._joints = publisher(JointState, "joint_states", SENSOR_PUBLISH)
        self.instruction = publisher(String, "policy/instruction", CHUNK)
        for kind, topic, profile, kept in (
            (ActionChunk, "policy/action_chunk", CHUNK, self.chunks),
            (ReasoningTrace, "policy/reasoning_trace", TRACE, self.traces),
            (PolicyStatus, "policy/status", STATUS, self.statuses),
            (DiagnosticArray, "/diagnostics", DIAGNOSTICS, self.diagnostics),
        ):
            self.node.create_subscription(kind, topic, lambda m, kept=kept: self.keep(m, kept), profile)
        self._frame = 0
        self.node.create_timer(0.05, self._publish)

    def behave(self) -> None:
        """All is well: changing pictures from both cameras, all joints, in an order that is not the contract's."""
        self.top: Callable[[int], np.ndarray] = picture
        self.wrist_works = True
        self.joint_names, self.changed = (LOWER[::-1], UPPER[::-1]), {}

    def start_policy(self, **changed) -> PolicyNode:
        parameters = [Parameter(name, value=value) for name, value in {**PARAMETERS, **changed}.items()]
        side = Side(self.domain, lambda context: PolicyNode(context=context, parameter_overrides=parameters))
        self._sides.append(side)
        return side.node

    def _publish(self) -> None:
        self._frame += 1
        now = self.node.get_clock().now().nanoseconds
        for names in self.joint_names:
            self._joints.publish(joint_state(now - 3_000_000, names=names, **self.changed))
        top = self.top(self._frame)
        self.sent[now] = top
        self._images.publish(image(top, now))
        if self.wrist_works:
            self._wrist.publish(compressed(picture(7), now + 1_000_000))

    def keep(self, message, kept: list) -> None:
        with self._news:
            kept.append(message)
            self._news.notify_all()

    def wait(self, condition: Callable[[], object]):
        """What `condition` returns once that is true of what was heard."""
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), f"not heard; last status: {self.statuses[-1:]}"
            return condition()

    @staticmethod
    def wait_until(condition: Callable[[], object]) -> None:
        """For what is not heard by the robot itself."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not come to be"
            time.sleep(0.01)

    def next(self, kept: list, condition: Callable = lambda message: True):
        """The first message heard from now on for which `condition` holds."""
        start = len(kept)
        return self.wait(lambda: next((m for m in kept[start:] if condition(m)), None))

    def call(self, kind: type, name: str, request):
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(PATIENCE)
        future, done = client.call_async(request), threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE), f"{name} did not answer"
        self.node.destroy_client(client)
        return future.result()

    def transition(self, number: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = number
        return self.call(ChangeState, "policy/change_state", request).success

    def set_parameter(self, name: str, value):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "policy/set_parameters", request).results[0]

    def close(self) -> None:
        for side in reversed(self._sides):
            side.close()
