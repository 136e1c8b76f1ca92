# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a bag is of the robot that a contract describes, and that robot as the bag has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from molmoact2_contract import Camera, Contract, NormTag

from ..bags.bag import Bag, BagError
from ..ingest import IMAGE
from ..report.run import JOINTS, TRACES, resolved

RAW, COMPRESSED, JOINT_STATES = (
    "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/JointState"
)
LOOK_AT = 500    # joint states that are read to learn which joints there are


@dataclass(frozen=True)
class Embodied:
    """A robot as a bag has it.

    contract: its cameras have the bag's topics, transports and, where the topic was renamed, frames. topics: name of a
    topic in traces and contract -> in the bag, where they differ. joints: name of a joint in the bag -> in the
    contract. joint_topic: in the bag. lossy: cameras whose images were recorded with loss.
    """

    contract: Contract
    topics: Mapping[str, str]
    joints: Mapping[str, str]
    joint_topic: str
    lossy: tuple[str, ...] = ()

    def live_name(self, topic: str) -> str:
        """Full name of a topic of the bag in the contract's words, as the live node's traces would have it."""
        return next((live for live, here in self.topics.items() if here == resolved(topic)), resolved(topic))

    def joint_state(self, message: Any) -> Any:
        """A joint state with the contract's names."""
        if not self.joints:
            return message
        return replace(message, name=[self.joints.get(name, name) for name in message.name])


def embody(
    bag: Bag, contract: Contract, tag: NormTag, topics: Mapping[str, str], joints: Mapping[str, str]
) -> Embodied:
    """Finds the cameras of a norm tag and the joints of a contract in a bag.

    topics: name in contract and traces -> in the bag; joints: name in the bag -> in the contract. Errors: BagError that
    names what is missing.
    """
    kinds = bag.types
    renamed = {resolved(old): resolved(new) for old, new in topics.items()}
    for old, new in renamed.items():
        if new not in kinds:
            there = ", ".join(sorted(kinds))
            raise BagError(f"bag {bag.path} has no topic {new} (--topic {old}={new}); it has: {there}")
    cameras = dict(contract.cameras)
    for name in tag.cameras:
        cameras[name] = _camera(bag, contract, cameras[name], kinds, renamed)
    trace = next((message for _, _, message, _ in bag.messages({TRACES})), None)
    used = [] if trace is None else [str(item.topic) for item in trace.inputs if item.kind != IMAGE]
    joint_topic = renamed.get(JOINTS) or next(iter(used), JOINTS)
    if kinds.get(joint_topic) != JOINT_STATES:
        there = _of_type(kinds, JOINT_STATES)
        raise BagError(
            f"bag {bag.path} has no joint states on {joint_topic}; its joint states: {there}; "
            "name theirs with --topic joint_states=TOPIC"
        )
    _check_joints(bag, contract, joint_topic, joints)
    lossy = tuple(
        name for name in tag.cameras
        if (cameras[name].transport, contract.cameras[name].transport) == ("compressed", "raw")
        and _is_jpeg(bag, resolved(cameras[name].topic))
    )
    recorded = Embodied(replace(contract, cameras=cameras), renamed, joints, joint_topic, lossy)
    if trace is not None:
        _check_trace(bag, contract, tag, recorded, trace)
    return recorded


def _camera(bag: Bag, contract: Contract, camera: Camera, kinds: Mapping[str, str], renamed: dict[str, str]) -> Camera:
    topic = resolved(camera.topic)
    found = renamed.get(topic)
    if found is None:
        # A recorder may keep a raw camera compressed, on the topic that image_transport gives it.
        found = next((t for t in (topic, f"{topic}/compressed") if kinds.get(t) in (RAW, COMPRESSED)), None)
        if found is None:
            raise BagError(
                f"bag {bag.path} has no images on {topic}, camera {camera.name!r} of {contract.path.name}; its images: "
                f"{_of_type(kinds, RAW, COMPRESSED)}; is it a bag of another robot? Else say which topic it is with "
                f"--topic {camera.topic}=TOPIC"
            )
        if found == topic:
            return replace(camera, transport=_transport(kinds[found]))
        renamed[topic] = found
        return replace(camera, topic=found, transport=_transport(kinds[found]))
    if kinds[found] not in (RAW, COMPRESSED):
        raise BagError(f"bag {bag.path}: {found} holds {kinds[found]}, no images")
    first = next((message for _, _, message, _ in bag.messages({found})), None)
    frame = camera.frame_id if first is None else first.header.frame_id
    return replace(camera, topic=found, transport=_transport(kinds[found]), frame_id=frame)


def _is_jpeg(bag: Bag, topic: str) -> bool:
    first = next((message for _, _, message, _ in bag.messages({topic})), None)
    return first is not None and ("jpeg" in first.format or "jpg" in first.format)


def _transport(kind: str) -> str:
    return "compressed" if kind == COMPRESSED else "raw"


def _of_type(kinds: Mapping[str, str], *wanted: str) -> str:
    return ", ".join(sorted(topic for topic, kind in kinds.items() if kind in wanted)) or "none"


def _check_joints(bag: Bag, contract: Contract, topic: str, joints: Mapping[str, str]) -> None:
    """Whether the joint states speak of the contract's joints, all of them."""
    for new in joints.values():
        if new not in contract.joints:
            there = ", ".join(contract.joints)
            raise BagError(f"--joint: {new!r} is no joint of {contract.path.name}; it has: {there}")
    seen: dict[str, None] = {}
    for count, (_, _, message, _) in enumerate(bag.messages({topic})):
        seen.update(dict.fromkeys(joints.get(name, name) for name in message.name))
        if count >= LOOK_AT or set(contract.joints) <= set(seen):
            break
    else:
        if not seen:
            raise BagError(f"bag {bag.path}: no joint state was recorded on {topic}")
    unknown, missing = [n for n in seen if n not in contract.joints], [n for n in contract.joints if n not in seen]
    if unknown or missing:
        lacks = f"lack {', '.join(missing)}" if missing else ""
        strange = f"name {', '.join(unknown)}, unknown to it" if unknown else ""
        raise BagError(
            f"bag {bag.path} is of another robot than {contract.path.name}: its joint states "
            f"{' and '.join(filter(None, (lacks, strange)))}; choose its contract with --contract, or rename joints "
            "with --joint THEIRS=OURS"
        )


def _check_trace(bag: Bag, contract: Contract, tag: NormTag, recorded: Embodied, trace: Any) -> None:
    """Whether the traces speak of these cameras."""
    used = [recorded.topics.get(item.topic, item.topic) for item in trace.inputs if item.kind == IMAGE]
    wanted = [resolved(recorded.contract.cameras[name].topic) for name in tag.cameras]
    if used != wanted:
        raise BagError(
            f"bag {bag.path}: its traces used the images {', '.join(used)}; norm tag {tag.name!r} of "
            f"{contract.path.name} asks for {', '.join(wanted)}; choose the contract and norm tag they were made with, "
            "or say which topic is which with --topic"
        )
