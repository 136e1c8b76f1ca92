# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a FAST tokenizer does to chunks: how many tokens they take, and how far they are off afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import InputError, ModelError
from ..fast import FastTokenizer
from .fast_data import Place, Robot


@dataclass(frozen=True)
class Measured:
    """Of one robot's chunks. tokens: mean of those that can be expressed, with the most; off, off_most: root mean
    square and maximum of what coding changes, in the model's range; worst: the chunk with that maximum; joints_off,
    joints_most: by joint, in its units; cut_off: by joint, the most that the normalisation itself takes off;
    inexpressible: chunks that have no tokens; first_inexpressible: one of them."""

    robot: Robot
    chunks: int
    inexpressible: int
    tokens: float
    most_tokens: int
    off: float
    off_most: float
    joints_off: np.ndarray
    joints_most: np.ndarray
    cut_off: np.ndarray
    worst: Place
    first_inexpressible: Place | None

    @property
    def values(self) -> int:
        """In a chunk."""
        return self.robot.horizon * len(self.robot.joints)

    @property
    def values_per_token(self) -> float:
        return self.values / self.tokens


def normalized(robot: Robot, every: int, show: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks as they are, and in the model's range: what passes unscaled is cut off at -1..1, as it is when actions are
    un-normalised."""
    bar = tqdm(robot.chunks(every), robot.name, robot.count(every), leave=False, disable=not show)
    for chunk in bar:
        yield chunk, np.clip(robot.normalizer.normalize(chunk), -1.0, 1.0)


def measure(
    fast: FastTokenizer, robot: Robot, every: int, show: bool, keep: Callable[[Place, list[int]], None] | None = None
) -> Measured:
    """Codes every chunk and decodes it again. keep: is given the tokens of each chunk that has any. Errors:
    DatasetError; InputError where no chunk can be expressed."""
    tokens: list[int] = []
    width = len(robot.joints)
    squares, joint_squares = 0.0, np.zeros(width)
    most, joint_most, cut_off = 0.0, np.zeros(width), np.zeros(width)
    count = 0
    why = ""
    worst: Place | None = None
    lacking: Place | None = None
    for place, (raw, chunk) in zip(robot.places(every), normalized(robot, every, show), strict=True):
        count += 1
        there = robot.normalizer.unnormalize(chunk)
        cut_off = np.maximum(cut_off, np.abs(raw - there).max(axis=0))
        try:
            coded = fast.encode(chunk)
        except ModelError as error:
            why = str(error)
            lacking = lacking or place
            continue
        tokens.append(len(coded))
        if keep is not None:
            keep(place, coded)
        again = fast.decode(coded, *chunk.shape)
        off = np.abs(again - chunk)
        joint_off = np.abs(robot.normalizer.unnormalize(again) - there)
        squares, joint_squares = squares + float((off**2).sum()), joint_squares + (joint_off**2).sum(axis=0)
        if worst is None or off.max() > most:
            worst = place
        most, joint_most = max(most, float(off.max())), np.maximum(joint_most, joint_off.max(axis=0))
    if worst is None:
        raise InputError(f"none of the {count} chunks of {robot.name} can be expressed: {why}")
    rows = len(tokens) * robot.horizon
    return Measured(
        robot, count, count - len(tokens), float(np.mean(tokens)), max(tokens),
        float(np.sqrt(squares / (rows * width))), most, np.sqrt(joint_squares / rows), joint_most, cut_off,
        worst, lacking,
    )


def as_dict(measured: Measured) -> dict[str, Any]:
    """As JSON can hold it."""
    robot = measured.robot
    joints = zip(robot.joints, measured.joints_off, measured.joints_most, measured.cut_off, strict=True)
    return {
        "robot": robot.name,
        "datasets": [kept.dataset.root.name for kept in robot.data],
        "episodes": sum(len({part.episode.index for part in kept.parts}) for kept in robot.data),
        "chunks": measured.chunks,
        "inexpressible": measured.inexpressible,
        "horizon": robot.horizon,
        "action_dim": len(robot.joints),
        "norm_mode": robot.normalizer.mode,
        "tokens_per_chunk": measured.tokens,
        "most_tokens": measured.most_tokens,
        "values_per_token": measured.values_per_token,
        "error_rms": measured.off,
        "error_max": measured.off_most,
        "error_max_at": {
            "dataset": measured.worst.root.name, "episode": measured.worst.episode, "frame": measured.worst.frame
        },
        "joints": {
            name: {"error_rms": float(rms), "error_max": float(most), "cut_off_max": float(cut)}
            for name, rms, most, cut in joints
        },
    }


def table(measured: Measured) -> str:
    """For people."""
    robot = measured.robot
    width = max(len("joint"), *map(len, robot.joints))
    lines = [
        f"{robot.name}: {measured.chunks} chunks of {robot.horizon} x {len(robot.joints)}",
        f"  tokens a chunk  {measured.tokens:.1f}, at most {measured.most_tokens}; "
        f"{measured.values_per_token:.2f} values a token",
        f"  error           rms {measured.off:.4f}, at most {measured.off_most:.4f}, of the range -1 to 1",
        f"  the largest at  {measured.worst}",
        *([f"  NO TOKENS FOR   {measured.inexpressible} chunks, the first at {measured.first_inexpressible}"]
          if measured.inexpressible else []),
        f"  {'joint':{width}}  error rms  error max  cut off by the normalisation",
    ]
    joints = zip(robot.joints, measured.joints_off, measured.joints_most, measured.cut_off, strict=True)
    return "\n".join(
        [*lines, *(f"  {name:{width}}  {rms:9.4g}  {most:9.4g}  {cut:9.4g}" for name, rms, most, cut in joints)]
    )
