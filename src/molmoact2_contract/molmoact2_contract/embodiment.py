# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The embodiment contract: everything that is fixed about one robot, in one YAML file.

Read by policy, controller, simulator and replay alike. Angles in radians, lengths in metres, times in seconds;
every gripper 0 (closed) .. 1 (open). The format is described in docs/contract.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .compliance import Compliance, read_compliance
from .kinematics import FAR, TURN, Kinematics, Workspace, pose_of, read_links, read_workspace
from .reading import ContractError, Section, read_file
from .resources import find_resource
from .stopping import Stopping, read_stopping

FORMAT = "molmoact2_contract.v1"
REVOLUTE, GRIPPER = "revolute", "gripper"
OTHERS = ("policy", "world", "cameras")    # namespaces that are no arms


@dataclass(frozen=True)
class Joint:
    """One joint. Units: rad for a revolute joint, opening 0 .. 1 for a gripper."""

    name: str
    kind: str
    lower: float
    upper: float
    velocity: float          # largest speed [unit/s]
    acceleration: float      # largest acceleration [unit/s^2]
    jerk: float              # largest jerk [unit/s^3]
    soft_zone: float         # before a position limit; in it the velocity limit towards the limit falls [unit]
    max_step: float          # largest plausible step between two waypoints [unit]
    tracking: float          # largest plausible difference between command and measurement [unit]
    home: float
    rest: float

    @property
    def is_gripper(self) -> bool:
        return self.kind == GRIPPER


@dataclass(frozen=True)
class Urdf:
    """A robot model for displays: a file in an installed package (of ROS or of Python). Looked for where it is used."""

    package: str
    path: str


@dataclass(frozen=True)
class Arm:
    """One arm: the joints that one controller moves. The name is the namespace of its topics and services.

    kinematics, workspace, urdf, compliance, stopping: None where the contract gives none; a workspace needs kinematics.
    """

    name: str
    base_frame: str
    joints: tuple[str, ...]
    kinematics: Kinematics | None = None
    workspace: Workspace | None = None
    urdf: Urdf | None = None
    compliance: Compliance | None = None
    stopping: Stopping | None = None

    @property
    def frames(self) -> tuple[str, ...]:
        """The base frame and every link."""
        return (self.base_frame, *(self.kinematics.links if self.kinematics else ()))

    def depths(self, positions: np.ndarray) -> np.ndarray:
        """How far each point of the workspace lies outside [m], 0 inside, float64 (..., P), for positions (..., J);
        P is 0 where the arm has no workspace."""
        if self.kinematics is None or self.workspace is None:
            return np.zeros((*np.shape(positions)[:-1], 0))
        return self.workspace.outside(self.kinematics.points(positions, list(self.workspace.radii)))

    def outside(self, positions: np.ndarray, permitted: float | np.ndarray = 0.0) -> str:
        """Which point lies outside the workspace by more than is permitted [m]; empty where none does.

        positions (J,); permitted: scalar or (P,).
        """
        depths = self.depths(positions)
        beyond = depths - permitted
        if not (beyond > 0).any():
            return ""
        assert self.workspace is not None
        point = int(np.argmax(beyond))
        return f"{list(self.workspace.radii)[point]} would be {depths[point] * 1e3:.0f} mm outside the workspace"


@dataclass(frozen=True)
class Mount:
    """Where a camera is: the pose of its optical frame (z forward, x right, y down) in a frame of the robot.

    xyz [m], rpy [rad] (about the parent's fixed x, y, z).
    """

    parent: str
    xyz: np.ndarray
    rpy: np.ndarray

    @property
    def pose(self) -> np.ndarray:
        """In the parent's frame, float64 (4, 4)."""
        return pose_of(self.xyz, self.rpy)


@dataclass(frozen=True)
class Camera:
    """One camera. frozen_after: seconds of repeated bytes under new stamps that count as frozen; None: not checked.
    mount: None where the contract does not say where the camera is."""

    name: str
    topic: str
    info_topic: str
    transport: str           # "raw" or "compressed"
    frame_id: str
    frozen_after: float | None
    mount: Mount | None = None


@dataclass(frozen=True)
class JointFrame:
    """How the checkpoint speaks of one joint: model value = scale * ROS value + offset.

    For a revolute joint scale is sign * (1 or 180/pi); for a gripper scale = open - closed and offset = closed,
    where `closed` and `open` are the model's values at those ends.
    """

    scale: float
    offset: float


