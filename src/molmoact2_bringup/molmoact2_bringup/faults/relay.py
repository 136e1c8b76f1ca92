# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Relays between sensors and the policy: what comes on a topic goes out under another name, sound or spoilt."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image, JointState

from molmoact2_contract import Contract, ContractError
from molmoact2_contract.qos import SENSOR_PUBLISH, SENSOR_SUBSCRIBE

PREFIX = "spoilt/"
JOINTS = "joint_states"
LOOK = 0.02    # [s]; how often it is looked whether a late message is due
Spoil = Callable[[Any], list[Any]]


@dataclass(frozen=True)
class Treatment:
    """What happens on the way. to: the topic under whose spoilt name it goes out; spoil: None where messages go through
    as they are; late: for how long they are held back [s]."""

    to: str
    spoil: Spoil | None = None
    late: float = 0.0


def relayed(contract: Contract) -> dict[str, type]:
    """What is relayed: cameras and joint states. Errors: ContractError for a camera that sends no raw images."""
    for camera in contract.cameras.values():
        if camera.transport != "raw":
            raise ContractError(
                f"camera {camera.name} of {contract.path.name} sends {camera.transport} images; "
                "faults are made of raw ones"
            )
    return {camera.topic: Image for camera in contract.cameras.values()} | {JOINTS: JointState}


def remap(contract: Contract) -> dict[str, str]:
    """For the process that shall read the relays instead of the sensors: topic -> its spoilt name."""
    return {topic: PREFIX + topic for topic in relayed(contract)}


class Relays:
    """Relays of a robot's cameras and joint states, on a node that another thread spins. Stamps and frames are kept.

    Faults are switched from any thread; they act on what comes after.
    """

    def __init__(self, node: Node, contract: Contract):
        self._lock = threading.Lock()
        self._topics = relayed(contract)
        self._treatments = {topic: Treatment(topic) for topic in self._topics}
        self._late: deque[tuple[float, Publisher, Any]] = deque()
        self._publishers = {t: node.create_publisher(k, PREFIX + t, SENSOR_PUBLISH) for t, k in self._topics.items()}
        for topic, kind in self._topics.items():
            node.create_subscription(kind, topic, partial(self._on_message, topic), SENSOR_SUBSCRIBE)
        node.create_timer(LOOK, self._send_due)

    # --- faults -------------------------------------------------------------------------------------------------------
    def spoil(self, topic: str, spoil: Spoil) -> None:
        """Everything that comes on a topic is spoilt from now on."""
        self._treat({topic: Treatment(topic, spoil)})

    def hold_back(self, topic: str, seconds: float) -> None:
        """Everything that comes on a topic goes out so much later, under its own stamp."""
        self._treat({topic: Treatment(topic, late=seconds)})

    def exchange(self, one: str, other: str) -> None:
        """What comes on the one topic goes out as the other, and the other way round."""
        if self._topics[one] is not self._topics[other]:
            raise ValueError(f"{one} and {other} are of different types")
        self._treat({one: Treatment(other), other: Treatment(one)})

    def sound(self) -> None:
        """Everything goes through as it comes again; what is held back is lost, as its successors overtake it."""
        self._treat({topic: Treatment(topic) for topic in self._topics})

    def _treat(self, treatments: dict[str, Treatment]) -> None:
        unknown = sorted(set(treatments) - set(self._topics))
        if unknown:
            raise KeyError(f"{', '.join(unknown)} is not relayed; these are: {', '.join(self._topics)}")
        with self._lock:
            self._treatments.update(treatments)
            if not any(t.late for t in self._treatments.values()):
                self._late.clear()

    # --- executor thread ----------------------------------------------------------------------------------------------
    def _on_message(self, topic: str, message: Any) -> None:
        with self._lock:
            treatment = self._treatments[topic]
            publisher = self._publishers[treatment.to]
            messages = [message] if treatment.spoil is None else treatment.spoil(message)
            if treatment.late:
                due = time.monotonic() + treatment.late
                self._late.extend((due, publisher, m) for m in messages)
                return
        for spoilt in messages:
            publisher.publish(spoilt)

    def _send_due(self) -> None:
        due = []
        with self._lock:
            while self._late and self._late[0][0] <= time.monotonic():
                due.append(self._late.popleft())
        for _, publisher, message in due:
            publisher.publish(message)
