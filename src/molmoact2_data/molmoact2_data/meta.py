# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a data set says of itself: its features, and where the numbers and images of each episode lie. LeRobot's
versions 2.0, 2.1 (a file for each episode) and 3.0 (many episodes in a file)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import parquet

from .layout import DEPTH, IMAGES, INFO, NOTES, STATE, TASKS, VERSION, DatasetError

OLDER = ("v2.0", "v2.1")
EPISODES_2, TASKS_2 = "meta/episodes.jsonl", "meta/tasks.jsonl"
OURS = "molmoact2/"    # columns of an episode's row that this suite's writer adds


@dataclass(frozen=True)
class Place:
    """Where an episode begins in a video. begin: since the video began [s]."""

    path: Path
    begin: float


@dataclass(frozen=True)
class Episode:
    """task: the instruction, empty where none is known. tasks: all that are stated for it; where they are not one, its
    frames say which is whose (keep.by_task). videos: by feature. extra: texts that this suite's writer keeps with an
    episode."""

    index: int
    task: str
    length: int
    data: Path
    videos: dict[str, Place] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Meta:
    """images, depths: camera -> feature; images of the type `video` or `image`."""

    root: Path
    info: dict[str, Any]
    notes: dict[str, Any]
    version: str
    fps: float
    features: dict[str, Any]
    images: dict[str, str]
    depths: dict[str, str]

    @property
    def videos(self) -> list[str]:
        """Features that are videos."""
        return [feature for feature in self.images.values() if self.features[feature]["dtype"] == "video"]

    def words(self) -> dict[int, str]:
        """Instructions, by the number that frames give (task_index). Errors: DatasetError."""
        if self.version == VERSION:
            return _tasks_3(self.root / TASKS)
        return {row["task_index"]: str(row["task"]) for row in _lines(self.root / TASKS_2) if _is_task(row)}

    def episodes(self) -> list[Episode]:
        """Errors: DatasetError."""
        found = list(_episodes_3(self) if self.version == VERSION else _episodes_2(self))
        if not found:
            raise DatasetError(f"{self.root} has no episodes")
        return found


def read_meta(root: Path) -> Meta:
    """Errors: DatasetError."""
    if not (root / INFO).is_file():
        raise DatasetError(f"{root} is no LeRobot dataset: {INFO} is missing")
    info = _json(root / INFO)
    version = info.get("codebase_version")
    if version not in (VERSION, *OLDER):
        raise DatasetError(
            f"{root} is of version {version}; {', '.join(OLDER)} and {VERSION} are read; convert it with LeRobot's own "
            "scripts"
        )
    for name, kind in (("fps", (int, float)), ("features", dict), ("data_path", str)):
        if not isinstance(info.get(name), kind):
            raise DatasetError(f"{root / INFO}: {name!r} is missing or of another kind than {version} has it")
    if not info["fps"] > 0:
        raise DatasetError(f"{root / INFO}: 'fps' is {info['fps']}, expected frames a second")
    features = info["features"]
    if STATE not in features:
        raise DatasetError(f"{root} has no {STATE}; it has: {', '.join(features)}")
    for feature, what in features.items():
        _check_feature(root, feature, what)
    images, depths = _cameras(features)
    notes = _json(root / NOTES) if (root / NOTES).is_file() else {}
    meta = Meta(root, info, notes, version, float(info["fps"]), features, images, depths)
    if meta.videos and not isinstance(info.get("video_path"), str):
        raise DatasetError(f"{root / INFO}: 'video_path' is missing, and there are videos: {', '.join(meta.videos)}")
    return meta


def _check_feature(root: Path, name: str, what: Any) -> None:
    shape = what.get("shape") if isinstance(what, dict) else None
    numbers = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    if not numbers or not isinstance(what.get("dtype"), str):
        raise DatasetError(f"{root / INFO}: feature {name!r} has no dtype, or no shape of whole numbers")
    for part, kinds in (("names", (list, dict)), ("info", dict), ("video_info", dict)):
        if not isinstance(what.get(part) or {}, kinds):
            raise DatasetError(f"{root / INFO}: {part!r} of feature {name!r} is {what[part]!r}")