@dataclass(frozen=True)
class NormTag:
    """What a norm tag of a checkpoint means on this robot: timing, cameras in model order, units of each joint."""

    name: str
    dt: float
    first_offset: float
    first_offset_known: bool
    cameras: tuple[str, ...]
    frames: dict[str, JointFrame]    # by joint name, in the model's order


@dataclass(frozen=True)
class Contract:
    """One robot. `joints` is in the order of the model's state and action vectors."""

    path: Path
    embodiment: str
    setpoint_hz: float
    skew_limit: float
    max_observation_age: float
    joint_state_timeout: float
    blend_window: float
    resume_within: float
    tracking_time: float
    max_path_lag: float
    joints: dict[str, Joint]
    arms: dict[str, Arm]
    cameras: dict[str, Camera]
    norm_tags: dict[str, NormTag]

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(self.joints)

    def arm(self, name: str) -> Arm:
        """The arm of that name. Errors: ContractError that lists the arms there are."""
        return _lookup(self.arms, name, f"{self.path}: arm")

    def norm_tag(self, name: str) -> NormTag:
        """The norm tag of that name. Errors: ContractError that lists the tags there are."""
        return _lookup(self.norm_tags, name, f"{self.path}: norm tag")

    def values(self, field: str, names: tuple[str, ...] | None = None) -> np.ndarray:
        """One number of each joint, e.g. values("lower", arm.joints): float64 (len(names),)."""
        return np.array([getattr(self.joints[n], field) for n in (names or self.joint_names)], dtype=np.float64)


def _lookup(table: dict, name: str, what: str):
    if name not in table:
        raise ContractError(f"{what} {name!r} is not there; there are: {', '.join(table)}")
    return table[name]


def load_contract(name_or_path: str | Path) -> Contract:
    """Reads and checks an embodiment contract.

    name_or_path: a file, or the name of one in config/embodiments. Errors: ContractError naming file and line.
    """
    path = find_resource("config/embodiments", name_or_path, ".yaml")
    with read_file(path, FORMAT) as top:
        embodiment = top.text("embodiment")
        top.text("description", "-")
        with top.section("control") as control:
            numbers = {
                "setpoint_hz": control.number("setpoint_hz", least=20, most=1000),
                "skew_limit": control.number("skew_limit", above=0, most=1),
                "max_observation_age": control.number("max_observation_age", above=0, most=10),
                "joint_state_timeout": control.number("joint_state_timeout", above=0, most=1),
                "blend_window": control.number("blend_window", least=0.02, most=2),
                "resume_within": control.number("resume_within", least=0, most=60),
                "tracking_time": control.number("tracking_time", above=0, most=5),
                "max_path_lag": control.number("max_path_lag", above=0, most=10),
            }
        joints = {name: _joint(name, section) for name, section in top.sections("joints")}
        arms = {name: _arm(name, section, joints) for name, section in top.sections("arms", ros=True, reserved=OTHERS)}
        _check_each_joint_has_one_arm(top, joints, arms)
        _check_each_frame_is_named_once(top, arms)
        frames = tuple(frame for arm in arms.values() for frame in arm.frames)
        cameras = {name: _camera(name, section, frames) for name, section in top.sections("cameras", ros=True)}
        tags = {name: _norm_tag(name, section, joints, cameras) for name, section in top.sections("norm_tags")}
    return Contract(path, embodiment, **numbers, joints=joints, arms=arms, cameras=cameras, norm_tags=tags)


def _joint(name: str, section: Section) -> Joint:
    with section as s:
        kind = s.choice("kind", (REVOLUTE, GRIPPER), REVOLUTE)
        if kind == GRIPPER:
            lower, upper = 0.0, 1.0
        else:
            lower, upper = s.pair("position", size=2 * TURN)
        joint = Joint(
            name, kind, lower, upper,
            velocity=s.number("velocity", least=0.01, most=20),
            acceleration=s.number("acceleration", least=0.1, most=200),
            jerk=s.number("jerk", least=1, most=20_000),
            soft_zone=s.number("soft_zone", 0.0, least=0, most=min(1.0, (upper - lower) / 2)),
            max_step=s.number("max_step", above=0, most=TURN),
            tracking=s.number("tracking", above=0, most=TURN / 4),
            home=s.number("home"),
            rest=s.number("rest"),
        )
        for key, value in (("home", joint.home), ("rest", joint.rest)):
            if not lower <= value <= upper:
                raise s.error(key, f"is {value:g}, outside the position limits [{lower:g}, {upper:g}]")
        return joint


