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

from .depth_images import decode_depth
from .layout import ACTION, DEPTH, IMAGES, INFO, NOTES, STATE, TASKS, VERSION, DatasetError
from .tables import EpisodeTable


@dataclass(frozen=True)
class Sample:
    """One frame. time: since the episode began [s]; state, action: float32 (D,), action None where there is none;
    images: uint8 (H, W, 3) RGB by camera, as the video decodes."""

    time: float
    state: np.ndarray
    action: np.ndarray | None
    images: dict[str, np.ndarray]


@dataclass(frozen=True)
class Vectors:
    """All numbers of an episode. time: float32 (N,), since it began [s]; state, action: float32 (N, D), action None
    where there is none."""

    time: np.ndarray
    state: np.ndarray
    action: np.ndarray | None


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
        self.depth_cameras = [name.removeprefix(DEPTH) for name in self.features if name.startswith(DEPTH)]
        self.episodes = list(self._episodes())
        self._open: tuple[Path, EpisodeTable] | None = None

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
        vectors = self.vectors(episode)
        pictures = [self.pictures(episode, camera) for camera in self.cameras]
        for index in range(episode.length):
            images = {}
            for camera, frames in zip(self.cameras, pictures, strict=True):
                image = next(frames, None)
                if image is None:
                    raise DatasetError(f"{self.root}: the video of camera {camera} ends in episode {episode.index}")
                images[camera] = image
            action = None if vectors.action is None else vectors.action[index]
            yield Sample(float(vectors.time[index]), vectors.state[index], action, images)

    def vectors(self, episode: Episode) -> Vectors:
        """All numbers of an episode; no image is decoded."""
        path, file = self._file_of(episode)
        actions = [ACTION] if ACTION in file.columns else []
        table = file.rows(episode.index, [STATE, "timestamp", *actions])
        if len(table) != episode.length:
            raise DatasetError(
                f"{path}: episode {episode.index} has {len(table)} frames, the meta data say {episode.length}"
            )
        state = _matrix(table[STATE])
        return Vectors(np.asarray(table["timestamp"]), state, _matrix(table[ACTION]) if actions else None)

    def depth(self, episode: Episode, camera: str) -> Iterator[np.ndarray]:
        """The depth images of an episode, in order: uint16 (h, w), millimetres along the optical axis, 0: nothing."""
        path, file = self._file_of(episode)
        name, size = DEPTH + camera, tuple(self.features[DEPTH + camera]["shape"][:2])
        cells = file.rows(episode.index, [name])[name]
        if len(cells) != episode.length:
            raise DatasetError(
                f"{path}: episode {episode.index} has {len(cells)} frames, the meta data say {episode.length}"
            )
        for frame, cell in enumerate(cells):
            where, data = f"{path}: {name} of episode {episode.index}, frame {frame}", (cell.as_py() or {}).get("bytes")
            if not data:
                raise DatasetError(f"{where}: no image in the file; images that lie in files of their own are not read")
            try:
                image = decode_depth(data)
            except DatasetError as error:
                raise DatasetError(f"{where}: {error}") from error
            if image.shape != size:
                raise DatasetError(f"{where}: the image has shape {image.shape}, {size} is stated")
            yield image

    def _file_of(self, episode: Episode) -> tuple[Path, EpisodeTable]:
        row = episode.row
        path = self.root / self.info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        if self._open is None or self._open[0] != path:
            self._open = path, EpisodeTable(path)
        return self._open

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


def _matrix(column: Any) -> np.ndarray:
    """float32 (N, D) of a column of lists."""
    values = column.combine_chunks()
    flat = np.asarray(values.flatten(), dtype=np.float32)
    return flat.reshape(len(values), -1)


def _names(feature: dict[str, Any]) -> list[str]:
    names = feature.get("names")
    if isinstance(names, dict):    # some writers name them by group
        names = [name for group in names.values() for name in group]
    return [str(name) for name in names or []]


def _task_column(tasks: Any) -> str:
    """Some writers leave the words in the index of the table, which has no name of its own."""
    return "task" if "task" in tasks.column_names else "__index_level_0__"