def _cameras(features: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Of images and of depth images: name -> feature. Depth as a video is neither."""
    images, depths = {}, {}
    for feature, what in features.items():
        if feature.startswith(DEPTH):
            depths[feature.removeprefix(DEPTH)] = feature
        elif what.get("dtype") in ("video", "image") and not is_depth(what):
            images[feature.removeprefix(IMAGES)] = feature
    return images, depths


def is_depth(feature: Mapping[str, Any]) -> bool:
    about = feature.get("info") or feature.get("video_info") or {}
    return bool(about.get("is_depth_map") or about.get("video.is_depth_map"))


def image_size(feature: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) as stated; some writers put the channels first."""
    shape, names = list(feature.get("shape") or ()), feature.get("names")
    if len(shape) != 3:
        return (0, 0)
    first = names[0] in ("channel", "channels") if isinstance(names, list) and names else shape[0] in (1, 3)
    height, width = shape[1:] if first else shape[:2]
    return int(height), int(width)


# --- version 3 --------------------------------------------------------------------------------------------------------
def _episodes_3(meta: Meta) -> Iterator[Episode]:
    files = sorted((meta.root / "meta/episodes").glob("*/*.parquet"))
    if not files:
        raise DatasetError(f"{meta.root} has no episodes: meta/episodes holds no parquet file")
    parts = ("chunk_index", "file_index", "from_timestamp")
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    needed += [f"videos/{feature}/{part}" for feature in meta.videos for part in parts]
    for file in files:
        table = _table(file)
        kept = [name for name in table.column_names if not name.startswith("stats/")]
        for row in table.select(kept).to_pylist():
            lacking = [name for name in needed if row.get(name) is None]
            if lacking:
                raise DatasetError(f"{file}: column {lacking[0]!r} is missing, or empty in a row")
            yield _episode_3(meta, row)


def _episode_3(meta: Meta, row: Mapping[str, Any]) -> Episode:
    def path(pattern: str, prefix: str, **more: str) -> Path:
        numbers = {part: row[f"{prefix}/{part}"] for part in ("chunk_index", "file_index")}
        return meta.root / _filled(pattern, meta, **numbers, **more)

    videos = {
        feature: Place(
            path(meta.info["video_path"], f"videos/{feature}", video_key=feature),
            float(row[f"videos/{feature}/from_timestamp"]),
        )
        for feature in meta.videos
    }
    tasks = _stated(row)
    extra = {name.removeprefix(OURS): str(text) for name, text in row.items() if name.startswith(OURS)}
    data = path(meta.info["data_path"], "data")
    return Episode(int(row["episode_index"]), _first(tasks), int(row["length"]), data, videos, extra, tasks)


def _tasks_3(path: Path) -> dict[int, str]:
    tasks = _table(path)
    # Some writers leave the words in the index of the table, which has no name of its own.
    column = "task" if "task" in tasks.column_names else "__index_level_0__"
    if not {"task_index", column} <= set(tasks.column_names):
        raise DatasetError(f"{path}: it has no tasks; its columns: {', '.join(tasks.column_names)}")
    found = zip(tasks["task_index"].to_pylist(), tasks[column].to_pylist(), strict=True)
    return {number: str(words) for number, words in found if words is not None}


def _stated(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Instructions of an episode, each once."""
    given = row.get("tasks") or []
    return tuple(dict.fromkeys(str(words) for words in ([given] if isinstance(given, str) else given) if words))


def _first(tasks: tuple[str, ...]) -> str:
    return tasks[0] if tasks else ""


# --- version 2 --------------------------------------------------------------------------------------------------------
def _episodes_2(meta: Meta) -> Iterator[Episode]:
    chunk_size = meta.info.get("chunks_size")
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise DatasetError(f"{meta.root / INFO}: 'chunks_size' is missing or not a number of episodes")
    for row in _lines(meta.root / EPISODES_2):
        if not isinstance(row.get("episode_index"), int) or not isinstance(row.get("length"), int):
            raise DatasetError(f"{meta.root / EPISODES_2}: a line lacks 'episode_index' or 'length': {row}")
        index = row["episode_index"]
        numbers = {"episode_chunk": index // chunk_size, "episode_index": index}
        videos = {
            feature: Place(meta.root / _filled(meta.info["video_path"], meta, video_key=feature, **numbers), 0.0)
            for feature in meta.videos
        }
        tasks = _stated(row)
        data = meta.root / _filled(meta.info["data_path"], meta, **numbers)
        yield Episode(index, _first(tasks), row["length"], data, videos, tasks=tasks)


def _is_task(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("task_index"), int) and row.get("task") is not None


# --- files ------------------------------------------------------------------------------------------------------------
def _filled(pattern: str, meta: Meta, **values: Any) -> str:
    try:
        return pattern.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise DatasetError(f"{meta.root / INFO}: path {pattern!r} is not as {meta.version} has it ({error})") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds no table of names and values")
    return content


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text("utf8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{path}: a line is no table of names and values")
    return rows


def _table(path: Path) -> Any:
    try:
        return parquet.read_table(path)
    except (OSError, ValueError) as error:    # ArrowInvalid is a ValueError
        raise DatasetError(f"{path} cannot be read: {error}") from error
