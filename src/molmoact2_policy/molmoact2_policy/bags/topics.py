# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is recorded of a robot, and with which quality of service."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from molmoact2_contract import Contract
from molmoact2_contract.qos import CHUNK, DIAGNOSTICS, SENSOR_PUBLISH, STATUS, SUCCESS_TESTS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace, SuccessTest

DEPTH = 100         # messages that the middleware keeps while the executor is busy
LARGE_DEPTH = 20    # the same for images

PROFILES: dict[type, QoSProfile] = {
    ActionChunk: CHUNK,
    ReasoningTrace: TRACE,
    ControllerStatus: STATUS,
    PolicyStatus: STATUS,
    SuccessTest: SUCCESS_TESTS,
    DiagnosticArray: DIAGNOSTICS,
}


def topics_of(contract: Contract) -> dict[str, type]:
    """The topics of a robot's running system and their types: cameras, joints, policy, controllers, tests of success,
    diagnostics."""
    topics: dict[str, type] = {}
    for camera in contract.cameras.values():
        topics[camera.topic] = CompressedImage if camera.transport == "compressed" else Image
        topics[camera.info_topic] = CameraInfo
    topics["joint_states"] = JointState
    for arm in contract.arms:
        topics[f"{arm}/status"] = ControllerStatus
    topics["policy/action_chunk"] = ActionChunk
    topics["policy/reasoning_trace"] = ReasoningTrace
    topics["policy/status"] = PolicyStatus
    topics["success_tests"] = SuccessTest
    topics["/diagnostics"] = DiagnosticArray
    return topics


def profile_for(node: Node, topic: str, kind: type) -> QoSProfile:
    """The profile of the traffic's class, with a history deep enough to lose nothing while the executor is busy.

    A type of no class of its own is taken as what is published keeps for those who come late, if it does.
    """
    base = PROFILES.get(kind, SENSOR_PUBLISH)
    durability = base.durability
    if kind not in PROFILES:
        offered = {info.qos_profile.durability for info in node.get_publishers_info_by_topic(topic)}
        if offered == {DurabilityPolicy.TRANSIENT_LOCAL}:
            durability = DurabilityPolicy.TRANSIENT_LOCAL
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=LARGE_DEPTH if kind in (Image, CompressedImage) else DEPTH,
        reliability=base.reliability,
        durability=durability,
    )


def relaxed(profile: QoSProfile) -> QoSProfile:
    """What every publisher can serve."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=profile.depth,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )
