# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The embodiments of the release, and one YAM alone: what a checkpoint's statistics say of them, and how the numbers of
a data set become those that the checkpoint speaks. Joints and units are those of the embodiment's contract."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from molmoact2_contract import Contract, ContractError, NormTag, load_contract

from .frame import Frame
from .layout import ACTION, STATE, DatasetError
from .reader import Dataset, names_of

ROS, MODEL, LEROBOT = "ros", "model", "lerobot"
UNITS = {
    ROS: "radians, grippers 0 closed to 1 open",
    MODEL: "the norm tag's own",
    LEROBOT: "of SO-100/101 in LeRobot's present calibration: degrees, gripper 0 to 100",
}
RATE_TOLERANCE = 0.01
CONTROL_MODE = "absolute joint pose"


@dataclass(frozen=True)
class Released:
    """Facts of the release (norm_stats.json), or our own. tag: the norm tag whose units hold for tags that the contract
    does not know."""

    tag: str
    setup_type: str
    horizon: int
    normalize_gripper: bool


RELEASED = {
    "so101": Released("so100_so101_molmoact2", "single so100/so101 robotic arm in molmoact2", 30, True),
    "yam_bimanual": Released("yam_dual_molmoact2", "bimanual yam robotic arms in molmoact2", 30, False),
    "franka_droid": Released("franka_droid", "single franka robotic arm in droid", 15, False),
    "yam_single": Released("yam_single", "single yam robotic arm", 30, False),    # ours, as half of the bimanual one
}


@dataclass(frozen=True)
class Embodiment:
    """One of them, under a norm tag."""

    name: str
    contract: Contract
    tag: NormTag
    released: Released

    @property
    def names(self) -> list[str]:
        """Of the values of state and action, as LeRobot names them."""
        return [f"{joint}.pos" for joint in self.contract.joints]

    @property
    def grippers(self) -> np.ndarray:
        """bool (D,)."""
        return np.array([joint.is_gripper for joint in self.contract.joints.values()])


def embodiment(name: str, tag: str) -> Embodiment:
    """Errors: DatasetError for one that is not known."""
    if name not in RELEASED:
        raise DatasetError(f"there is no embodiment {name!r}; there are: {', '.join(RELEASED)}")
    try:
        contract = load_contract(name)
        released = RELEASED[name]
        return Embodiment(
            name, contract, contract.norm_tag(tag if tag in contract.norm_tags else released.tag), released
        )
    except ContractError as error:
        raise DatasetError(str(error)) from error


def frame_of(dataset: Dataset, robot: Embodiment, units: str | None, by_position: bool) -> Frame:
    """units: of the data set, one of UNITS; None: as the data set says. by_position: its values are in the
    embodiment's order, whatever their names. Errors: DatasetError, also where the data set says of itself what the
    given units contradict."""
    places = _places(dataset, robot, by_position)
    frame = _frame(dataset, robot, units or _units(dataset, robot), places)
    stated = dataset.notes.get("units")
    if units and stated in UNITS and not frame.equals(_frame(dataset, robot, stated, places)):
        raise DatasetError(
            f"{dataset.root} says that its units are {stated!r} ({UNITS[stated]}), not {units!r}; leave the units out, "
            "or mend what it says in meta/molmoact2.json"
        )
    return frame


def _frame(dataset: Dataset, robot: Embodiment, units: str, places: np.ndarray) -> Frame:
    joints, frames = robot.contract.joints.values(), [robot.tag.frames[joint] for joint in robot.contract.joints]
    scale, offset = np.array([frame.scale for frame in frames]), np.array([frame.offset for frame in frames])
    if units == MODEL:
        _check_same_frame(dataset, robot)
        scale, offset = np.ones(len(frames)), np.zeros(len(frames))
    elif units == LEROBOT:
        if robot.name != "so101":
            raise DatasetError(f"units {LEROBOT!r} are {UNITS[LEROBOT]}; {robot.name} has none of its own there")
        scale = scale * np.array([0.01 if joint.is_gripper else np.radians(1.0) for joint in joints])
    return Frame(places, scale, offset)


