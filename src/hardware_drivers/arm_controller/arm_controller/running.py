# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How a node that moves, or stands for, a device is run and ended. For controllers and for driver packages."""

from __future__ import annotations

import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from molmoact2_contract import ContractError
from molmoact2_contract.stop_flag import StopFlag


class DriverNode(Node, ABC):
    """A node that leaves what it moves at rest when it ends."""

    @property
    @abstractmethod
    def error(self) -> str:
        """Why the node cannot go on; empty while it can."""

    @abstractmethod
    def close(self) -> None:
        """Ends what the node has started."""

    def abandon(self) -> None:
        """In place of close() where the node has failed: ends what may be ended."""
        self.close()


def run_node(name: str, make: Callable[[], DriverNode], *refusals: type[Exception]) -> int:
    """Runs a node until SIGINT, SIGTERM, SIGHUP (its terminal is closed, unless nohup keeps that from it) or its error;
    returns the exit status. name: for the error's line; refusals: what making it raises for bad input."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    # Until the node is made, which may take long, a signal simply ends the process.
    endings = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        endings.append(signal.SIGHUP)
    for number in endings:
        signal.signal(number, signal.default_int_handler)
    try:
        node = make()
    except KeyboardInterrupt:
        rclpy.try_shutdown()
        return 0
    except (ContractError, ParameterException, *refusals) as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    stop = StopFlag()
    for number in (signal.SIGINT, *endings):
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
        node.abandon()
    else:
        node.close()
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if error_text else 0
