# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes what a bag holds, on its topics, with /clock."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from importlib import import_module
from typing import Any

from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool

from molmoact2_contract.qos import SENSOR_PUBLISH

from ..bags.bag import Bag, BagError
from ..bags.definitions import typestore_of
from ..bags.topics import PROFILES
from .pacing import Pacing, check_rate

CLOCK_HZ = 100.0
CONTROLLER = "molmoact2_msgs/msg/ControllerStatus"
LOOK_AROUND = 1.0    # [s] between two looks at who else publishes


class Conflict(RuntimeError):
    """Another node publishes on a topic that is to be played: a robot may be running there."""


class Player(Node):
    """Plays one open bag. Service ~/pause (std_srvs/SetBool), parameter rate; both at any time.

    It plays only where nobody else publishes, and where no controller of an arm runs, whatever of the bag is played:
    recorded chunks, states and joints among those of a running robot could move it. left_out: topics that are not
    played. Errors: BagError where nothing can be played, Conflict.
    """

    def __init__(self, bag: Bag, rate: float, paused: bool, left_out: Collection[str] = (), **options: Any):
        super().__init__("player", **options)
        check_rate(rate)
        span = bag.span_ns
        if span is None:
            raise BagError(f"bag {bag.path} holds no message: there is nothing to play")
        self.start_ns, self.end_ns = span
        self._bag, self.unplayed = bag, dict[str, str]()
        self._pacing = Pacing(self.start_ns, rate, paused)
        self._topics = self._publishers_of(set(left_out))
        if not self._topics:
            raise BagError(f"bag {bag.path}: none of its topics can be played: {self.unplayed}")
        self._clock_topic = self.create_publisher(Clock, "/clock", SENSOR_PUBLISH)
        self.declare_parameter("rate", rate, ParameterDescriptor(description="times the recorded pace, 0.01 to 100"))
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_service(SetBool, "~/pause", self._on_pause)
        self._looked = 0.0
        self.played = 0

    def _publishers_of(self, left_out: set[str]) -> dict[str, Publisher]:
        made = {}
        for topic, typename in sorted(self._bag.types.items()):
            if topic in left_out:
                self.unplayed[topic] = "left out"
                continue
            package, folder, name = typename.split("/")
            try:
                kind = getattr(import_module(f"{package}.{folder}"), name)
            except (ImportError, AttributeError):
                self.unplayed[topic] = f"its type {typename} is not installed"
                continue
            if self._bag.typestore.hash_rihs01(typename) != typestore_of({typename}).hash_rihs01(typename):
                self.unplayed[topic] = f"its type {typename} is another version of the one installed here"
                continue
            made[topic] = self.create_publisher(kind, topic, PROFILES.get(kind, SENSOR_PUBLISH))
        return made

    # --- playing ------------------------------------------------------------------------------------------------------
    def steps(self) -> Iterator[float]:
        """Plays message by message; gives back how long may be spent elsewhere [s], in slices, before it goes on."""
        self.look_around()
        self._pacing.begin(time.monotonic())
        clock_due = 0.0    # also while paused: whoever comes late learns the time
        for topic, typename, message, receive_ns in self._bag.messages(set(self._topics)):
            while True:
                now = time.monotonic()
                self.look_around()
                if now >= clock_due:
                    self._publish_clock(min(self._pacing.now_ns(now), receive_ns))
                    clock_due = now + 1.0 / CLOCK_HZ
                left = self._pacing.wait(receive_ns, now)
                if left == 0.0:
                    break
                yield 1.0 / CLOCK_HZ if left is None else min(left, 1.0 / CLOCK_HZ)
            self._topics[topic].publish(bytes(self._bag.typestore.serialize_cdr(message, typename)))
            self.played += 1
            yield 0.0
        self._publish_clock(self.end_ns)

    def look_around(self) -> None:
        """Errors: Conflict."""
        now = time.monotonic()
        if now - self._looked < LOOK_AROUND:
            return
        self._looked = now
        own = (self.get_name(), self.get_namespace())
        for topic in [*self._topics, "/clock"]:
            for info in self.get_publishers_info_by_topic(topic):
                if (info.node_name, info.node_namespace) != own:
                    raise Conflict(
                        f"{topic} is published by node {info.node_name!r}: a system runs here, and what is played "
                        "could move it; play in another ROS_DOMAIN_ID, stop that node, or leave the topic out with "
                        "--without"
                    )

        for topic, kinds in self.get_topic_names_and_types():
            if CONTROLLER in kinds:
                for info in self.get_publishers_info_by_topic(topic):
                    if (info.node_name, info.node_namespace) != own:
                        raise Conflict(
                            f"node {info.node_name!r} controls an arm here ({topic}), and what is played could move "
                            "it; play in another ROS_DOMAIN_ID, or stop that node"
                        )

    def progress(self) -> float:
        """Seconds of the bag that have been played."""
        return (min(self._pacing.now_ns(time.monotonic()), self.end_ns) - self.start_ns) / 1e9

    @property
    def lacks(self) -> list[str]:
        """What the bag is known to lack; all of it once it was played."""
        return self._bag.lacks

    @property
    def paused(self) -> bool:
        return self._pacing.paused

    def _publish_clock(self, now_ns: int) -> None:
        seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
        self._clock_topic.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))

    # --- control ------------------------------------------------------------------------------------------------------
    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._pacing.pause(request.data, time.monotonic())
        response.success, response.message = True, "paused" if request.data else "playing"
        return response

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "rate":
                try:
                    self._pacing.set_rate(float(parameter.value), time.monotonic())
                except (TypeError, ValueError) as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)
