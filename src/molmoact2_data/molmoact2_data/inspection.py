# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a data set holds, as `molmoact2 data inspect` tells it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .checking import check
from .companions import DESCRIPTIONS, FOLDER
from .keep import Part, open_kept
from .layout import ACTION, STATE, DatasetError
from .meta import image_size
from .reader import Dataset, names_of
from .statistics import of_values

TASKS_SHOWN = 8


@dataclass(frozen=True)
class Inspection:
    """ranges: figures (statistics.of_values) of state and, where there is one, action; odd: what a person should look
    at."""

    dataset: Dataset
    parts: list[Part]
    tasks: Counter[str]
    ranges: dict[str, dict[str, Any]]
    odd: list[str]

    @property
    def frames(self) -> int:
        return sum(part.length for part in self.parts)

    @property
    def hours(self) -> float:
        return self.frames / self.dataset.fps / 3600


def inspect(root: Path, progress: Callable[[], object] = lambda: None) -> Inspection:
    """Errors: DatasetError, where the data set cannot be opened; what is wrong with its episodes is told."""
    dataset, parts = open_kept(root)
    tasks = Counter(part.episode.task for part in parts)
    odd = check(dataset, parts, progress=progress)
    values: dict[str, list[np.ndarray]] = {STATE: [], ACTION: []}
    for part in parts:
        try:
            vectors = dataset.vectors(part.episode)
        except DatasetError:
            continue
        for name, found in ((STATE, vectors.state), (ACTION, vectors.action)):
            if found is not None:
                kept = found[part.first : part.end]
                values[name].append(kept[np.isfinite(kept).all(axis=1)])
    ranges = {name: of_values(np.concatenate(found)) for name, found in values.items() if sum(map(len, found))}
    return Inspection(dataset, parts, tasks, ranges, odd + _strange(dataset, parts, ranges))


def _strange(dataset: Dataset, parts: Sequence[Part], ranges: dict[str, dict[str, Any]]) -> list[str]:
    """What is not wrong by itself."""
    found = []
    whole = sum(episode.length for episode in dataset.episodes)
    kept = sum(part.length for part in parts)
    if kept != whole:
        found.append(f"{kept} of {whole} frames are kept by its list")
    for name, there in (("total_frames", whole), ("total_episodes", len(dataset.episodes))):
        stated = dataset.info.get(name)
        if stated is not None and stated != there:
            found.append(f"info.json states {name} {stated}, there are {there}")
    if not dataset.cameras:
        found.append("it has no images")
    named = {name: names_of(dataset.features[name]) for name in (STATE, ACTION) if name in dataset.features}
    found += [f"the values of {name} have no names" for name, names in named.items() if not names]
    if all(named.values()) and len({tuple(names) for names in named.values()}) > 1:
        found.append(f"the values of {STATE} and {ACTION} have other names, or another order")
    found += [said for said in map(partial(_unread, dataset.root), DESCRIPTIONS) if said]
    for kind, figures in ranges.items():
        same = np.equal(figures["min"], figures["max"])
        if same.any():
            found.append(f"{kind}: {', '.join(_name(dataset, int(i)) for i in np.flatnonzero(same))} never moves")
    lengths = [episode.length for episode in dataset.episodes]
    shortest, usual = min(lengths), float(np.median(lengths))
    if shortest * 10 < usual:
        found.append(f"the shortest episode has {shortest} frames, half of all have {usual:.0f} or more")
    return found


def _unread(root: Path, description: str) -> str:
    """What is wrong with the description of a companion, where it is there."""
    try:
        content = json.loads((root / description).read_text("utf8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f"{description} cannot be read: {error}"
    return "" if isinstance(content, dict) and "format" in content else f"{description} says no format"


def _name(dataset: Dataset, index: int) -> str:
    return dataset.joints[index] if index < len(dataset.joints) else str(index)


def told(inspections: Sequence[Inspection]) -> str:
    """A table of all, and what each holds."""
    rows = [["data set", "version", "episodes", "frames", "hours", "fps", "cameras", "values", "tasks"]]
    for one in inspections:
        data = one.dataset
        size = len(one.ranges.get(STATE, {}).get("min", data.joints))
        episodes = len({part.episode.index for part in one.parts})
        rows.append([
            str(data.root), data.meta.version, str(episodes), str(one.frames), f"{one.hours:.2f}",
            f"{data.fps:g}", ", ".join(data.cameras) or "none", str(size), str(len(one.tasks)),
        ])  # fmt: skip
    return "\n\n".join([table(rows), *(_told(one) for one in inspections)])


def _told(one: Inspection) -> str:
    data = one.dataset
    lengths = [episode.length for episode in data.episodes]
    lines = [
        str(data.root),
        f"  robot      {data.info.get('robot_type') or 'not named'}",
        f"  episodes   {min(lengths)} to {max(lengths)} frames, in the middle {np.median(lengths):.0f}",
    ]
    for camera in data.cameras:
        lines.append(f"  camera     {camera}: {_image(data, data.meta.images[camera])}")
    for camera in data.depth_cameras:
        lines.append(f"  depth      {camera}: {_image(data, data.meta.depths[camera])}")
    companions = sorted(path.name for path in (data.root / FOLDER).glob("*") if path.is_dir())
    if companions:
        lines.append(f"  companions {', '.join(companions)}")
    for key in ("units", "norm_tag", "contract", "action"):
        if key in data.notes:
            lines.append(f"  {key:<10} {data.notes[key]}")
    shown = one.tasks.most_common(TASKS_SHOWN)
    lines += [f"  task       {count} x {text!r}" for text, count in shown]
    if len(one.tasks) > len(shown):
        lines.append(f"  task       and {len(one.tasks) - len(shown)} others")
    lines += [f"  {line}" for line in table(range_rows(one)).splitlines()]
    lines += [f"  odd: {text}" for text in one.odd] or ["  nothing odd"]
    return "\n".join(lines)


def range_rows(one: Inspection) -> list[list[str]]:
    """Of each value of state and action."""
    rows = [["value", "least", "1 %", "median", "99 %", "most"]]
    for kind, figures in one.ranges.items():
        for index in range(len(figures["min"])):
            name = f"{kind.removeprefix('observation.')} {_name(one.dataset, index)}"
            numbers = [figures[key][index] for key in ("min", "q01", "q50", "q99", "max")]
            rows.append([name, *(f"{number:.4g}" for number in numbers)])
    return rows


def _image(dataset: Dataset, feature: str) -> str:
    height, width = image_size(dataset.features[feature])
    kind = "video" if dataset.features[feature]["dtype"] == "video" else "images in parquet"
    return f"{width} x {height}, {kind}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, the first row being the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
