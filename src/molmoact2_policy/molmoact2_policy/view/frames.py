# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The frames of a robot (REP-103, REP-105): the contract's links, camera mounts, and links that only its URDF has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from scipy.spatial.transform import Rotation

from molmoact2_contract import Arm, Contract

from .robot_model import RobotModel, UrdfJoint


@dataclass(frozen=True)
class Frame:
    """A frame in its parent's: pose float64 (4, 4) [m]."""

    parent: str
    child: str
    pose: np.ndarray


class RobotFrames:
    """models: the robot model of each arm that has one."""

    def __init__(self, contract: Contract, models: Mapping[str, RobotModel]):
        self._contract = contract
        named = {frame for arm in contract.arms.values() for frame in arm.frames}
        # Only links that hang on the contract's frames; a URDF with other names of its own is not ours to place.
        self._extra: list[tuple[Arm, UrdfJoint]] = []
        for name, model in models.items():
            known, rest = set(named), list(model.joints)
            while hanging := [joint for joint in rest if joint.parent in known]:
                rest = [joint for joint in rest if joint.parent not in known]
                self._extra += [(contract.arm(name), joint) for joint in hanging if joint.child not in named]
                known |= {joint.child for joint in hanging}
        self.fixed = [*self._fixed_links(), *self._mounts()]
        self.fixed += [Frame(j.parent, j.child, j.origin) for _, j in self._extra if not j.moves]
        moving = [link.name for arm in contract.arms.values() if arm.kinematics
                  for link in arm.kinematics.links.values() if link.joint]
        extra = [joint.child for _, joint in self._extra if joint.moves]
        self.children = {*moving, *extra, *(frame.child for frame in self.fixed)}

    def _fixed_links(self) -> list[Frame]:
        links = [link for arm in self._arms() for link in arm.kinematics.links.values() if link.joint is None]
        poses = {name: pose for arm in self._arms()
                 for name, pose in _in_parents(arm, np.zeros(len(arm.joints))).items()}
        return [Frame(link.parent, link.name, poses[link.name]) for link in links]

    def _mounts(self) -> list[Frame]:
        mounted = [camera for camera in self._contract.cameras.values() if camera.mount]
        return [Frame(c.mount.parent, c.frame_id, c.mount.pose) for c in mounted if c.mount]

    def _arms(self) -> list[Arm]:
        return [arm for arm in self._contract.arms.values() if arm.kinematics]

    def moving(self, positions: Mapping[str, float]) -> list[Frame]:
        """Frames that joints move, of each arm whose joints are all given [rad; grippers 0 .. 1]."""
        frames = []
        for arm in self._contract.arms.values():
            if not all(joint in positions for joint in arm.joints):
                continue
            if arm.kinematics:
                poses = _in_parents(arm, np.array([positions[joint] for joint in arm.joints]))
                links = [link for link in arm.kinematics.links.values() if link.joint]
                frames += [Frame(link.parent, link.name, poses[link.name]) for link in links]
            frames += [
                Frame(j.parent, j.child, j.pose(self._value(arm, j, positions)))
                for owner, j in self._extra if owner is arm and j.moves
            ]
        return frames

    def _value(self, arm: Arm, joint: UrdfJoint, positions: Mapping[str, float]) -> float:
        """Position of a joint of the URDF; zero where nothing in the contract moves it."""
        if joint.mimic is not None:
            followed, factor, offset = joint.mimic
            source = next((j for owner, j in self._extra if owner is arm and j.name == followed), None)
            value = positions.get(followed, 0.0) if source is None else self._value(arm, source, positions)
            return factor * value + offset
        if joint.name not in arm.joints:
            return 0.0
        if self._contract.joints[joint.name].is_gripper:
            return joint.lower + positions[joint.name] * (joint.upper - joint.lower)
        return positions[joint.name]


def _in_parents(arm: Arm, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Pose of each link in its parent's frame."""
    assert arm.kinematics is not None
    frames = arm.kinematics.frames(positions)
    return {
        name: np.linalg.inv(frames[link.parent]) @ frames[name] if link.parent in frames else frames[name]
        for name, link in arm.kinematics.links.items()
    }


def transform(frame: Frame, stamp: Time) -> TransformStamped:
    message = TransformStamped()
    message.header.stamp, message.header.frame_id, message.child_frame_id = stamp, frame.parent, frame.child
    x, y, z = (float(v) for v in frame.pose[:3, 3])
    message.transform.translation.x, message.transform.translation.y, message.transform.translation.z = x, y, z
    qx, qy, qz, qw = (float(v) for v in Rotation.from_matrix(frame.pose[:3, :3]).as_quat())
    rotation = message.transform.rotation
    rotation.x, rotation.y, rotation.z, rotation.w = qx, qy, qz, qw
    return message
