# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A node as a process of its own: from rclpy.init to an orderly end at SIGINT or SIGTERM."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from molmoact2_contract.stop_flag import StopFlag

LAST_WORDS = 10    # turns of the executor before a process ends

AnyNode = TypeVar("AnyNode", bound=Node)


def run_node(
    make: Callable[[], AnyNode],
    name: str,
    refusals: tuple[type[Exception], ...],
    leave: Callable[[AnyNode], None] | None = None,
    close: Callable[[AnyNode], None] | None = None,
) -> int:
    """Spins what `make` gives until a signal; exit code 0, or 1 where it refuses to begin, in words on stderr.

    refusals: errors of `make` that say what is wrong. leave: called at the signal; the node is spun a little longer, so
    that others hear of it. close: called before it is destroyed.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stop = StopFlag()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node = make()
    except refusals as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
        if leave:
            leave(node)
            for _ in range(LAST_WORDS):
                executor.spin_once(timeout_sec=0.02)
    except ExternalShutdownException:
        pass
    if close:
        close(node)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0
