# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Bags in, one dataset out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from molmoact2_contract import Contract, NormTag
from molmoact2_data.layout import DatasetError
from molmoact2_data.writer import DatasetWriter, Row

from ..bags.bag import Bag, BagError
from ..model_frame import ModelFrame
from ..replay.embodied import Embodied, embody
from .depth import DepthTrack
from .episodes import instruction_of, parts_of
from .from_bag import LeftOut, Stretch, camera_sizes, images_of, observed, rate_of, rows, stretches

ROS, MODEL = "ros", "model"    # units of state and action


@dataclass(frozen=True)
class Wanted:
    """How to convert. fps: None: the main camera's. units: ROS or MODEL. outcomes: of the episodes to take. shortest:
    frames. instruction: empty: as recorded. topics, joints: as in replay.embodied.embody. depth: camera -> topic of its
    depth images. progress: show bars."""

    contract: Contract
    tag: NormTag
    fps: int | None
    units: str
    action: str
    outcomes: frozenset[str]
    shortest: int
    instruction: str
    topics: Mapping[str, str]
    joints: Mapping[str, str]
    depth: Mapping[str, str]
    progress: bool


@dataclass
class Converted:
    """What came of it. lossy: bags whose images had been recorded with loss. blind: frames without a depth image, by
    camera."""

    episodes: int = 0
    frames: int = 0
    fps: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    left_out: LeftOut = field(default_factory=LeftOut)
    problems: list[str] = field(default_factory=list)
    lossy: list[str] = field(default_factory=list)
    blind: Counter[str] = field(default_factory=Counter)


def convert(bags: Sequence[Path], root: Path, wanted: Wanted) -> Converted:
    """Errors: BagError, DatasetError."""
    done, writer = Converted(), None
    try:
        for path in bags:
            with Bag(path) as bag:
                robot = embody(bag, wanted.contract, wanted.tag, wanted.topics, wanted.joints)
                done.fps = done.fps or wanted.fps or max(1, round(rate_of(bag, robot, wanted.tag)))
                chosen = _chosen(bag, robot, wanted, done)
                done.problems += [f"{path}: {problem}" for problem in bag.lacks]
                if bag.lossy or robot.lossy:
                    done.lossy.append(str(path))
                if chosen:
                    tracks = {
                        camera: DepthTrack(bag, wanted.contract, wanted.tag, camera, topic)
                        for camera, topic in wanted.depth.items()
                    }
                    writer = writer or _writer(bag, robot, tracks, root, wanted, done)
                    _write(bag, robot, tracks, writer, chosen, wanted, done)
        if writer is None:
            raise DatasetError(f"there is no episode to write: {_why(done)}")
    except BaseException as error:
        if writer is not None:
            writer.__exit__(type(error), error, None)
        raise
    writer.__exit__(None, None, None)
    done.episodes, done.frames = writer.episodes, writer.frames
    return done


def _chosen(bag: Bag, robot: Embodied, wanted: Wanted, done: Converted) -> list[Stretch]:
    parts = parts_of(bag, wanted.instruction)
    if not any(part.task for part in parts):
        instruction = wanted.instruction or instruction_of(bag)
        if not instruction:
            raise BagError(f"bag {bag.path} does not say what the robot was to do; say it with --instruction")
        for part in parts:
            part.task = instruction
    with tqdm(desc=f"look through {bag.path.name}", unit="frame", disable=not wanted.progress) as bar:
        found = stretches(
            bag, robot, wanted.tag, parts, done.fps, wanted.action, wanted.shortest, done.left_out, bar.update
        )
    for stretch in found:
        if stretch.part.outcome not in wanted.outcomes:
            done.left_out.add(f"frames of episodes that ended: {stretch.part.outcome}", len(stretch.frames))
    return [stretch for stretch in found if stretch.part.outcome in wanted.outcomes]


def _writer(
    bag: Bag, robot: Embodied, tracks: Mapping[str, DepthTrack], root: Path, wanted: Wanted, done: Converted
) -> DatasetWriter:
    first = next((observation for observation, _ in observed(bag, robot, wanted.tag)), None)
    assert first is not None    # an episode was found in it
    notes = {
        "units": wanted.units,
        "action": wanted.action,
        "norm_tag": wanted.tag.name,
        "contract": wanted.contract.path.stem,
    }
    joints, sizes = wanted.contract.joint_names, camera_sizes(wanted.tag, first)
    depth = {camera: track.size for camera, track in tracks.items()}
    return DatasetWriter(root, done.fps, joints, sizes, wanted.contract.embodiment, notes, depth)


def _write(
    bag: Bag, robot: Embodied, tracks: Mapping[str, DepthTrack], writer: DatasetWriter, chosen: list[Stretch],
    wanted: Wanted, done: Converted,
) -> None:
    places = {stamp: number for number, stretch in enumerate(chosen) for stamp in stretch.frames}
    units = _units(wanted)
    number, row = -1, 0
    shown: Iterable = rows(bag, robot, wanted.tag, places)
    for belongs, observation, receive_ns in tqdm(
        shown, total=len(places), desc=f"write {bag.path.name}", unit="frame", disable=not wanted.progress
    ):
        stretch = chosen[belongs]
        if belongs != number:
            number, row = belongs, 0
            part = stretch.part
            extra = {"outcome": part.outcome, "why": part.why, "episode_id": part.episode_id, "bag": bag.path.name}
            writer.begin(part.task, len(stretch.frames), extra)
        state, action = units(observation.state), units(stretch.actions[row])
        depth = {camera: track.nearest(observation.stamp_ns, receive_ns) for camera, track in tracks.items()}
        writer.add(Row(state, action, images_of(wanted.tag, observation), depth))
        row += 1
        if row == len(stretch.frames):
            writer.end()
            done.outcomes[stretch.part.outcome] += 1
    for camera, track in tracks.items():
        if track.blind == len(places):
            raise BagError(
                f"bag {bag.path}: no depth image on {track.topic} was captured within "
                f"{wanted.contract.skew_limit:g} s of a frame; check its stamps"
            )
        done.blind[camera] += track.blind


def _units(wanted: Wanted):
    frame = ModelFrame(wanted.contract, wanted.tag)
    return frame.to_model if wanted.units == MODEL else lambda values: np.asarray(values, np.float32)


def _why(done: Converted) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in done.left_out.reasons.items()) or (
        "images of all cameras of the norm tag never came together with joint states"
    )
