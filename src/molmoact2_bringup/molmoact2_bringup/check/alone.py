# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Who else runs in this ROS domain. Two robots that share it share the names too: a call of `arm/arm` arms both."""

from __future__ import annotations

from rclpy.node import Node

KINDS = tuple(f"molmoact2_msgs/msg/{kind}" for kind in ("ControllerStatus", "PolicyStatus", "ActionChunk"))
CHUNKS, ANNOUNCED = "policy/action_chunk", "policy/status"
MEND = (
    "end what else runs, or keep robots apart: a ROS_DOMAIN_ID for each, or ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST "
    "(docs/deployment.md)"
)


def speaking(node: Node) -> dict[str, int]:
    """Topics of controllers, policies and leader arms that have publishers, and how many. A robot in a namespace of its
    own shares no names, and is left out."""
    found = {}
    for topic, types in node.get_topic_names_and_types():
        count = node.count_publishers(topic) if topic.count("/") == 2 and set(types) & set(KINDS) else 0
        if count:
            found[topic[1:]] = count
    return found


def shared(node: Node, arm: str) -> str:
    """Who else would hear or say what moves an arm, in words; empty where there is nobody.

    Expected are the arm's one controller, and one policy, the node's own.
    """
    expected = {f"{arm}/status": 1, CHUNKS: 1, ANNOUNCED: 1}
    more = [_words(topic, count) for topic, count in speaking(node).items() if count > expected.get(topic, 0)]
    controllers, servers = node.count_publishers(f"{arm}/status"), node.count_services(f"{arm}/arm")
    if servers > 1:
        more.append(f"{servers} nodes offer {arm}/arm")
    if more:
        return f"another system runs in this ROS domain: {', '.join(more)}"
    if (controllers, servers) != (1, 1):
        return f"{controllers} nodes publish {arm}/status and {servers} offer {arm}/arm, in place of one each"
    return ""


def _words(topic: str, count: int) -> str:
    return f"{topic} has {count} publishers" if count > 1 else f"{topic} is published"
