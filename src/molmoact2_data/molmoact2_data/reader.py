# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a LeRobotDataset v3.0, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from pyarrow import parquet

from .layout import ACTION, IMAGES, INFO, NOTES, STATE, TASKS, VERSION, DatasetError


@dataclass(frozen=True)
class Sample:
    """One frame. time: since the episode began [s]; state, action: float32 (D,), action None where there is none;
    images: uint8 (H, W, 3) RGB by camera, as the video decodes."""

    time: float
    state: np.ndarray
    action: np.ndarray | None
    images: dict[str, np.ndarray]


@dataclass(frozen=True)
class Episode:
    index: int
    task: str
    length: int
    row: dict[str, Any]


class Dataset:
    """One dataset, open for reading. Errors: DatasetError, here and while samples are read."""

    def __init__(self, root: Path):
        self.root = root
        if not (root / INFO).is_file():
            raise DatasetError(f"{root} is no LeRobot dataset: {INFO} is missing")
        info = self._json(INFO)
        version = info.get("codebase_version")
        if version != VERSION:
            raise DatasetError(
                f"{root} is of version {version}, {VERSION} is read; convert it with LeRobot's own script "
                "(lerobot.scripts.convert_dataset_v21_to_v30)"
            )
        for name, kind in (("fps", (int, float)), ("features", dict), ("data_path", str)):
            if not isinstance(info.get(name), kind):
                raise DatasetError(f"{root / INFO}: {name!r} is missing or of another kind than {VERSION} has it")
        self.notes = self._json(NOTES) if (root / NOTES).is_file() else {}
        self.info, self.fps, self.features = info, float(info["fps"]), info["features"]
        if STATE not in self.features:
            raise DatasetError(f"{root} has no {STATE}; it has: {', '.join(self.features)}")
        videos = [name for name, what in self.features.items() if what.get("dtype") == "video"]
        self.cameras = [name.removeprefix(IMAGES) for name in videos]
        if videos and not isinstance(info.get("video_path"), str):
            raise DatasetError(f"{root / INFO}: 'video_path' is missing, and there are videos: {', '.join(videos)}")
        self.joints = _names(self.features[STATE])
        self.episodes = list(self._episodes())

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.root / name).read_text("utf8"))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.root / name} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise DatasetError(f"{self.root / name} holds no table of names and values")
        return content

    def _table(self, path: Path) -> Any:
        try:
            return parquet.read_table(path)
        except (OSError, ValueError) as error:    # ArrowInvalid is a ValueError
            raise DatasetError(f"{path} cannot be read: {error}") from error

    def _episodes(self) -> Iterator[Episode]:
        tasks = self._table(self.root / TASKS)
        column = _task_column(tasks)
        if not {"task_index", column} <= set(tasks.column_names):
            raise DatasetError(f"{self.root / TASKS}: it has no tasks; its columns: {', '.join(tasks.column_names)}")
        words = dict(zip(tasks["task_index"].to_pylist(), tasks[column].to_pylist(), strict=True))
        files = sorted((self.root / "meta/episodes").glob("*/*.parquet"))
        if not files:
            raise DatasetError(f"{self.root} has no episodes: meta/episodes holds no parquet file")
        for file in files:
            table = self._table(file)
            kept = [name for name in table.column_names if not name.startswith("stats/")]
            for row in table.select(kept).to_pylist():
                lacking = [name for name in self._needed() if row.get(name) is None]
                if lacking:
                    raise DatasetError(f"{file}: column {lacking[0]!r} is missing, or empty in a row")
                task = row["tasks"][0] if row.get("tasks") else words.get(0, "")
                yield Episode(int(row["episode_index"]), str(task), int(row["length"]), row)

    def _needed(self) -> list[str]:
        """Columns of an episode's row."""
        parts = ("chunk_index", "file_index", "from_timestamp")
        of_videos = [f"videos/{IMAGES}{camera}/{part}" for camera in self.cameras for part in parts]
        return ["episode_index", "length", "data/chunk_index", "data/file_index", *of_videos]

    def samples(self, episode: Episode) -> Iterator[Sample]:
        """The frames of an episode, in order."""
        row = episode.row
        path = self.root / self.info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        table = self._table(path)
        lacking = [name for name in ("episode_index", STATE, "timestamp") if name not in table.column_names]
        if lacking:
            raise DatasetError(f"{path}: column {lacking[0]!r} is missing; it has: {', '.join(table.column_names)}")
        mask = np.asarray(table["episode_index"]) == episode.index
        if int(mask.sum()) != episode.length:
            raise DatasetError(
                f"{path}: episode {episode.index} has {int(mask.sum())} frames, the meta data say {episode.length}"
            )
        states = np.array(table[STATE].to_pylist(), np.float32)[mask]
        actions = np.array(table[ACTION].to_pylist(), np.float32)[mask] if ACTION in table.column_names else None
        times = np.asarray(table["timestamp"])[mask]
        pictures = [self.pictures(episode, camera) for camera in self.cameras]
        for index in range(episode.length):
            images = {}
            for camera, frames in zip(self.cameras, pictures, strict=True):
                image = next(frames, None)
                if image is None:
                    raise DatasetError(f"{self.root}: the video of camera {camera} ends in episode {episode.index}")
                images[camera] = image
            yield Sample(float(times[index]), states[index], None if actions is None else actions[index], images)

    def pictures(self, episode: Episode, camera: str) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3) RGB of one camera from the episode's first frame on; it does not stop at its last."""
        prefix = f"videos/{IMAGES}{camera}"
        path = self.root / self.info["video_path"].format(
            video_key=IMAGES + camera,
            chunk_index=episode.row[f"{prefix}/chunk_index"],
            file_index=episode.row[f"{prefix}/file_index"],
        )
        begin = float(episode.row[f"{prefix}/from_timestamp"])
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                container.seek(int(begin * av.time_base))
                for frame in container.decode(stream):
                    if frame.time is not None and frame.time >= begin - 0.5 / self.fps:
                        yield frame.to_ndarray(format="rgb24")
        except (OSError, av.error.FFmpegError, IndexError) as error:
            raise DatasetError(f"{path} cannot be read: {error}") from error


def _names(feature: dict[str, Any]) -> list[str]:
    names = feature.get("names")
    if isinstance(names, dict):    # some writers name them by group
        names = [name for group in names.values() for name in group]
    return [str(name) for name in names or []]


def _task_column(tasks: Any) -> str:
    """Some writers leave the words in the index of the table, which has no name of its own."""
    return "task" if "task" in tasks.column_names else "__index_level_0__"
