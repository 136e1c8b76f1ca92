# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the visualizer: declared with descriptions and ranges, read once."""

from __future__ import annotations

from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node

from molmoact2_contract import Contract, ContractError, load_contract

TEXTS = {
    "contract": ("", "path or name of the embodiment contract"),
    "depth_decoder": ("", "codebook or decoder network for depth codes; empty: the checkpoint's"),
    "urdf": ("", "URDF file of the robot's model; empty: the contract's; none: no model is shown"),
    "joint_state_topic": ("joint_states", "topic of the joint states"),
    "publish_tf": ("auto", "true, false, or auto: unless another node publishes the frames"),
}
NUMBERS = {
    "rate": (20.0, 0.1, 100.0, "of the frames that joints move [1/s]"),
    "display_near": (0.3, 0.01, 100.0, "where relative depth is nearest in policy/depth/points_relative [m]"),
    "display_far": (1.0, 0.01, 100.0, "where it is farthest [m]"),
}


@dataclass(frozen=True)
class Options:
    """The checked parameters. display: near and far end of the range in which relative depth is shown [m]."""

    contract: Contract
    depth_decoder: str
    urdf: str
    joint_topic: str
    publish_tf: str
    rate: float
    display: tuple[float, float]


def options_of(node: Node) -> Options:
    """Declares and reads the parameters of a node. Errors: ContractError that names the parameter."""
    given = {}
    for name, (text, description) in TEXTS.items():
        described = ParameterDescriptor(description=description, read_only=True)
        given[name] = node.declare_parameter(name, text, described).value
    for name, (number, least, most, description) in NUMBERS.items():
        span = [FloatingPointRange(from_value=least, to_value=most)]
        described = ParameterDescriptor(description=description, read_only=True, floating_point_range=span)
        given[name] = node.declare_parameter(name, number, described).value
    node.declare_parameter("simulation", False, ParameterDescriptor(description="whether the robot is simulated"))
    if not given["contract"]:
        raise ContractError(f"parameter contract is empty: {TEXTS['contract'][1]}")
    if given["publish_tf"] not in ("auto", "true", "false"):
        raise ContractError(f"parameter publish_tf is {given['publish_tf']!r}; it must be true, false or auto")
    near, far = given["display_near"], given["display_far"]
    if near >= far:
        raise ContractError(f"parameter display_near ({near:g}) must be less than display_far ({far:g})")
    return Options(
        load_contract(given["contract"]), given["depth_decoder"], given["urdf"], given["joint_state_topic"],
        given["publish_tf"], given["rate"], (near, far),
    )
