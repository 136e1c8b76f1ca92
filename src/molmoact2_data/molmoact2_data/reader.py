# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a LeRobot dataset of version 2.0, 2.1 or 3.0, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .depth_images import decode_depth
from .layout import ACTION, STATE, TASK, TIME, DatasetError
from .meta import Episode, image_size, read_meta
from .pictures import Videos, data_of, from_cell, from_video
from .tables import EpisodeTable

__all__ = ["Dataset", "Episode", "Sample", "Vectors"]


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
    where there is none; tasks: int64 (N,), each frame's number among the data set's instructions, None where frames do
    not say it."""

    time: np.ndarray
    state: np.ndarray
    action: np.ndarray | None
    tasks: np.ndarray | None = None


class Dataset:
    """One dataset, open for reading. Errors: DatasetError, here and while samples are read."""

    def __init__(self, root: Path):
        self.root = root
        self.meta = meta = read_meta(root)
        self.info, self.notes, self.fps, self.features = meta.info, meta.notes, meta.fps, meta.features
        self.cameras, self.depth_cameras = list(meta.images), list(meta.depths)
        self.joints = names_of(self.features[STATE])
        self.words = meta.words()
        self.episodes = meta.episodes()
        self._open: tuple[Path, EpisodeTable] | None = None
        self._videos = Videos()

    def samples(self, episode: Episode) -> Iterator[Sample]:
        """The frames of an episode, in order."""
        return self.frames(episode, range(episode.length))

    def frames(self, episode: Episode, frames: Sequence[int]) -> Iterator[Sample]:
        """The frames of an episode with these numbers, from 0, in rising order; images of others are not kept."""
        if list(frames) != sorted(set(frames)) or (len(frames) and not 0 <= frames[0] <= frames[-1] < episode.length):
            raise DatasetError(
                f"{self.root}: frames of episode {episode.index} are wanted that are not rising numbers from 0 to "
                f"{episode.length - 1}"
            )
        vectors = self.vectors(episode)
        pictures = [self.pictures(episode, camera, frames) for camera in self.cameras]
        for index in frames:
            images = {camera: next(ones) for camera, ones in zip(self.cameras, pictures, strict=True)}
            action = None if vectors.action is None else vectors.action[index]
            yield Sample(float(vectors.time[index]), vectors.state[index], action, images)

    def vectors(self, episode: Episode) -> Vectors:
        """All numbers of an episode; no image is decoded."""
        file = self._table(episode)
        there = [name for name in (ACTION, TASK) if name in file.columns]
        table = file.rows(episode.index, [STATE, TIME, *there])
        if len(table) != episode.length:
            raise self._wrong_length(episode, len(table))
        state = self._matrix(table[STATE], STATE, episode)
        action = self._matrix(table[ACTION], ACTION, episode) if ACTION in there else None
        tasks = np.asarray(table[TASK]) if TASK in there else None
        return Vectors(np.asarray(table[TIME], np.float32), state, action, tasks)

    def tasks(self, episode: Episode) -> np.ndarray | None:
        """Each frame's number among the data set's instructions, int64 (N,); None where frames do not say it."""
        file = self._table(episode)
        if TASK not in file.columns:
            return None
        found = np.asarray(file.rows(episode.index, [TASK])[TASK])
        if len(found) != episode.length:
            raise self._wrong_length(episode, len(found))
        return found

    def pictures(self, episode: Episode, camera: str, frames: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3) RGB of one camera: of the frames with these numbers, in rising order, or of all."""
        feature = self.meta.images[camera]
        size, wanted = image_size(self.features[feature]), range(episode.length) if frames is None else frames
        place = episode.videos.get(feature)
        if place is not None:
            yield from from_video(self._videos, place, self.fps, wanted, size)
            return
        for where, cell in self._cells(episode, feature, wanted):
            yield from_cell(cell, size, where)

    def depth(self, episode: Episode, camera: str, frames: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Depth images, of the frames with these numbers, in rising order, or of all: uint16 (h, w), millimetres along
        the optical axis, 0: nothing."""
        feature = self.meta.depths[camera]
        size = image_size(self.features[feature])
        for where, cell in self._cells(episode, feature, range(episode.length) if frames is None else frames):
            try:
                image = decode_depth(data_of(cell, where))
            except DatasetError as error:
                raise error if where in str(error) else DatasetError(f"{where}: {error}") from error
            if image.shape != size:
                raise DatasetError(f"{where}: the image has shape {image.shape}, {size} is stated")
            yield image

    def _cells(self, episode: Episode, name: str, frames: Sequence[int]) -> Iterator[tuple[str, Any]]:
        """Cells of a column, and words for where each is."""
        wanted, count = set(frames), 0
        for cell in self._table(episode).cells(episode.index, name):
            if count in wanted:
                yield f"{episode.data}: {name} of episode {episode.index}, frame {count}", cell.as_py()
            count += 1
        if count != episode.length:
            raise self._wrong_length(episode, count)

    def _table(self, episode: Episode) -> EpisodeTable:
        if self._open is None or self._open[0] != episode.data:
            self._open = episode.data, EpisodeTable(episode.data)
        return self._open[1]

    def _matrix(self, column: Any, name: str, episode: Episode) -> np.ndarray:
        """float32 (N, D) of a column of lists, or of numbers where D is 1."""
        values = column.combine_chunks()
        lists = hasattr(values, "flatten") and hasattr(values.type, "value_type")
        flat = np.asarray(values.flatten() if lists else values, np.float32)
        size = int(np.prod(self.features.get(name, {}).get("shape") or [1]))
        if flat.size != len(values) * size:
            raise DatasetError(
                f"{episode.data}: {name} of episode {episode.index} has {flat.size} numbers in {len(values)} frames, "
                f"{size} in each are stated"
            )
        return flat.reshape(len(values), size)

    def _wrong_length(self, episode: Episode, found: int) -> DatasetError:
        return DatasetError(
            f"{episode.data}: episode {episode.index} has {found} frames, the meta data say {episode.length}"
        )


def names_of(feature: dict[str, Any]) -> list[str]:
    """Names of a vector's values; empty where it has none."""
    names = feature.get("names")
    if isinstance(names, dict):    # some writers name them by group, some by place
        names = [name for key, group in names.items() for name in (group if isinstance(group, list) else [key])]
    return [str(name) for name in names or []]
