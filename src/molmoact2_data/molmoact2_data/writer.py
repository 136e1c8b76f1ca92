# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a LeRobotDataset v3.0, episode by episode: parquet by pyarrow, video by PyAV."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import pyarrow

from . import layout, statistics
from .companions import CompanionWriter
from .depth_images import encode_depth
from .layout import ACTION, CHUNK_FILES, DEPTH, IMAGES, STATE, TIME, DatasetError
from .tables import MB, RolledTable, column, write_json, write_table

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


@dataclass(frozen=True)
class Row:
    """One frame. state, action: (D,); images: uint8 (H, W, 3) RGB by camera; depth: uint16 (h, w) by camera, in
    millimetres along the optical axis, 0 where nothing was measured."""

    state: np.ndarray
    action: np.ndarray
    images: Mapping[str, np.ndarray]
    depth: Mapping[str, np.ndarray] = field(default_factory=dict)


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


@dataclass
class _Episode:
    task: str
    length: int
    extra: Mapping[str, str]
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    depths: dict[str, list[bytes]] = field(default_factory=dict)
    pixels: dict[str, statistics.Pixels] = field(default_factory=dict)


class DatasetWriter:
    """Use as a context manager. The dataset is made in a hidden folder beside its own and takes its name when it is
    whole: where an error ends it, or no episode was written, nothing stands.

    joints: names of the values of state and action. cameras: name -> (height, width), both even numbers. notes: kept in
    layout.NOTES. depth: cameras that also have depth images, name -> (height, width). Errors: DatasetError.
    """

    def __init__(
        self, root: Path, fps: int, joints: Sequence[str], cameras: Mapping[str, tuple[int, int]], robot: str,
        notes: Mapping[str, Any], depth: Mapping[str, tuple[int, int]] | None = None,
    ):
        odd = [name for name, size in cameras.items() if size[0] % 2 or size[1] % 2]
        if odd:
            raise DatasetError(f"camera {odd[0]} has {cameras[odd[0]]} pixels; the video codec takes even numbers only")
        if root.exists():
            raise DatasetError(f"{root} exists already; remove it or choose another folder")
        self._goal, self._fps, self._joints, self._robot, self._notes = root, fps, tuple(joints), robot, notes
        self._cameras, self._depth = dict(cameras), dict(depth or {})
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            self.root = root = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".partial", dir=root.parent))
        except OSError as error:
            raise DatasetError(f"{root} cannot be made ({error.strerror}); choose another folder") from None
        self._companions: dict[str, CompanionWriter] = {}
        self._videos = {name: _Video(root, name, size, fps) for name, size in cameras.items()}
        self._data = RolledTable(root, layout.DATA, layout.DATA_MB)
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._values: dict[str, list[np.ndarray]] = {STATE: [], ACTION: []}
        self._pixels = {name: statistics.Pixels() for name in cameras}
        self.episodes = self.frames = 0
        self._open: _Episode | None = None

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            for video in self._videos.values():
                video.close()
            self._data.close()
            for companion in self._companions.values():
                companion.close()
            if error is None and self.episodes:
                self._write_meta()
                self.root.chmod(0o755)    # mkdtemp's folders are the maker's alone
                self.root.rename(self._goal)
        finally:    # also where the disk is full, and to close a file fails like the write before
            shutil.rmtree(self.root, ignore_errors=True)

    def companion(self, name: str) -> CompanionWriter:
        """What is known of single frames beside the data, under that name (companions.py)."""
        return self._companions.setdefault(name, CompanionWriter(self.root, name))

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
        for name, size in self._depth.items():
            if row.depth[name].shape != size:
                raise DatasetError(f"depth of camera {name} has shape {row.depth[name].shape}, expected {size}")
            self._open.depths.setdefault(name, []).append(encode_depth(row.depth[name]))
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
            TIME: (count / self._fps).astype(np.float32),
            "frame_index": count,
            "episode_index": np.full(episode.length, self.episodes),
            "index": count + self.frames,
            "task_index": np.full(episode.length, number),
        }
        arrays = {name: column(values) for name, values in columns.items()}
        for name, pictures in episode.depths.items():
            cells = [{"bytes": picture, "path": None} for picture in pictures]
            arrays[DEPTH + name] = pyarrow.array(cells, layout.PICTURE)
        data = self._data.add(pyarrow.table(arrays))
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
        what = layout.features(self._joints, self._cameras, self._fps, self._depth)
        counts = self.episodes, self.frames, len(self._tasks)
        write_json(self.root / layout.INFO, layout.info(self._fps, what, self._robot, *counts))
        write_json(self.root / layout.NOTES, self._notes)
        figures = {name: statistics.of_values(np.concatenate(values)) for name, values in self._values.items()}
        write_json(self.root / layout.STATS, figures | {IMAGES + n: p.figures() for n, p in self._pixels.items()})
        episodes = self.root / layout.EPISODES.format(chunk_index=0, file_index=0)
        write_table(episodes, pyarrow.Table.from_pylist(self._rows))
        tasks = pyarrow.table({"task_index": list(self._tasks.values()), "task": list(self._tasks)})
        write_table(self.root / layout.TASKS, tasks.replace_schema_metadata({"pandas": json.dumps(TASKS_NOTE)}))
