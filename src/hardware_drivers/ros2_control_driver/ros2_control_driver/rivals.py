# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Who else could move the arm. A controller takes goals by its topic and by its action alike, each in the place of the
one before: so both ways are looked at, whichever of them is ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node

from .wire import Plan


def topic_of(controller: str) -> str:
    return f"{controller}/joint_trajectory"


def action_of(controller: str) -> str:
    return f"{controller}/follow_joint_trajectory"


def rival(node: Node, plan: Plan, publishers: int, clients: int) -> str:
    """Who else gives goals to a controller of the plan, or could; empty where nobody does. publishers, clients: how
    many this program itself has for each controller. Whoever has an action client listens to the action's feedback."""
    for controller, _ in plan.groups:
        topic = topic_of(controller)
        others = _others(node, node.get_publishers_info_by_topic(topic), publishers)
        if others:
            return f"{others} also publishes on {topic}; end it: one program moves an arm"
        listeners = node.get_subscriptions_info_by_topic(f"{action_of(controller)}/_action/feedback")
        others = _others(node, listeners, clients)
        if others:
            does = f"gives goals to {controller} by its action, or listens to it"
            return f"{others} {does}; end it: one program moves an arm"
    return ""


def _others(node: Node, infos: Sequence[Any], ours: int) -> str:
    names = [info.node_name for info in infos]
    if len(names) <= ours:
        return ""
    own = node.get_name()
    return ", ".join([name for name in names if name != own] or [f"another {own}"])
