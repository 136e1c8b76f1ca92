# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames of a data set are used: `meta/keep.json`, in the data set itself or in a folder of its own that names
the data set and can be given in its place.

Frames that follow each other are kept in parts. A part is used like an episode: no chunk of actions reaches past its
end, so nothing is learnt across what was left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .layout import TASK, DatasetError
from .meta import Episode
from .reader import Dataset
from .tables import write_json

KEEP = "meta/keep.json"
FORMAT = "molmoact2_keep.v1"


@dataclass(frozen=True)
class Part:
    """Frames first .. end - 1 of an episode, all of one instruction: the episode's `task`."""

    episode: Episode
    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.first

    def first_on(self, every: int) -> int:
        """The first number from `first` on, counted from the episode's beginning, that is a multiple of `every`; it may
        be past the end."""
        return -(-self.first // every) * every


def open_kept(root: Path) -> tuple[Dataset, list[Part]]:
    """A data set and what of it is used: as its list says, or all; an episode of several instructions in a part for
    each. root: of the data set, or of a folder with a list that names it. Errors: DatasetError."""
    dataset, parts = _listed(root)
    return dataset, by_task(dataset, parts)


def parts_within(root: Path, episodes: range | None) -> tuple[Dataset, list[Part]]:
    """As open_kept, of these episodes alone where they are named. Errors: DatasetError."""
    dataset, parts = open_kept(root)
    return dataset, [part for part in parts if episodes is None or part.episode.index in episodes]


def by_task(dataset: Dataset, parts: Sequence[Part]) -> list[Part]:
    """The parts, cut where the instruction changes. Errors: DatasetError where frames do not say whose which is."""
    return [one for part in parts for one in ([part] if len(part.episode.tasks) == 1 else _by_task(dataset, part))]


def _by_task(dataset: Dataset, part: Part) -> list[Part]:
    episode, numbers = part.episode, dataset.tasks(part.episode)
    where = f"{dataset.root}: episode {episode.index}"
    if numbers is None:
        if not episode.tasks:
            return [part]    # without words; whoever needs them says so
        raise DatasetError(f"{where} has {len(episode.tasks)} instructions, and no column {TASK!r} says whose which is")
    cuts = [part.first, *(np.flatnonzero(np.diff(numbers[part.first : part.end])) + 1 + part.first).tolist(), part.end]
    found = []
    for first, end in zip(cuts, cuts[1:], strict=False):
        words = dataset.words.get(int(numbers[first]))
        if words is None:
            raise DatasetError(f"{where}: frame {first} has {TASK} {numbers[first]}, which no instruction has")
        found.append(Part(replace(episode, task=words), first, end))
    return found


def _listed(root: Path) -> tuple[Dataset, list[Part]]:
    path = root / KEEP
    if not path.is_file():
        dataset = Dataset(root)
        return dataset, [Part(episode, 0, episode.length) for episode in dataset.episodes]
    content = _read(path)
    source = Path(os.path.normpath(root / content["dataset"]))
    try:
        dataset = Dataset(source)
    except DatasetError as error:
        raise DatasetError(f"{path} names the data set {source}: {error}") from error
    if content["of"] != fingerprint(dataset):
        raise DatasetError(
            f"{path} is of another state of {source}: {content['of']} then, {fingerprint(dataset)} now; make it anew: "
            f"molmoact2 data filter {source}"
        )
    episodes = {episode.index: episode for episode in dataset.episodes}
    try:
        parts = [
            Part(episodes[int(index)], int(first), int(end))
            for index, spans in content["keep"].items() for first, end in spans
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: 'keep' is not episodes with parts of theirs ({error!r})") from None
    wrong = next((part for part in parts if not 0 <= part.first < part.end <= part.episode.length), None)
    if wrong is not None:
        raise DatasetError(
            f"{path}: episode {wrong.episode.index} has no frames {wrong.first} to {wrong.end - 1}; it has "
            f"{wrong.episode.length}"
        )
    return dataset, parts


def write_keep(folder: Path, dataset: Dataset, parts: Sequence[Part], rules: Mapping[str, Any]) -> None:
    """rules: what chose them, to be looked up later."""
    keep: dict[str, list[list[int]]] = {}
    for part in parts:
        keep.setdefault(str(part.episode.index), []).append([part.first, part.end])
    content = {
        "format": FORMAT, "dataset": os.path.relpath(dataset.root, folder), "of": fingerprint(dataset),
        "rules": dict(rules), "keep": keep,
    }
    scratch = folder / f"{KEEP}.partial"
    write_json(scratch, content)
    scratch.replace(folder / KEEP)


def fingerprint(dataset: Dataset) -> dict[str, int]:
    """By which a data set that has changed since is known."""
    return {"episodes": len(dataset.episodes), "frames": sum(episode.length for episode in dataset.episodes)}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{path}: its format is not {FORMAT!r}")
    for name in ("dataset", "of", "keep"):
        if name not in content:
            raise DatasetError(f"{path}: {name!r} is missing; make it anew: molmoact2 data filter")
    return content
