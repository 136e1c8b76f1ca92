# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Publisher and recorder as nodes of two contexts in a domain of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from molmoact2_contract import load_contract
from molmoact2_msgs.msg import InputStamp, ReasoningTrace, StageTiming

CONTRACT = load_contract(Path(__file__).parents[3] / "config/embodiments/so101.yaml")
PATIENCE = 30.0    # seconds; only a failing test waits that long


class Graph:
    """A publishing and a recording node; the recording one is spun until something is seen."""

    def __init__(self, domain: int):
        self._domain = domain
        self._contexts: list[rclpy.Context] = []
        self.nodes: list[Node] = []
        self.publisher, self.recorder = self.add("publisher"), self.add("recorder")
        self._executor = SingleThreadedExecutor(context=self.recorder.context)
        self._executor.add_node(self.recorder)

    def add(self, name: str) -> Node:
        """Another node in a context of its own."""
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=self._domain)
        self._contexts.append(context)
        self.nodes.append(rclpy.create_node(name, context=context))
        return self.nodes[-1]

    def spin_until(self, condition: Callable[[], object]) -> None:
        deadline = self.recorder.get_clock().now().nanoseconds + PATIENCE * 1e9
        while not condition():
            assert self.recorder.get_clock().now().nanoseconds < deadline, "nothing came"
            self._executor.spin_once(timeout_sec=0.1)

    def connect(self, kind: type, topic: str, profile):
        """A publisher that the recorder listens to."""
        publisher = self.publisher.create_publisher(kind, topic, profile)
        self.spin_until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def close(self) -> None:
        self._executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        for context in self._contexts:
            context.shutdown()


def trace(number: int) -> ReasoningTrace:
    message = ReasoningTrace(trace_id=f"t{number}", chunk_id=number, depth_mode=ReasoningTrace.DEPTH_ADAPTIVE)
    message.grid_rows, message.grid_cols, message.codes = 10, 10, list(range(100))
    message.refreshed, message.code_probs = [c % 3 == 0 for c in range(100)], [0.25] * 100
    message.inputs = [InputStamp(topic="/front/image_raw", frame_id="front")]
    message.timings = [StageTiming(stage=StageTiming.DEPTH, seconds=0.125)]
    message.warnings = ["größer"]
    return message
