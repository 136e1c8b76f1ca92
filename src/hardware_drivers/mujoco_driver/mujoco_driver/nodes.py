# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the nodes of this package share: how they are declared, diagnosed, run and ended."""

from __future__ import annotations

import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from molmoact2_contract import ContractError

from .bus import BusError


class SimulationNode(Node, ABC):
    """A node of the simulation."""

    @property
    @abstractmethod
    def error(self) -> str:
        """Why the node cannot go on; empty while it can."""

    @abstractmethod
    def close(self) -> None:
        """Ends what the node has started."""


def fixed(description: str, **ranges: list) -> ParameterDescriptor:
    """A parameter that is set at the start only."""
    return ParameterDescriptor(description=description, read_only=True, **ranges)


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def diagnostics(stamp: Time, level: bytes, name: str, message: str, values: Mapping[str, str]) -> DiagnosticArray:
    """level: of DiagnosticStatus."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    array = DiagnosticArray(status=[DiagnosticStatus(level=level, name=name, message=message, values=pairs)])
    array.header.stamp = stamp
    return array


def run_node(name: str, make: Callable[[], SimulationNode]) -> int:
    """Runs a node until SIGINT, SIGTERM or its error; returns the exit status. name: for the error's line."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    # Until the node is made, which may take long, a signal simply ends the process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        node = make()
    except KeyboardInterrupt:
        rclpy.try_shutdown()
        return 0
    except (ContractError, BusError, ParameterException) as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    error_text = ""
    try:
        while not stop.is_set() and not node.error:
            executor.spin_once(timeout_sec=0.2)
        error_text = "" if stop.is_set() else node.error
    except ExternalShutdownException:
        pass
    except Exception as error:    # a defect in a callback
        error_text = f"a callback failed: {error!r}"
    if error_text:
        print(f"error: {name}: {error_text}", file=sys.stderr)
    node.close()
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if error_text else 0
