# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes that run beside the test."""

from __future__ import annotations

import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor


class Side:
    """A node in a context of its own, spun by a thread of its own."""

    def __init__(self, domain: int, make: Callable):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        try:
            self.node = make(self.context)
        except BaseException:
            self.context.shutdown()
            raise
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._end.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def spun(self, call: Callable):
        """What a call gives that is made in the node's own thread: rclpy notes the request of an action client down
        after it is sent, and drops an answer that another thread takes before."""
        task, done = self._executor.create_task(call), threading.Event()
        task.add_done_callback(lambda _: done.set())
        assert done.wait(30.0)
        return task.result()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        if hasattr(self.node, "close"):
            self.node.close()
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()
