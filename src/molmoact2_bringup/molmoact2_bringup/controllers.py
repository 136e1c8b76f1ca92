# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whose arms are there: controllers of a ROS domain, and whether they belong to one system.

Nothing in a name says which robot it belongs to. A controller is told by the node that publishes its status; the system
by what all controllers of one share, their namespace and the parameters `contract` and `simulation`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node

STATUS_TYPE = "molmoact2_msgs/msg/ControllerStatus"
KEEP_APART = (
    "end the other system, or keep robots apart by a ROS_DOMAIN_ID for each (docs/deployment.md). A controller that "
    "was killed is heard for a while yet: then ask again"
)


class SeveralSystems(Exception):
    """Which arms are meant is not clear; the text names what was heard, and the mend."""


@dataclass(frozen=True)
class Controller:
    """arm: name, with its namespace if it has one. node: full name. contract: path, as the controller was given it."""

    arm: str
    node: str
    contract: str = ""
    simulation: bool = False

    @property
    def system(self) -> tuple[str, str, bool]:
        return self.node.rpartition("/")[0], self.contract, self.simulation

    def __str__(self) -> str:
        of = f", contract {self.contract}, {'simulated' if self.simulation else 'real'}" if self.contract else ""
        return f"{self.arm} (node {self.node}{of})"


def names_once(found: Iterable[Controller], silent: Iterable[str] = ()) -> None:
    """Each name means one arm. silent: arms that offer services, but of which no controller publishes a status.

    Errors: SeveralSystems.
    """
    found, silent = tuple(found), tuple(silent)
    if silent:
        raise SeveralSystems(
            f"{', '.join(silent)}: nothing is known of whose arm it is, no node publishes {silent[0]}/status as a "
            f"controller does; nothing was asked. Heard: {_words(found)}. If it is no arm of yours, name yours"
        )
    arms, nodes = (Counter(c.arm for c in found), Counter(c.node for c in found))
    twice = [c for c in found if arms[c.arm] > 1 or nodes[c.node] > 1]
    if twice:
        raise SeveralSystems(
            "another system in this ROS domain has the same names, so nobody can say which arm is meant; nothing was "
            f"asked. Heard: {_words(twice)}. Mend: {KEEP_APART}"
        )


def one_system(found: Iterable[Controller]) -> None:
    """Errors: SeveralSystems where the arms are not those of one robot."""
    found = tuple(found)
    if len({controller.system for controller in found}) > 1:
        arms = " ".join(c.arm for c in found if c.system == found[0].system)
        raise SeveralSystems(
            f"arms of several systems are in this ROS domain, and nothing was asked. Heard: {_words(found)}. Mend: "
            f"name the arms that are meant (for instance: {arms}), or {KEEP_APART}"
        )


def _words(found: Iterable[Controller]) -> str:
    return "; ".join(str(controller) for controller in found) or "no controller"


def publishers_of(node: Node, arm: str) -> list[Controller]:
    """Who publishes the arm's status, as far as discovery has come; parameters are not asked for. A name that discovery
    has not brought yet is awaited for two seconds at most."""
    deadline = time.monotonic() + 2.0
    while True:
        ends = [end for end in node.get_publishers_info_by_topic(f"/{arm}/status") if end.topic_type == STATUS_TYPE]
        unknown = [end for end in ends if "_UNKNOWN_" in end.node_name + end.node_namespace]
        if not unknown or time.monotonic() > deadline:
            return [Controller(arm, f"{end.node_namespace.rstrip('/')}/{end.node_name}") for end in ends]
        time.sleep(0.1)    # the graph has no event of a name that became known
