# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a LeRobotDataset v3.0, episode by episode: parquet by pyarrow, video by PyAV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import pyarrow
from pyarrow import parquet

from . import layout, statistics
from .layout import ACTION, CHUNK_FILES, IMAGES, STATE, DatasetError

# LeRobot's reader takes the words of the tasks for the index of their table, which pandas knows by this note.
TASKS_NOTE = {
    "index_columns": ["task"],
    "column_indexes": [],
    "columns": [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ],
}
QUALITY = "18"    # x264's constant rate factor
MB = 1_000_000


@dataclass(frozen=True)
class Row:
    """One frame. state, action: (D,); images: uint8 (H, W, 3) RGB by camera."""

    state: np.ndarray
    action: np.ndarray
    images: Mapping[str, np.ndarray]


class _Video:
    """The video files of one camera; an episode lies in one of them. Its place is noted for the reader."""

    def __init__(self, root: Path, camera: str, size: tuple[int, int], fps: int):
        self._root, self._key, self._size, self._fps = root, IMAGES + camera, size, fps
        self.file, self.frames = -1, 0
        self._container: Any = None

    def begin_episode(self) -> None:
        if self._container is None or self._bytes > layout.VIDEO_MB * MB:
            self.close()
            self.file, self.frames = self.file + 1, 0
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._path), "w")
            # A key frame every other one: a reader that draws at random decodes two frames for one.
            options = {"crf": QUALITY, "g": "2", "preset": "veryfast"}
            stream = self._container.add_stream("libx264", rate=self._fps, options=options)
            stream.height, stream.width = self._size
            stream.pix_fmt, stream.time_base = layout.PIXELS, Fraction(1, self._fps)
            self._stream = stream

    @property
    def _bytes(self) -> int:
        """As far as it is written."""
        return self._path.stat().st_size if self._path.exists() else 0

    @property
    def _path(self) -> Path:
        chunk, file = divmod(self.file, CHUNK_FILES)
        return self._root / layout.VIDEO.format(video_key=self._key, chunk_index=chunk, file_index=file)

    def add(self, image: np.ndarray) -> None:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        picture.pts = self.frames
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def close(self) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None


