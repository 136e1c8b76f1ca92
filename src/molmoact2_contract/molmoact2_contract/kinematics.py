# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics of one arm, and the workspace that its points must not leave. Metres, radians, base frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .reading import Section

FAR_TABLE = 2.0                   # [m]; no arm stands farther from its table's height
FAR, TURN = 100.0, 2 * math.pi    # [m], [rad]: largest sizes that a contract may give


@dataclass(frozen=True)
class Link:
    """One frame, as a URDF joint gives it: in its parent's frame, then turned by its joint about `axis`.

    xyz [m], rpy [rad] (about the parent's fixed x, y, z); joint: None for a fixed frame; axis: unit vector.
    """

    name: str
    parent: str
    joint: str | None
    xyz: np.ndarray
    rpy: np.ndarray
    axis: np.ndarray


@dataclass(frozen=True)
class Workspace:
    """Where the points of an arm may be, in its base frame [m]: inside the box, and above the table by their radius.

    lower, upper: float64 (3,); table: height of its top, None where there is none; radii: by link, whose origin is the
    point.
    """

    lower: np.ndarray
    upper: np.ndarray
    table: float | None
    radii: dict[str, float]

    def outside(self, points: np.ndarray) -> np.ndarray:
        """How far each point lies outside [m], 0 inside: points (..., P, 3) in the order of `radii` to (..., P)."""
        beyond = np.maximum(self.lower - points, points - self.upper).max(axis=-1)
        if self.table is not None:
            below = self.table + np.array(list(self.radii.values())) - points[..., 2]
            beyond = np.maximum(beyond, below)
        return np.maximum(beyond, 0.0)


class Kinematics:
    """Frames of an arm's links for joint positions.

    joints: the arm's joints in the order of the positions; links: parents before their children.
    """

    def __init__(self, joints: Sequence[str], links: Sequence[Link]):
        self.links = {link.name: link for link in links}
        self._column = {joint: index for index, joint in enumerate(joints)}
        self._origin = {link.name: pose_of(link.xyz, link.rpy) for link in links}
        self._cross = {link.name: _cross(link.axis) for link in links}

    def frames(self, positions: np.ndarray, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Poses of links in the base frame, float64 (..., 4, 4), for positions (..., J). names: None for all."""
        frames: dict[str, np.ndarray] = {}
        for name in names if names is not None else self.links:
            self._frame(name, np.asarray(positions, dtype=np.float64), frames)
        return frames

    def _frame(self, name: str, positions: np.ndarray, known: dict[str, np.ndarray]) -> np.ndarray:
        if name not in known:
            link = self.links[name]
            pose = self._origin[name]
            if link.joint is not None:
                pose = pose @ self._turn(name, positions[..., self._column[link.joint]])
            if link.parent in self.links:
                pose = self._frame(link.parent, positions, known) @ pose
            known[name] = pose if pose.ndim > 2 else np.broadcast_to(pose, (*positions.shape[:-1], 4, 4))
        return known[name]

    def _turn(self, name: str, angle: np.ndarray) -> np.ndarray:
        """Rodrigues' formula, float64 (..., 4, 4)."""
        cross = self._cross[name]
        pose = np.zeros((*angle.shape, 4, 4))
        sine, versine = np.sin(angle)[..., None, None], (1.0 - np.cos(angle))[..., None, None]
        pose[..., :3, :3] = np.eye(3) + sine * cross + versine * (cross @ cross)
        pose[..., 3, 3] = 1.0
        return pose

    def points(self, positions: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Origins of links in the base frame [m], float64 (..., len(names), 3), for positions (..., J)."""
        frames = self.frames(positions, names)
        return np.stack([frames[name][..., :3, 3] for name in names], axis=-2)


def pose_of(xyz: np.ndarray, rpy: np.ndarray) -> np.ndarray:
    """A pose in its parent's frame, float64 (4, 4): turned by rpy [rad] about the parent's x, y, z, at xyz [m]."""
    pose = np.eye(4)
    roll, pitch, yaw = (rotation_about(axis, angle) for axis, angle in zip(np.eye(3), rpy, strict=True))
    pose[:3, :3], pose[:3, 3] = yaw @ pitch @ roll, xyz
    return pose


def _cross(axis: np.ndarray) -> np.ndarray:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Turns by an angle [rad] about a unit axis, float64 (3, 3)."""
    cross = _cross(axis)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)


# --- reading ----------------------------------------------------------------------------------------------------------
def read_links(arm: Section, base_frame: str, revolute: Sequence[str]) -> tuple[Link, ...]:
    """An arm's `links`; empty where there are none. revolute: its joints that can turn one. Errors: ContractError."""
    if "links" not in arm:
        return ()
    links: list[Link] = []
    for name, section in arm.sections("links"):
        links.append(_read_link(name, section, [base_frame, *(link.name for link in links)], revolute))
        if links[-1].joint in [link.joint for link in links[:-1] if link.joint]:
            raise section.error("joint", f"is {links[-1].joint!r}, which turns another link already")
    turned = [link.joint for link in links]
    for joint in revolute:
        if joint not in turned:
            raise arm.error("links", f"has no link that joint {joint!r} turns")
    return tuple(links)


def _read_link(name: str, section: Section, parents: Sequence[str], revolute: Sequence[str]) -> Link:
    with section as s:
        if name in parents:
            raise s.error("parent", f"belongs to a link named {name!r}, which is a frame above it already")
        parent = s.choice("parent", tuple(parents))
        joint = s.choice("joint", tuple(revolute)) if "joint" in s else None
        xyz, rpy = s.vector("xyz", 3, size=FAR), s.vector("rpy", 3, (0.0, 0.0, 0.0), size=TURN)
        axis = np.array(s.vector("axis", 3, size=1)) if joint else np.array([0.0, 0.0, 1.0])
        if np.linalg.norm(axis) < 1e-9:
            raise s.error("axis", "must not be zero")
        return Link(name, parent, joint, np.array(xyz), np.array(rpy), axis / np.linalg.norm(axis))


def read_workspace(arm: Section, links: Sequence[Link]) -> Workspace | None:
    """An arm's `workspace`; None where there is none. Errors: ContractError."""
    if "workspace" not in arm:
        return None
    if not links:
        raise arm.error("workspace", "needs the arm's links, which are missing")
    names = [link.name for link in links]
    with arm.section("workspace") as s:
        lower, upper = np.array(s.vector("lower", 3, size=FAR)), np.array(s.vector("upper", 3, size=FAR))
        if not (lower < upper).all():
            raise s.error("upper", f"must be greater than lower in x, y and z, not {upper.tolist()}")
        table = s.optional_number("table", above=-FAR_TABLE, most=FAR_TABLE)
        with s.section("points") as points:
            radii = {name: points.number(name, least=0, most=1) for name in points.given}
            for name in radii:
                if name not in names:
                    raise points.error(name, f"is not a link of the arm; there are: {', '.join(names)}")
            if not radii:
                raise s.error("points", "must name at least one link")
        return Workspace(lower, upper, table, radii)
