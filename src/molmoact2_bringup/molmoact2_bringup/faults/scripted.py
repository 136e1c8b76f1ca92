# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A policy that thinks nothing: it announces itself and sends sound chunks of a slow sway, or spoilt ones."""

from __future__ import annotations

import itertools
import math
import time
import uuid

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile

from molmoact2_contract import Contract, NormTag
from molmoact2_contract.qos import CHUNK, STATUS
from molmoact2_msgs.msg import ActionChunk, PolicyStatus

PERIOD = 0.3           # [s] between two sound chunks
SWAY, TURN = 0.45, 2.4    # amplitude [rad], angular frequency [rad/s]: fast enough for a stop at speed to show
# By joint: its share of the amplitude, and its phase [rad]; some joint moves at any time.
PARTS = {0: (1.0, 0.0), 1: (0.4, math.pi / 2), 4: (1.0, math.pi / 2)}
FLOOD_DEPTH = 400


class ScriptedPolicy:
    """Runs on a node that another thread spins."""

    def __init__(self, node: Node, contract: Contract, tag: NormTag):
        self._node, self._contract, self._tag = node, contract, tag
        self._numbers = itertools.count(1)
        self._began = time.time()
        self.another_process()
        # Deep, so that of a flood as much arrives as can.
        flood = QoSProfile(history=CHUNK.history, depth=FLOOD_DEPTH, reliability=CHUNK.reliability)
        self._chunks = node.create_publisher(ActionChunk, "policy/action_chunk", flood)
        self._policy = node.create_publisher(PolicyStatus, "policy/status", STATUS)
        node.create_timer(0.1, lambda: self._policy.publish(self._announced))
        self._timer = node.create_timer(PERIOD, lambda: self.send(self.sound()))

    def sound(self) -> ActionChunk:
        """A chunk observed now, in which some joints sway about home."""
        now, tag = self._node.get_clock().now(), self._tag
        horizon = round(1.0 / tag.dt)
        times = now.nanoseconds / 1e9 + (np.arange(horizon) + tag.first_offset) * tag.dt - self._began
        table = np.tile(self._contract.values("home"), (horizon, 1))
        for joint, (share, phase) in PARTS.items():
            table[:, joint] += share * SWAY * np.sin(TURN * times + phase)
        chunk = ActionChunk(chunk_id=next(self._numbers), joint_names=list(self._contract.joint_names))
        chunk.episode_id = self._announced.episode_id
        chunk.header.stamp = now.to_msg()
        chunk.dt, chunk.first_offset, chunk.horizon = tag.dt, tag.first_offset, horizon
        chunk.positions = table.ravel().tolist()
        return chunk

    def send(self, chunk: ActionChunk) -> None:
        self._chunks.publish(chunk)

    def pause(self) -> None:
        """Sends no more sound chunks."""
        self._timer.cancel()

    def go_on(self) -> None:
        self._timer.reset()

    def another_process(self) -> None:
        """As if the policy had been started anew."""
        self._announced = PolicyStatus(process_id=uuid.uuid4().hex, episode_id=uuid.uuid4().hex)
