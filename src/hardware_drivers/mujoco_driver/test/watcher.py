# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Listens to the simulation's nodes over real DDS, and spins those that run in the test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import rclpy
from ament_index_python.packages import get_package_prefix
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from molmoact2_contract.qos import DIAGNOSTICS

CONTRACT = Path(__file__).resolve().parents[4] / "config/embodiments/so101.yaml"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """For what no message and no other event tells."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Watcher:
    """A ROS context of its own, a node that listens, and an executor. Messages of a topic are in its list `seen`."""

    def __init__(self, domain: int):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("watcher", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.seen: dict[str, list] = {}
        self.listen(DiagnosticArray, "/diagnostics", DIAGNOSTICS)

    def listen(self, kind: type, topic: str, qos: QoSProfile) -> None:
        self.seen[topic] = []
        self.node.create_subscription(kind, topic, self.seen[topic].append, qos)

    def spin(self, node: Node) -> None:
        """Lets a node of the test run whenever the watcher waits."""
        self.executor.add_node(node)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, what
            self.executor.spin_once(timeout_sec=0.1)

    def next(self, topic: str, count: int = 1) -> list:
        """The messages that come from now on, `count` of them."""
        before = len(self.seen[topic])
        self.until(lambda: len(self.seen[topic]) >= before + count, f"nothing comes on {topic}")
        return self.seen[topic][before:]

    def diagnosis(self, wanted: Callable[[DiagnosticStatus], bool], what: str) -> None:
        """Waits for a diagnosis from now on that is as wanted."""
        before = len(self.seen["/diagnostics"])
        self.until(lambda: any(wanted(a.status[0]) for a in self.seen["/diagnostics"][before:]), what)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


class Program:
    """A node of the package as its users start it, in a process of its own."""

    def __init__(self, name: str, domain: int, **parameters: str):
        path = Path(get_package_prefix("mujoco_driver")) / "lib/mujoco_driver" / name
        pairs = {"contract": str(CONTRACT), **parameters}
        arguments = [part for key, value in pairs.items() for part in ("-p", f"{key}:={value}")]
        self.process = subprocess.Popen(
            [str(path), "--ros-args", *arguments], env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
            stderr=subprocess.PIPE, text=True,
        )

    def children(self) -> list[int]:
        out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(pid) for pid in out.stdout.split()]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Asks it to end unless it has; returns the exit status, and what it said of errors."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors
