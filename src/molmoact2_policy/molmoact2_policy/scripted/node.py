# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `scripted_policy`: in the policy's place where a robot has no checkpoint. It sways the arms, heeds nothing.

For simulations and doubles only: it is refused on a real robot.
"""

from __future__ import annotations

import sys
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node

from molmoact2_contract import ContractError, load_contract

from ..running import run_node
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
    return run_node(ScriptedPolicyNode, "policy", (ContractError, ParameterException))


if __name__ == "__main__":
    sys.exit(main())
