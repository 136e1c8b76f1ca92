# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A dataset as a bag: images and joint states as the robot's cameras and controllers would have published them."""

from __future__ import annotations

import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image, JointState

from molmoact2_contract import Contract, NormTag
from molmoact2_data.keep import Part, by_task
from molmoact2_data.layout import DatasetError
from molmoact2_data.reader import Dataset, Episode
from molmoact2_msgs.msg import ControllerStatus, PolicyStatus

from ..bags.bag import BagError
from ..bags.definitions import typename_of, typestore_of
from ..bags.offline import cdr, open_writer
from ..model_frame import ModelFrame
from ..report.run import POLICY, resolved
from .convert import MODEL

BEGIN_NS = 1_000_000_000_000    # stamp of the first frame; a dataset does not say when it was recorded
PAUSE_NS = 10_000_000_000       # between two episodes: longer than any observation may be old


def to_bag(
    dataset: Dataset, path: Path, contract: Contract, tag: NormTag, joints: Mapping[str, str],
    cameras: Mapping[str, str], units: str, episodes: Sequence[int] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> int:
    """Writes a bag and returns the number of frames.

    joints: name in the dataset -> in the contract; cameras: likewise. units: of the dataset's states. episodes: by
    index, all where None. Errors: DatasetError, BagError.
    """
    place = _places(dataset, contract, joints)
    _check_cameras(dataset, tag, cameras)
    wanted = [e for e in dataset.episodes if episodes is None or e.index in episodes]
    if not wanted:
        raise DatasetError(f"{dataset.root} has no such episode; it has {len(dataset.episodes)}, counted from 0")
    frame = ModelFrame(contract, tag)
    back = frame.to_ros if units == MODEL else lambda values: np.asarray(values, np.float64)
    with _Writer(path, contract, tag) as writer:
        begin = BEGIN_NS
        for episode in wanted:
            last, parts = begin, by_task(dataset, [Part(episode, 0, episode.length)])
            instructions = {part.first: part.episode for part in parts}
            for number, sample in enumerate(dataset.samples(episode)):
                last = begin + round(sample.time * 1e9)
                if number in instructions:
                    writer.say_episode(instructions[number], last)
                action = None if sample.action is None else back(sample.action[place])
                images = {cameras.get(name, name): image for name, image in sample.images.items()}
                writer.say(images, back(sample.state[place]), action, last, round(1e9 / dataset.fps))
                progress()
            begin = last + PAUSE_NS
        return writer.frames


def _places(dataset: Dataset, contract: Contract, joints: Mapping[str, str]) -> list[int]:
    """For each joint of the contract, its place in the dataset's vectors."""
    named = [joints.get(name.removesuffix(".pos"), name.removesuffix(".pos")) for name in dataset.joints]
    missing = [name for name in contract.joints if name not in named]
    unknown = [name for name in named if name not in contract.joints]
    if missing or unknown:
        lacks = f"lacks {', '.join(missing)}" if missing else ""
        strange = f"names {', '.join(unknown)}, unknown to it" if unknown else ""
        raise DatasetError(
            f"{dataset.root} is of another robot than {contract.path.name}: its state "
            f"{' and '.join(filter(None, (lacks, strange)))}; choose its contract with --contract, or rename joints "
            "with --joint THEIRS=OURS"
        )
    return [named.index(name) for name in contract.joints]


def _check_cameras(dataset: Dataset, tag: NormTag, cameras: Mapping[str, str]) -> None:
    there = [cameras.get(name, name) for name in dataset.cameras]
    missing = [name for name in tag.cameras if name not in there]
    if missing:
        raise DatasetError(
            f"{dataset.root} has no camera {missing[0]!r}, which norm tag {tag.name!r} asks for; it has: "
            f"{', '.join(dataset.cameras) or 'none'}; say which it is with --camera THEIRS=OURS"
        )


class _Writer:
    """Messages of rosbags' own classes."""

    def __init__(self, path: Path, contract: Contract, tag: NormTag):
        self.path, self._contract, self._tag = path, contract, tag
        self._store = typestore_of({typename_of(kind) for kind in (Image, JointState, PolicyStatus, ControllerStatus)})
        self._writer = open_writer(path)
        self._connections: dict[str, Any] = {}
        self.frames = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        try:
            self._writer.close()
        except Exception as failure:    # whatever the storage says
            if error is None:
                raise BagError(f"bag {self.path}: writing failed: {failure}") from failure

    def say_episode(self, episode: Episode, now: int) -> None:
        """The policy's own word that an episode, or another instruction in it, begins: what replay and convert go
        by."""
        status = PolicyStatus(
            state=PolicyStatus.ACTIVE, episode_id=f"episode {episode.index}", instruction=episode.task
        )
        status.header.stamp = _time(now)
        self._write(POLICY, status, now)

    def say(
        self, images: Mapping[str, np.ndarray], state: np.ndarray, action: np.ndarray | None, now: int, period: int
    ) -> None:
        joints = JointState(name=list(self._contract.joints), position=state.tolist())
        joints.header.stamp = _time(now)
        self._write(resolved("joint_states"), joints, now)
        for name in self._tag.cameras:
            camera, pixels = self._contract.cameras[name], images[name]
            image = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="rgb8", step=3 * pixels.shape[1])
            image.header.stamp, image.header.frame_id = _time(now), camera.frame_id
            image.data = array.array("B", pixels.tobytes())
            self._write(resolved(camera.topic), image, now)
        if action is not None:
            self._say_action(action, now, period)
        self.frames += 1

    def _say_action(self, action: np.ndarray, now: int, period: int) -> None:
        for arm in self._contract.arms:
            names = list(self._contract.arm(arm).joints)
            told = ControllerStatus(state=ControllerStatus.FOLLOWING, joint_names=names)
            # An action is what the arm is told by the next frame.
            told.header.stamp = _time(now + period)
            told.setpoint = action[[self._contract.joint_names.index(joint) for joint in names]].tolist()
            self._write(resolved(f"{arm}/status"), told, now)

    def _write(self, topic: str, message: Any, now: int) -> None:
        typename = typename_of(type(message))
        try:
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(topic, typename, typestore=self._store)
            self._writer.write(self._connections[topic], now, cdr(message, self._store))
        except OSError as failure:
            raise BagError(f"bag {self.path}: writing failed: {failure}") from failure


def _time(nanoseconds: int) -> Time:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)
