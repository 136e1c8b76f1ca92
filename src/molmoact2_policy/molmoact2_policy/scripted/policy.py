# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A policy that thinks nothing: it announces itself and sends sound chunks of a scripted motion, or spoilt ones."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from functools import partial

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState

from molmoact2_contract import Contract, NormTag
from molmoact2_contract.qos import CHUNK, SENSOR_SUBSCRIBE, STATUS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace

from .sway import Sway

PERIOD = 0.3           # [s] between two sound chunks
STATUS_PERIOD = 0.1    # [s]
FLOOD_DEPTH = 400      # chunks that may wait, so that of a flood as much arrives as can
WORDS = "scripted: a sway, which heeds neither images nor instructions"
Plan = Callable[[np.ndarray], np.ndarray]    # ROS times (H,) [s] to joint targets (H, J)


class ScriptedPolicy:
    """Runs on a node that another thread spins. plan: the motion, a function of time.

    traces: whether a trace goes with each chunk; it says that nothing was thought.
    """

    def __init__(self, node: Node, contract: Contract, tag: NormTag, plan: Plan, traces: bool = False):
        self._node, self._contract, self._tag, self._plan = node, contract, tag, plan
        self._numbers = itertools.count(1)
        self._sent = 0
        self.another_process()
        flood = QoSProfile(history=CHUNK.history, depth=FLOOD_DEPTH, reliability=CHUNK.reliability)
        self._chunks = node.create_publisher(ActionChunk, "policy/action_chunk", flood)
        self._policy = node.create_publisher(PolicyStatus, "policy/status", STATUS)
        self._traces = node.create_publisher(ReasoningTrace, "policy/reasoning_trace", TRACE) if traces else None
        node.create_timer(STATUS_PERIOD, self._announce)
        self._timer = node.create_timer(PERIOD, lambda: self.send(self.sound()))

    def _announce(self) -> None:
        self._announced.header.stamp = self._node.get_clock().now().to_msg()
        self._announced.chunks = self._sent
        self._policy.publish(self._announced)

    def sound(self) -> ActionChunk:
        """A chunk observed now."""
        now, tag = self._node.get_clock().now(), self._tag
        horizon = round(1.0 / tag.dt)
        times = now.nanoseconds / 1e9 + (np.arange(horizon) + tag.first_offset) * tag.dt
        chunk = ActionChunk(chunk_id=next(self._numbers), joint_names=list(self._contract.joint_names))
        chunk.episode_id = self._announced.episode_id
        chunk.header.stamp = now.to_msg()
        chunk.dt, chunk.first_offset, chunk.horizon = tag.dt, tag.first_offset, horizon
        chunk.positions = self._plan(times).ravel().tolist()
        return chunk

    def send(self, chunk: ActionChunk) -> None:
        self._chunks.publish(chunk)
        self._sent += 1
        if self._traces is not None:
            self._traces.publish(self._trace(chunk))

    def _trace(self, chunk: ActionChunk) -> ReasoningTrace:
        trace = ReasoningTrace(chunk_id=chunk.chunk_id, episode_id=chunk.episode_id, instruction=WORDS)
        trace.header, trace.norm_tag = chunk.header, self._tag.name
        trace.trace_id, trace.depth_mode = f"{chunk.episode_id}/{chunk.chunk_id}", ReasoningTrace.DEPTH_OFF
        return trace

    def pause(self) -> None:
        """Sends no more sound chunks."""
        self._timer.cancel()

    def go_on(self) -> None:
        self._timer.reset()

    def another_process(self) -> None:
        """As if the policy had been started anew."""
        self._announced = PolicyStatus(
            state=PolicyStatus.ACTIVE, process_id=uuid.uuid4().hex, episode_id=uuid.uuid4().hex,
            norm_tag=self._tag.name, instruction=WORDS,
        )


class EasedSway:
    """The plan of a sway that begins where the arms are whenever they do not all follow. On a node that another thread
    spins."""

    def __init__(self, node: Node, contract: Contract, sway: Sway):
        self._node, self._sway, self._names = node, sway, list(contract.joint_names)
        self._next = sway
        self._measured = np.full(len(self._names), np.nan)
        self._following = dict.fromkeys(contract.arms, False)
        node.create_subscription(JointState, "joint_states", self._on_joints, SENSOR_SUBSCRIBE)
        for arm in contract.arms:
            node.create_subscription(ControllerStatus, f"{arm}/status", partial(self._on_status, arm), STATUS)

    def change(self, sway: Sway) -> None:
        """Another sway, from the next time on that the arms begin to follow."""
        self._next = sway

    def _on_joints(self, message: JointState) -> None:
        for name, position in zip(message.name, message.position, strict=False):
            if name in self._names:
                self._measured[self._names.index(name)] = position

    def _on_status(self, arm: str, message: ControllerStatus) -> None:
        self._following[arm] = message.state == ControllerStatus.FOLLOWING

    def __call__(self, times: np.ndarray) -> np.ndarray:
        if not all(self._following.values()):
            self._sway = self._next
            self._sway.begin(self._measured, self._node.get_clock().now().nanoseconds / 1e9)
        return self._sway.plan(times)
