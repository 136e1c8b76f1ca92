# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking over the whole running system: what the policy freezes is what the controller finds consumed."""

import time

import pytest
import rclpy
from live_system import Up
from rclpy.executors import SingleThreadedExecutor

from molmoact2_contract.qos import CHUNK, STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus

DOMAIN = 98
CHUNKS = 25
COLD = 4     # chunks of which the first few are not guided yet


class Listener:
    """Chunks by id, and the first status after each was accepted."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("listener", context=self.context)
        self.chunks: dict[int, ActionChunk] = {}
        self.accepted: dict[int, ControllerStatus] = {}
        self.refusals: set[str] = set()    # for who reads a failure
        self.node.create_subscription(ActionChunk, "policy/action_chunk", self._on_chunk, CHUNK)
        self.node.create_subscription(ControllerStatus, "arm/status", self._on_status, STATUS)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)

    def _on_chunk(self, chunk):
        self.chunks[chunk.chunk_id] = chunk

    def _on_status(self, status):
        if status.chunk_id:
            self.accepted.setdefault(status.chunk_id, status)
        if status.refused_chunks:
            self.refusals.add(status.last_refusal_text)

    def until(self, done, seconds=90):
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, (sorted(self.chunks), sorted(self.accepted), self.refusals)
            self._executor.spin_once(timeout_sec=0.1)

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def system():
    system = Up(DOMAIN, "so101_sim", "--set", "arm_controller.joining=rtc")
    yield system
    system.stop()


@pytest.mark.long
def test_chunks_are_frozen_as_far_as_they_are_consumed_before_they_arrive(system):
    listener = Listener()
    try:
        listener.until(lambda: len(set(listener.chunks) & set(listener.accepted)) >= CHUNKS)
    finally:
        listener.close()
    followed = sorted(set(listener.chunks) & set(listener.accepted))[COLD:]
    frozen = {i: listener.chunks[i].frozen_count for i in followed}
    consumed = {i: listener.accepted[i].waypoints_consumed_at_acceptance for i in listener.accepted}
    # On a busy machine the arm may run out, and begins again with nothing frozen.
    assert sum(map(bool, frozen.values())) > len(frozen) / 2, (frozen, listener.refusals)
    covered = [0 < consumed[i] <= frozen[i] for i in followed]
    assert sum(covered) > len(covered) / 2, (frozen, consumed, listener.refusals)
