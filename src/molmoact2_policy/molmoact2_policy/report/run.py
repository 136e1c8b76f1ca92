# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One recorded run, read from its bag: everything but the pixels, which are read again where they are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from cv_bridge import CvBridge, CvBridgeError

from molmoact2_contract import Camera, Contract

from ..bags.bag import Bag, BagError, Names, stamp_ns

CONTROLLER, TRACE = "molmoact2_msgs/msg/ControllerStatus", "molmoact2_msgs/msg/ReasoningTrace"
CHUNKS, TRACES, POLICY, JOINTS = "/policy/action_chunk", "/policy/reasoning_trace", "/policy/status", "/joint_states"
TESTS = "/success_tests"


class Timed(NamedTuple):
    """A message and when it was received [ns, ROS time]."""

    receive_ns: int
    message: Any


@dataclass
class Enumerations:
    """Names of the enumerations as the recorded definitions have them."""

    state: Names
    fault: Names
    refusal: Names
    depth_mode: Names


@dataclass
class Run:
    """A recorded run. Times in ns of ROS time; `seconds` turns them into robot time, 0 at the first message."""

    contract: Contract
    start_ns: int
    end_ns: int
    counts: dict[str, int]
    dropped: dict[str, int] | None
    names: Enumerations
    chunks: list[Timed] = field(default_factory=list)
    traces: list[Timed] = field(default_factory=list)
    policy: list[Timed] = field(default_factory=list)
    controllers: dict[str, list[Timed]] = field(default_factory=dict)            # by arm
    measured: dict[str, list[tuple[int, float]]] = field(default_factory=dict)   # by joint: (stamp, position)
    image_stamps: dict[str, list[int]] = field(default_factory=dict)             # by camera
    tests: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)       # by name: (stamp, whether it holds)

    def seconds(self, time_ns: int | float) -> float:
        """Robot time [s] of a ROS time [ns]."""
        return (time_ns - self.start_ns) / 1e9

    @property
    def duration(self) -> float:
        """Time covered [s]."""
        return self.seconds(self.end_ns)

    @property
    def cameras(self) -> list[Camera]:
        """The contract's cameras, that of the traces' main image first."""
        main = next((t.message.inputs[0].topic for t in self.traces if t.message.inputs), None)
        return sorted(self.contract.cameras.values(), key=lambda camera: resolved(camera.topic) != main)


class Frame(NamedTuple):
    """One recorded image: RGB uint8 (height, width, 3), its camera's name, capture stamp and receive time [ns]."""

    camera: str
    stamp_ns: int
    receive_ns: int
    image: np.ndarray


def resolved(topic: str) -> str:
    """Full name of a topic that the contract names."""
    return topic if topic.startswith("/") else f"/{topic}"


def read_run(bag: Bag, contract: Contract, until_ns: int | None = None) -> Run:
    """Reads a run, pixels left aside. until_ns: receive time after which nothing is read. Errors: BagError for a bag
    without any message."""
    if bag.span_ns is None:
        raise BagError(f"bag {bag.path} holds no message: nothing was recorded, there is nothing to report")
    start_ns, end_ns = bag.span_ns
    end_ns = end_ns if until_ns is None else min(end_ns, until_ns)
    run = Run(contract, start_ns, end_ns, bag.counts, bag.dropped, _names(bag))
    run.controllers = {arm: [] for arm in contract.arms}
    run.measured = {joint: [] for joint in contract.joints}
    run.image_stamps = {camera: [] for camera in contract.cameras}
    lists = {CHUNKS: run.chunks, TRACES: run.traces, POLICY: run.policy}
    lists.update({f"/{arm}/status": run.controllers[arm] for arm in contract.arms})
    cameras = {resolved(c.topic): c.name for c in contract.cameras.values()}
    for topic, _, message, receive_ns in bag.messages({*lists, *cameras, JOINTS, TESTS}):
        if receive_ns > end_ns:
            break
        if topic in lists:
            lists[topic].append(Timed(receive_ns, message))
        elif topic in cameras:
            run.image_stamps[cameras[topic]].append(stamp_ns(message.header.stamp))
        elif topic == TESTS:
            run.tests.setdefault(message.name, []).append((stamp_ns(message.header.stamp), bool(message.holds)))
        else:
            stamp = stamp_ns(message.header.stamp)
            for joint, position in zip(message.name, message.position, strict=False):
                if joint in run.measured:
                    run.measured[joint].append((stamp, float(position)))
    return run


def _names(bag: Bag) -> Enumerations:
    return Enumerations(
        state=bag.names(CONTROLLER, "uint8"),
        fault=bag.names(CONTROLLER, "uint16", "FAULT_"),
        refusal=bag.names(CONTROLLER, "uint16", "REFUSAL_"),
        depth_mode=bag.names(TRACE, "uint8", "DEPTH_"),
    )


def frames(bag: Bag, contract: Contract) -> Iterator[Frame]:
    """Every image of the contract's cameras, in the order of reception. Errors: BagError for one that is no picture."""
    cameras = {resolved(c.topic): c for c in contract.cameras.values()}
    bridge = CvBridge()
    for topic, typename, message, receive_ns in bag.messages(cameras):
        compressed = typename.endswith("/CompressedImage")
        decode = bridge.compressed_imgmsg_to_cv2 if compressed else bridge.imgmsg_to_cv2
        try:
            image = decode(message, "rgb8")
        except CvBridgeError as error:
            raise BagError(f"{topic}: an image of this bag cannot be shown: {error}") from error
        yield Frame(cameras[topic].name, stamp_ns(message.header.stamp), receive_ns, np.ascontiguousarray(image))
