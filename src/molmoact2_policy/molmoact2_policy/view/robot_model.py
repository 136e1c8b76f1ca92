# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The URDF of a robot's package, made fit for a display: meshes by file:// URIs, and its joints for the links that the
contract does not name (fingers, covers). Nothing moves by it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from molmoact2_contract import Contract, ContractError, Urdf
from molmoact2_contract.kinematics import pose_of, rotation_about

TURNING, SLIDING = ("revolute", "continuous"), ("prismatic",)


@dataclass(frozen=True)
class UrdfJoint:
    """One joint: the child's frame in the parent's, at zero `origin` (4, 4), moved along or about `axis`. mimic: the
    joint it follows, factor and offset; None where it moves by itself."""

    name: str
    kind: str
    parent: str
    child: str
    origin: np.ndarray
    axis: np.ndarray
    lower: float
    upper: float
    mimic: tuple[str, float, float] | None

    @property
    def moves(self) -> bool:
        return self.kind in (*TURNING, *SLIDING)

    def pose(self, value: float) -> np.ndarray:
        """Pose in the parent's frame, float64 (4, 4), for a position [rad, or m where it slides]."""
        motion = np.eye(4)
        if self.kind in TURNING:
            motion[:3, :3] = rotation_about(self.axis, value)
        elif self.kind in SLIDING:
            motion[:3, 3] = self.axis * value
        return self.origin @ motion


@dataclass(frozen=True)
class RobotModel:
    """description: URDF text whose meshes any process on this machine finds."""

    path: Path
    description: str
    links: tuple[str, ...]
    joints: tuple[UrdfJoint, ...]


def load_models(contract: Contract, file: str, warn: Callable[[str], object]) -> dict[str, RobotModel]:
    """The model of each arm that has one. file: of the only arm; empty: the contract's; "none": no models.

    A model of the contract that cannot be had is left out with a warning. Errors: ContractError for a file named here.
    """
    models: dict[str, RobotModel] = {}
    if file and file != "none":
        if len(contract.arms) > 1:
            raise ContractError(f"urdf {file!r}: the robot has several arms; name their models in its contract")
        return {next(iter(contract.arms)): load_robot_model(Path(file).expanduser())}
    for name, arm in contract.arms.items() if not file else ():
        if arm.urdf is None:
            continue
        try:
            models[name] = load_robot_model(find_urdf(arm.urdf))
        except ContractError as error:
            warn(f"arm {name} is shown without its model: {error}")
    return models


def find_urdf(urdf: Urdf) -> Path:
    """The file in the installed package. Errors: ContractError naming the package or the file."""
    path = _package_folder(urdf.package) / urdf.path
    if not path.is_file():
        raise ContractError(f"urdf: package {urdf.package!r} has no file {urdf.path}")
    return path


def _package_folder(package: str) -> Path:
    try:
        return Path(get_package_share_directory(package))
    except (PackageNotFoundError, ValueError):
        pass
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ContractError(f"urdf: package {package!r} is installed neither for ROS nor for Python; install it")
    return Path(found.submodule_search_locations[0])


def load_robot_model(path: Path) -> RobotModel:
    """Reads a URDF file. Errors: ContractError for what is no URDF, or a mesh that is not there."""
    try:
        robot = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ContractError(f"{path}: cannot be read as a URDF: {error}") from None
    if robot.tag != "robot":
        raise ContractError(f"{path}: is no URDF: its root is <{robot.tag}>, expected <robot>")
    for mesh in robot.iter("mesh"):
        mesh.set("filename", _mesh_uri(mesh.get("filename", ""), path))
    try:
        joints = tuple(_joint(element) for element in robot.findall("joint"))
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"{path}: a joint cannot be read: {error!r}") from None
    links = tuple(link.get("name", "") for link in robot.findall("link"))
    return RobotModel(path, ElementTree.tostring(robot, encoding="unicode"), links, joints)


def _mesh_uri(name: str, urdf: Path) -> str:
    if name.startswith("package://"):
        package, _, inside = name.removeprefix("package://").partition("/")
        file = _package_folder(package) / inside
    elif name.startswith("file://"):
        file = Path(name.removeprefix("file://"))
    else:
        file = urdf.parent / name
    if not name or not file.is_file():
        raise ContractError(f"{urdf}: mesh {name!r} is not there (looked for {file})")
    return file.resolve().as_uri()


def _joint(element: ElementTree.Element) -> UrdfJoint:
    def numbers(tag: str, key: str, default: str) -> np.ndarray:
        part = element.find(tag)
        values = np.array([float(v) for v in (default if part is None else part.get(key, default)).split()])
        if values.shape != (3,) or not np.isfinite(values).all():
            raise ValueError(f"{element.get('name')}: {tag} {key} must be three numbers")
        return values

    def child_of(tag: str) -> str:
        part = element.find(tag)
        if part is None:
            raise ValueError(f"{element.get('name')}: has no {tag}")
        return part.attrib["link"]

    axis, limit, mimic = numbers("axis", "xyz", "1 0 0"), element.find("limit"), element.find("mimic")
    follows = None
    if mimic is not None:
        follows = mimic.attrib["joint"], float(mimic.get("multiplier", 1)), float(mimic.get("offset", 0))
    return UrdfJoint(
        element.attrib["name"], element.attrib["type"], child_of("parent"), child_of("child"),
        pose_of(numbers("origin", "xyz", "0 0 0"), numbers("origin", "rpy", "0 0 0")),
        axis / max(float(np.linalg.norm(axis)), 1e-12),
        float(limit.get("lower", 0)) if limit is not None else 0.0,
        float(limit.get("upper", 0)) if limit is not None else 0.0,
        follows,
    )