def _arm(name: str, section: Section, joints: dict[str, Joint]) -> Arm:
    with section as s:
        base_frame, names = s.text("base_frame"), s.names("joints")
        for joint in names:
            if joint not in joints:
                raise s.error("joints", f"names {joint!r}, which is not under joints; there are: {', '.join(joints)}")
        turning = [joint for joint in names if not joints[joint].is_gripper]
        links = read_links(s, base_frame, turning)
        kinematics, compliance = Kinematics(names, links) if links else None, read_compliance(s, len(turning))
        workspace, stopping = read_workspace(s, links), read_stopping(s)
        arm = Arm(name, base_frame, names, kinematics, workspace, _urdf(s), compliance, stopping)
        for pose in ("home", "rest"):
            outside = arm.outside(np.array([getattr(joints[joint], pose) for joint in names]))
            if outside:
                raise s.error("workspace", f"leaves out the {pose} pose: {outside}")
        return arm


def _urdf(arm: Section) -> Urdf | None:
    if "urdf" not in arm:
        return None
    with arm.section("urdf") as s:
        urdf = Urdf(s.text("package"), s.text("path"))
        if Path(urdf.path).is_absolute() or ".." in Path(urdf.path).parts:
            raise s.error("path", f"must lie within the package, not {urdf.path!r}")
        return urdf


def _check_each_frame_is_named_once(top: Section, arms: dict[str, Arm]) -> None:
    """Arms may stand on one base, or one on a link of another; a link that two of them name would have two poses."""
    links = [link for arm in arms.values() for link in arm.frames[1:]]
    for link in links:
        if links.count(link) > 1:
            raise top.error("arms", f"name link {link!r} twice; give each arm's links names of their own")


def _check_each_joint_has_one_arm(top: Section, joints: dict[str, Joint], arms: dict[str, Arm]) -> None:
    for joint in joints:
        owners = [arm.name for arm in arms.values() if joint in arm.joints]
        if len(owners) != 1:
            raise top.error("arms", f"must give joint {joint!r} to exactly one arm, not to {owners or 'none'}")


def _camera(name: str, section: Section, frames: tuple[str, ...]) -> Camera:
    with section as s:
        if s.text("frame_id") in frames:
            raise s.error("frame_id", "is a link of the robot; the optical frame needs a name of its own")
        return Camera(
            name,
            topic=s.topic("topic"),
            info_topic=s.topic("info_topic"),
            transport=s.choice("transport", ("raw", "compressed"), "raw"),
            frame_id=s.text("frame_id"),
            frozen_after=s.optional_number("frozen_after", above=0, most=60),
            mount=_mount(s, frames),
        )


def _mount(camera: Section, frames: tuple[str, ...]) -> Mount | None:
    if "mount" not in camera:
        return None
    with camera.section("mount") as s:
        xyz, rpy = s.vector("xyz", 3, size=FAR), s.vector("rpy", 3, size=TURN)
        return Mount(s.choice("parent", frames), np.array(xyz), np.array(rpy))


def _norm_tag(name: str, section: Section, joints: dict[str, Joint], cameras: dict[str, Camera]) -> NormTag:
    with section as s:
        names = s.names("cameras")
        for camera in names:
            if camera not in cameras:
                there = ", ".join(cameras)
                raise s.error("cameras", f"names {camera!r}, which is not under cameras; there are: {there}")
        if "model_frame" not in s:
            raise s.error("model_frame", "is missing: without it nobody knows the units of this tag")
        with s.section("model_frame") as frame:
            given = dict(frame.sections("joints"))
            if list(given) != list(joints):
                raise frame.error("joints", f"must name the contract's joints in their order: {', '.join(joints)}")
            offset = frame.number("first_offset", least=0, most=10)
            known = frame.flag("first_offset_known")
            frames = {joint: _joint_frame(given[joint], joints[joint]) for joint in joints}
        return NormTag(name, s.number("dt", least=0.001, most=1), offset, known, names, frames)


def _joint_frame(section: Section, joint: Joint) -> JointFrame:
    with section as s:
        if joint.is_gripper:
            closed, opened = s.number("closed"), s.number("open")
            if closed == opened:
                raise s.error("open", f"must differ from closed ({closed:g})")
            return JointFrame(scale=opened - closed, offset=closed)
        unit = s.choice("unit", ("rad", "deg"))
        sign = s.number("sign", 1.0)
        if sign not in (1.0, -1.0):
            raise s.error("sign", f"must be 1 or -1, not {sign:g}")
        return JointFrame(scale=sign * (math.degrees(1.0) if unit == "deg" else 1.0), offset=s.number("offset", 0.0))