class _Table:
    """Parquet files of rows, a group of rows for each episode."""

    def __init__(self, root: Path, pattern: str, most_mb: int):
        self._root, self._pattern, self._most = root, pattern, most_mb * MB
        self.file, self._size = -1, 0
        self._writer: parquet.ParquetWriter | None = None

    def add(self, table: pyarrow.Table) -> tuple[int, int]:
        """Chunk and file in which it lies."""
        if self._writer is None or self._size > self._most:
            self.close()
            self.file, self._size = self.file + 1, 0
            chunk, file = divmod(self.file, CHUNK_FILES)
            path = self._root / self._pattern.format(chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(path, table.schema)
        self._writer.write_table(table)
        self._size += table.nbytes
        return divmod(self.file, CHUNK_FILES)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@dataclass
class _Episode:
    task: str
    length: int
    extra: Mapping[str, str]
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    pixels: dict[str, statistics.Pixels] = field(default_factory=dict)


class DatasetWriter:
    """Use as a context manager; what stands when it ends without an error is a whole dataset.

    joints: names of the values of state and action. cameras: name -> (height, width), both even numbers. notes: kept in
    layout.NOTES. Errors: DatasetError.
    """

    def __init__(
        self, root: Path, fps: int, joints: Sequence[str], cameras: Mapping[str, tuple[int, int]], robot: str,
        notes: Mapping[str, Any],
    ):
        odd = [name for name, size in cameras.items() if size[0] % 2 or size[1] % 2]
        if odd:
            raise DatasetError(f"camera {odd[0]} has {cameras[odd[0]]} pixels; the video codec takes even numbers only")
        if root.exists():
            raise DatasetError(f"{root} exists already; remove it or choose another folder")
        self.root, self._fps, self._joints, self._robot, self._notes = root, fps, tuple(joints), robot, notes
        self._cameras = dict(cameras)
        root.mkdir(parents=True)
        self._videos = {name: _Video(root, name, size, fps) for name, size in cameras.items()}
        self._data = _Table(root, layout.DATA, layout.DATA_MB)
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._values: dict[str, list[np.ndarray]] = {STATE: [], ACTION: []}
        self._pixels = {name: statistics.Pixels() for name in cameras}
        self.episodes = self.frames = 0
        self._open: _Episode | None = None

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for video in self._videos.values():
            video.close()
        self._data.close()
        if error is None and self.episodes:
            self._write_meta()

    def begin(self, task: str, length: int, extra: Mapping[str, str]) -> None:
        """An episode of so many frames. extra: texts kept with it."""
        self._open = _Episode(task, length, extra, pixels={name: statistics.Pixels() for name in self._cameras})
        self._counted = statistics.worth_counting(length)
        for video in self._videos.values():
            video.begin_episode()

    def add(self, row: Row) -> None:
        assert self._open is not None
        for name, video in self._videos.items():
            image = row.images[name]
            if image.shape[:2] != self._cameras[name]:
                now, then = (f"{width} x {height}" for height, width in (image.shape[:2], self._cameras[name]))
                raise DatasetError(f"camera {name} sends {now} pixels, it sent {then} when the dataset began")
            video.add(image)
            if len(self._open.states) in self._counted:
                self._open.pixels[name].add(image)
        self._open.states.append(np.asarray(row.state, np.float32))
        self._open.actions.append(np.asarray(row.action, np.float32))

    def end(self) -> None:
        episode, self._open = self._open, None
        assert episode is not None and len(episode.states) == episode.length
        number = self._tasks.setdefault(episode.task, len(self._tasks))
        count = np.arange(episode.length)
        states, actions = np.stack(episode.states), np.stack(episode.actions)
        columns: dict[str, np.ndarray] = {
            STATE: states,
            ACTION: actions,
            "timestamp": (count / self._fps).astype(np.float32),
            "frame_index": count,
            "episode_index": np.full(episode.length, self.episodes),
            "index": count + self.frames,
            "task_index": np.full(episode.length, number),
        }
        data = self._data.add(pyarrow.table({name: _column(values) for name, values in columns.items()}))
        row: dict[str, Any] = {
            "episode_index": self.episodes, "tasks": [episode.task], "length": episode.length,
            "data/chunk_index": data[0], "data/file_index": data[1],
            "dataset_from_index": self.frames, "dataset_to_index": self.frames + episode.length,
        }
        for name, video in self._videos.items():
            chunk, file = divmod(video.file, CHUNK_FILES)
            begin, end = video.frames - episode.length, video.frames
            row |= {
                f"videos/{IMAGES}{name}/chunk_index": chunk, f"videos/{IMAGES}{name}/file_index": file,
                f"videos/{IMAGES}{name}/from_timestamp": begin / self._fps,
                f"videos/{IMAGES}{name}/to_timestamp": end / self._fps,
            }
            self._pixels[name].merge(episode.pixels[name])
        found = {name: statistics.of_values(values) for name, values in columns.items()}
        found |= {IMAGES + name: pixels.figures() for name, pixels in episode.pixels.items()}
        row |= {f"stats/{name}/{figure}": value for name, figures in found.items() for figure, value in figures.items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self._rows.append(row | {f"molmoact2/{name}": text for name, text in episode.extra.items()})
        self._values[STATE].append(states)
        self._values[ACTION].append(actions)
        self.episodes, self.frames = self.episodes + 1, self.frames + episode.length

    def _write_meta(self) -> None:
        what = layout.features(self._joints, self._cameras, self._fps)
        counts = self.episodes, self.frames, len(self._tasks)
        _write_json(self.root / layout.INFO, layout.info(self._fps, what, self._robot, *counts))
        _write_json(self.root / layout.NOTES, self._notes)
        figures = {name: statistics.of_values(np.concatenate(values)) for name, values in self._values.items()}
        _write_json(self.root / layout.STATS, figures | {IMAGES + n: p.figures() for n, p in self._pixels.items()})
        episodes = self.root / layout.EPISODES.format(chunk_index=0, file_index=0)
        _write_table(episodes, pyarrow.Table.from_pylist(self._rows))
        tasks = pyarrow.table({"task_index": list(self._tasks.values()), "task": list(self._tasks)})
        _write_table(self.root / layout.TASKS, tasks.replace_schema_metadata({"pandas": json.dumps(TASKS_NOTE)}))


def _column(values: np.ndarray) -> pyarrow.Array:
    if values.ndim == 1:
        return pyarrow.array(values)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n", "utf8")


def _write_table(path: Path, table: pyarrow.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