def check_as_they_are(dataset: Dataset, tag: str) -> None:
    """That numbers which are to be taken as they are are those of the norm tag, as far as the data set says what it
    holds. Errors: DatasetError."""
    stated, contract = dataset.notes.get("units"), dataset.notes.get("contract")
    if stated not in UNITS or stated == MODEL or contract not in RELEASED:
        return
    robot = embodiment(str(contract), tag)
    places = np.arange(len(robot.contract.joints))
    if tag in robot.contract.norm_tags and not _frame(dataset, robot, stated, places).is_identity:
        raise DatasetError(
            f"{dataset.root} says that its units are {stated!r} ({UNITS[stated]}), and norm tag {tag!r} has others; "
            f"say units: {stated} beside its path, and robot: {contract}"
        )


def check_rate(dataset: Dataset, robot: Embodiment, tag: str) -> None:
    """That the data set's frames are as far apart as the waypoints of the norm tag, where the contract knows that tag.
    Errors: DatasetError."""
    known = robot.contract.norm_tags.get(tag)
    if known is not None and abs(dataset.fps * known.dt - 1) > RATE_TOLERANCE:
        raise DatasetError(
            f"{dataset.root} has {dataset.fps:g} frames a second, norm tag {tag!r} {1 / known.dt:g} waypoints: what is "
            "learnt of it would be played at another speed; use a norm tag of that rate, or data of the tag's"
        )


def _units(dataset: Dataset, robot: Embodiment) -> str:
    stated = dataset.notes.get("units")
    if stated in UNITS:
        return str(stated)
    if robot.name != "so101":
        return MODEL
    # LeRobot changed the zero of these arms, and no file says which one a data set has.
    raise DatasetError(
        f"{dataset.root} does not say in which calibration its numbers are; say --units {MODEL} for the one before "
        f"LeRobot's change of zero, which the release has, or --units {LEROBOT} for the present one"
    )


def _check_same_frame(dataset: Dataset, robot: Embodiment) -> None:
    stated = dataset.notes.get("norm_tag")
    other = robot.contract.norm_tags.get(stated) if isinstance(stated, str) else None
    if other is not None and other.frames != robot.tag.frames:
        raise DatasetError(
            f"{dataset.root} is in the units of norm tag {stated!r}, which are not those of {robot.tag.name!r} (the "
            f"contract {robot.name} knows {', '.join(robot.contract.norm_tags)}; any other tag has the units of the "
            f"released {robot.released.tag!r}); leave the units out where the data set says its own, or name the tag "
            f"{stated!r}"
        )


def _places(dataset: Dataset, robot: Embodiment, by_position: bool) -> np.ndarray:
    wanted = list(robot.contract.joints)
    for feature in (STATE, ACTION):
        what = dataset.features.get(feature)
        if what is None:
            raise DatasetError(f"{dataset.root} has no {feature}; {robot.name} has {len(wanted)} values in it")
        size = int(np.prod(what.get("shape") or [0]))
        if size != len(wanted):
            raise DatasetError(f"{dataset.root}: {feature} has {size} values, {robot.name} has {len(wanted)}")
        names = [name.removesuffix(".pos") for name in names_of(what)]
        if not by_position and sorted(names) != sorted(wanted):
            raise DatasetError(
                f"{dataset.root}: the values of {feature} are named {', '.join(names) or 'nothing'}, those of "
                f"{robot.name} {', '.join(wanted)}; where they are the same in this order say --by-position"
            )
    if by_position:
        return np.arange(len(wanted))
    state, action = ([n.removesuffix(".pos") for n in names_of(dataset.features[f])] for f in (STATE, ACTION))
    if state != action:
        raise DatasetError(f"{dataset.root}: {STATE} and {ACTION} have their values in another order")
    return np.array([state.index(name) for name in wanted])
