# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of a data set as a data set of their own: each part an episode, with what is known of its frames."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .companions import ALTERNATIVES, DESCRIPTIONS, FOLDER, KEYS, SCHEMAS, Companion
from .keep import Part
from .layout import ACTION, CORRECTED, INDICES, STATE, TIME, DatasetError
from .meta import image_size
from .reader import Dataset, names_of
from .writer import DatasetWriter, Row


def rewrite(
    dataset: Dataset, parts: Sequence[Part], root: Path, progress: Callable[[], object] = lambda: None
) -> tuple[int, int]:
    """Writes a data set of version 3 and returns its episodes and frames. Videos are encoded anew. Where alternatives
    are known of every so many frames, parts begin at the first of these, so that they still are of every so many by
    the new numbers. Errors: DatasetError."""
    stride = dataset.notes.get(CORRECTED) or _stride(dataset)
    parts = [replace(part, first=part.first_on(stride)) for part in parts if part.first_on(stride) < part.end]
    if not parts:
        raise DatasetError(f"nothing of {dataset.root} is kept; nothing is written")
    named = [names_of(dataset.features[name]) for name in (STATE, ACTION) if name in dataset.features]
    if all(named) and any(names != named[0] for names in named):
        raise DatasetError(
            f"{dataset.root}: the values of {ACTION} are named {', '.join(named[-1])}, those of {STATE} "
            f"{', '.join(named[0])}; only data sets whose actions are of the same values are written; use the list "
            "instead of --write"
        )
    if dataset.fps != round(dataset.fps):
        raise DatasetError(f"{dataset.root} has {dataset.fps:g} frames a second; whole numbers are written")
    cameras = {camera: image_size(dataset.features[feature]) for camera, feature in dataset.meta.images.items()}
    depth = {camera: image_size(dataset.features[feature]) for camera, feature in dataset.meta.depths.items()}
    names = dataset.joints or [str(number) for number in range(len(dataset.vectors(parts[0].episode).state[0]))]
    known = [name for name in SCHEMAS if (dataset.root / FOLDER / name).is_dir()]
    companions = {name: Companion(dataset.root, name) for name in known}
    robot = str(dataset.info.get("robot_type") or "")
    with DatasetWriter(root, round(dataset.fps), names, cameras, robot, dataset.notes, depth) as writer:
        for number, part in enumerate(parts):
            writer.begin(part.episode.task, part.length, part.episode.extra)
            for row in _rows(dataset, part):
                writer.add(row)
            writer.end()
            for name, companion in companions.items():
                writer.companion(name).add([
                    row | {KEYS[0]: number, KEYS[1]: row[KEYS[1]] - part.first}
                    for row in companion.rows(part.episode.index) if part.first <= row[KEYS[1]] < part.end
                ])
            progress()
        for about in DESCRIPTIONS:    # they hold for the parts too
            if (dataset.root / about).is_file():
                (writer.root / about).parent.mkdir(exist_ok=True)
                shutil.copyfile(dataset.root / about, writer.root / about)
        return writer.episodes, writer.frames


def _stride(dataset: Dataset) -> int:
    """Of how many frames in a row alternatives are known of the first, in every episode from frame 0 on; 1 where it is
    otherwise, or none are known."""
    known = Companion(dataset.root, ALTERNATIVES)
    numbers = [known.frames(episode.index) for episode in dataset.episodes]
    stride = math.gcd(*itertools.chain.from_iterable(numbers)) or 1
    regular = all(those == set(range(0, max(those, default=-1) + 1, stride)) for those in numbers)
    return stride if regular else 1


def unwritten(dataset: Dataset) -> list[str]:
    """Features of the data set that `rewrite` leaves out."""
    written = {STATE, ACTION, TIME, *INDICES, *dataset.meta.images.values(), *dataset.meta.depths.values()}
    return [name for name in dataset.features if name not in written]


def _rows(dataset: Dataset, part: Part) -> Iterator[Row]:
    frames = range(part.first, part.end)
    depths = {camera: dataset.depth(part.episode, camera, frames) for camera in dataset.depth_cameras}
    for sample in dataset.frames(part.episode, frames):
        if sample.action is None or sample.action.shape != sample.state.shape:
            shape = None if sample.action is None else np.shape(sample.action)
            raise DatasetError(
                f"{dataset.root}: actions have shape {shape}, states {sample.state.shape}; only data sets whose "
                "actions are of the same values are written; use the list instead of --write"
            )
        depth = {camera: next(images) for camera, images in depths.items()}
        yield Row(sample.state, sample.action, sample.images, depth)
