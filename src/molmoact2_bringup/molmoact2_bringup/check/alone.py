# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Who else runs in this ROS domain. Two robots that share it share the names too: a call of `arm/arm` arms both."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from rclpy.node import Node

from molmoact2_contract import System

from ..lifecycle import BringUpError
from ..running import RunningSystem, Stopped, SystemEnded

KINDS = tuple(f"molmoact2_msgs/msg/{kind}" for kind in ("ControllerStatus", "PolicyStatus", "ActionChunk"))
CHUNKS, ANNOUNCED = "policy/action_chunk", "policy/status"
DISCOVERY = 5.0    # [s] in which others of the same domain show themselves: the middleware announces every 3 s
GONE = 30.0        # [s] within which a process that was killed is heard no more
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


def another(node: Node, arms: Collection[str]) -> str:
    """Who else would hear or say what moves these arms, in words; empty where there is nobody.

    Expected are one controller of each of them, and one policy.
    """
    expected = dict.fromkeys([*(f"{arm}/status" for arm in arms), CHUNKS, ANNOUNCED], 1)
    more = [_words(topic, count) for topic, count in speaking(node).items() if count > expected.get(topic, 0)]
    servers = {arm: node.count_services(f"{arm}/arm") for arm in arms}
    more += [f"{count} nodes offer {arm}/arm" for arm, count in servers.items() if count > 1]
    return f"another system runs in this ROS domain: {', '.join(more)}" if more else ""


def must_be_first(system: System, say: Callable[[str], None]) -> None:
    """Returns when no controller and no policy is heard, before those of the system are started: later nobody could
    tell another's from its own. From the main thread. Errors: BringUpError where one is heard for longer than what was
    killed; Stopped after Ctrl-C."""
    with RunningSystem(replace(system, processes=()), say) as graph:
        began = quiet_since = time.monotonic()
        while time.monotonic() < quiet_since + DISCOVERY:
            if heard := speaking(graph.node):
                quiet_since = time.monotonic()
                if quiet_since > began + GONE:
                    raise BringUpError(f"a system runs in this ROS domain already: {', '.join(sorted(heard))}; {MEND}")
            _wait(graph)
    if graph.stopping.is_set():
        raise Stopped


def must_be_alone(running: RunningSystem, arms: Collection[str]) -> None:
    """Returns when nobody else has these arms' names: what is asked of a name, whoever has it does, a real arm, too.
    Errors: BringUpError where somebody has, for longer than what was killed is heard; Stopped after Ctrl-C; SystemEnded
    where a process ended."""
    if ended := running.ended:    # what has its names then is not ours
        raise SystemEnded(ended[0], running.wait_for_rest())
    deadline = time.monotonic() + GONE
    while others := another(running.node, arms):
        if time.monotonic() > deadline:
            raise BringUpError(f"{others}; nothing more is asked of the arm: {MEND}")
        _wait(running)


def _wait(running: RunningSystem) -> None:
    running.wait(0.1)
    if running.stopping.is_set():
        raise Stopped


def shared(node: Node, arm: str) -> str:
    """The same of one arm, or that it is not there; empty where all is as it is to be before it is moved."""
    if others := another(node, [arm]):
        return others
    controllers, servers = node.count_publishers(f"{arm}/status"), node.count_services(f"{arm}/arm")
    if (controllers, servers) != (1, 1):
        return f"{controllers} nodes publish {arm}/status and {servers} offer {arm}/arm, in place of one each"
    return ""


def _words(topic: str, count: int) -> str:
    return f"{topic} has {count} publishers" if count > 1 else f"{topic} is published"
