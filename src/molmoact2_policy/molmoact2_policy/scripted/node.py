# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `scripted_policy`: in the policy's place where a robot has no checkpoint. It sways the arms, heeds nothing.

For simulations and doubles only: it is refused on a real robot.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from molmoact2_contract import ContractError, load_contract

from .policy import EasedSway, ScriptedPolicy
from .sway import Sway


class ScriptedPolicyNode(Node):
    def __init__(self, **options: Any) -> None:
        super().__init__("policy", **options)
        contract = load_contract(self._declare("contract", "", "path or name of the embodiment contract"))
        if not self._declare("simulation", False, "whether the robot is simulated"):
            raise ContractError("a scripted policy heeds nothing, and moves simulations and doubles only")
        tag = contract.norm_tag(self._declare("norm_tag", "", "whose dt and first_offset its chunks have"))
        about = self._declare("about", [0.0], "the pose about which it sways, by the contract's joints; [0.0]: home")
        try:
            sway = Sway(contract, None if list(about) == [0.0] else about)
        except ValueError as error:
            raise ContractError(f"parameter about: {error}") from error
        self._policy = ScriptedPolicy(self, contract, tag, EasedSway(self, contract, sway), traces=True)

    def _declare(self, name: str, default: Any, description: str) -> Any:
        return self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True)).value


def main() -> int:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node = ScriptedPolicyNode()
    except (ContractError, ParameterException) as error:
        print(f"error: policy: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
