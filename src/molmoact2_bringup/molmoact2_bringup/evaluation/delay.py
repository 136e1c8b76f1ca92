# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Makes chunks arrive later: a relay between policy and controllers that holds each one back until it is old enough."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import replace

from rclpy.node import Node

from molmoact2_contract import System
from molmoact2_contract.qos import CHUNK
from molmoact2_msgs.msg import ActionChunk

TOPIC, EARLY = "policy/action_chunk", "policy/action_chunk_early"
LOOK = 0.002    # [s] between two looks at what is due


def delayed(system: System) -> System:
    """The same with a policy that publishes for the relay."""
    return replace(system, processes=tuple(
        replace(process, remap={**process.remap, TOPIC: EARLY}) if process.name == "policy" else process
        for process in system.processes
    ))


class Delay:
    """On a node that another thread spins. latency: from an observation's capture to a chunk's arrival [s]; one that
    is older than that goes through at once."""

    def __init__(self, node: Node, latency: float):
        self._node, self._latency_ns = node, round(latency * 1e9)
        self._waiting: list[tuple[int, int, ActionChunk]] = []
        self._numbers = itertools.count()
        self._out = node.create_publisher(ActionChunk, TOPIC, CHUNK)
        node.create_subscription(ActionChunk, EARLY, self._take, CHUNK)
        node.create_timer(LOOK, self._send)

    def _take(self, chunk: ActionChunk) -> None:
        stamp = chunk.header.stamp
        due = stamp.sec * 1_000_000_000 + stamp.nanosec + self._latency_ns
        heapq.heappush(self._waiting, (due, next(self._numbers), chunk))
        self._send()

    def _send(self) -> None:
        now = self._node.get_clock().now().nanoseconds
        while self._waiting and self._waiting[0][0] <= now:
            self._out.publish(heapq.heappop(self._waiting)[2])
