# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks of actions from data sets, for FAST tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from molmoact2_data import statistics
from molmoact2_data.keep import Part, open_kept
from molmoact2_data.layout import ACTION, CORRECTED, DatasetError
from molmoact2_data.reader import Dataset

from ..errors import InputError
from ..normalization import Normalizer, NormStats

NORM_MODE = "q01_q99"
BOUNDED = ("q01_q99", "q10_q90", "min_max")
T = TypeVar("T")
ANY = 2**31    # the limits of a checkpoint do not hold here


@dataclass(frozen=True)
class Kept:
    """A data set and what of it is used (molmoact2_data.keep)."""

    dataset: Dataset
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Place:
    """Where a chunk begins: a frame of an episode of the data set in the folder `root`."""

    root: Path
    episode: int
    frame: int

    def __str__(self) -> str:
        return f"{self.root}: episode {self.episode}, frame {self.frame}"


@dataclass(frozen=True)
class Robot:
    """What is told apart in reports: one robot's data sets. joints: names of the values of an action; units are the
    data sets'. stats: what the normalizer was made of, as JSON can hold it."""

    name: str
    joints: tuple[str, ...]
    data: tuple[Kept, ...]
    horizon: int
    normalizer: Normalizer
    stats: Mapping[str, Any]

    def chunks(self, every: int) -> Iterator[np.ndarray]:
        """float32 (horizon, D), from every so many frames on, the last action repeated past the end of a part, as
        training has them. Errors: DatasetError."""
        for kept in self.data:
            for action in _actions(kept):
                for frame in range(0, len(action), every):
                    yield action[np.minimum(np.arange(frame, frame + self.horizon), len(action) - 1)]

    def places(self, every: int) -> Iterator[Place]:
        """Of the chunks, in their order."""
        for kept in self.data:
            for part in kept.parts:
                for frame in range(part.first, part.end, every):
                    yield Place(kept.dataset.root, part.episode.index, frame)

    def count(self, every: int) -> int:
        """Of the chunks."""
        return sum(-(-part.length // every) for kept in self.data for part in kept.parts)


def robots_of_data(roots: Sequence[Path], horizons: Sequence[int]) -> list[Robot]:
    """Robots by robot_type and joints, each normalised by the quantiles 0.01 and 0.99 of its data. horizons: one for
    all, or one for each data set. Errors: DatasetError, InputError."""
    named: dict[tuple[str, tuple[str, ...]], list[tuple[Kept, int]]] = {}
    for root, horizon in zip(roots, _for_each(horizons, len(roots), "--horizon"), strict=True):
        kept = _kept(root)
        key = (str(kept.dataset.info.get("robot_type") or root.name), _joints(kept.dataset))
        named.setdefault(key, []).append((kept, horizon))
    robots = []
    for (kind, joints), those in named.items():
        if len({horizon for _, horizon in those}) > 1:
            raise InputError(f"--horizon: the data sets of robot {kind!r} have one, not {[h for _, h in those]}")
        values = np.concatenate([action for kept, _ in those for action in _actions(kept)])
        stats = statistics.of_values(values)
        normalizer = Normalizer(stats, NORM_MODE, f"the data of robot {kind!r}")
        robots.append(Robot(kind, joints, tuple(kept for kept, _ in those), those[0][1], normalizer, stats))
    return robots


def robots_of_tags(roots: Sequence[Path], path: Path, tags: Sequence[str], horizons: Sequence[int]) -> list[Robot]:
    """Robots by norm tag. path: norm_stats.json. tags: one for all data sets, or one for each; none where the file has
    one only. horizons: instead of the tags' own. Errors: DatasetError, InputError, CheckpointError."""
    stats = NormStats.from_file(path, ANY, ANY)
    if stats.mode not in BOUNDED:
        raise InputError(f"{path}: norm_mode is {stats.mode!r}; chunks need a range: {', '.join(BOUNDED)}")
    if not tags and len(stats.tags) > 1:
        raise InputError(f"{path} has the norm tags {', '.join(stats.tags)}; say which with --tag")
    given = _for_each(horizons, len(roots), "--horizon") if horizons else [0] * len(roots)
    named: dict[tuple[str, int], list[Kept]] = {}
    for root, name, horizon in zip(roots, _for_each(tags or stats.tags, len(roots), "--tag"), given, strict=True):
        kept, tag = _kept(root), stats.tag(name)
        width = len(_joints(kept.dataset))
        if width != tag.action.dim:
            raise InputError(f"{root} has actions of {width} values, norm tag {name!r} of {tag.action.dim}")
        if not horizon and tag.horizon == ANY:
            raise InputError(f"{path}: norm tag {name!r} has no action_horizon; say it with --horizon")
        named.setdefault((name, horizon or tag.horizon), []).append(kept)
    return [
        Robot(
            name, _joints(data[0].dataset), tuple(data), horizon, stats.tag(name).action,
            stats.metadata[name]["action_stats"],
        )
        for (name, horizon), data in named.items()
    ]


def _kept(root: Path) -> Kept:
    dataset, parts = open_kept(root)
    if dataset.notes.get(CORRECTED):
        raise InputError(
            f"{root} was corrected: its actions say frame by frame what would have been right, and make no chunk; name "
            "data sets of whole demonstrations"
        )
    if not parts:
        raise DatasetError(f"nothing of {root} is kept by its list")
    return Kept(dataset, tuple(parts))


def _actions(kept: Kept) -> Iterator[np.ndarray]:
    """float32 (N, D), part by part."""
    dataset = kept.dataset
    for part in kept.parts:
        episode, whole = part.episode, dataset.vectors(part.episode).action
        if whole is None:
            raise DatasetError(f"{dataset.root}: episode {episode.index} has no actions")
        action = whole[part.first : part.end]
        if not np.isfinite(action).all():
            raise DatasetError(
                f"{dataset.root}: episode {episode.index} has an {ACTION} that is not finite; leave the episode out"
            )
        yield action


def _joints(dataset: Dataset) -> tuple[str, ...]:
    """Names of an action's values: its own, else the state's where those are as many, else numbers."""
    feature = dataset.features.get(ACTION)
    if feature is None:
        raise DatasetError(f"{dataset.root} has no {ACTION}; it has: {', '.join(dataset.features)}")
    width = int(feature["shape"][0])
    names = feature.get("names")
    for known in (names if isinstance(names, list) else [], dataset.joints):
        if len(known) == width:
            return tuple(str(name) for name in known)
    return tuple(f"{ACTION}_{index}" for index in range(width))


def _for_each(values: Sequence[T], count: int, option: str) -> Sequence[T]:
    if len(values) == 1:
        return [values[0]] * count
    if len(values) != count:
        raise InputError(
            f"{option} is given {len(values)} times, expected once for all or once for each DATA ({count})"
        )
    return values
