# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a data set, before anything is learnt from it: numbers are read, videos are opened, and no image
is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from .companions import SCHEMAS, Companion
from .keep import Part
from .layout import ACTION, STATE, TASK, DatasetError
from .meta import Episode, Place, image_size
from .pictures import BROKEN, TOLERANCE
from .reader import Dataset, Vectors
from .stretches import off_rate

RATE = 0.02     # share by which a video's rate may be off
JITTER = 0.5    # share of the time between frames by which one may be early or late


@dataclass(frozen=True)
class _Video:
    """size: (height, width); rate: frames a second; seconds: how long it is."""

    size: tuple[int, int]
    rate: float
    seconds: float


class Checker:
    """Checks the episodes of one data set."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        self._videos: dict[Path, _Video | str] = {}
        self._known: dict[str, Companion] = {}

    def problems(self, episode: Episode, vectors: Vectors | None = None) -> list[str]:
        """Empty for a sound episode. vectors: the episode's, where they were read already."""
        try:
            found = list(self._of_numbers(vectors or self._dataset.vectors(episode), episode))
        except DatasetError as error:
            return [str(error)]
        return [*found, *self.of_companions(episode), *self.of_videos(episode)]

    def _of_numbers(self, vectors: Vectors, episode: Episode) -> Iterator[str]:
        where = f"{self._dataset.root}: episode {episode.index}"
        if vectors.action is None:
            yield f"{where} has no actions; there is nothing to learn of it"
        for name, values in ((STATE, vectors.state), (ACTION, vectors.action)):
            if values is not None and not np.isfinite(values).all():
                frame = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
                yield f"{where}: {name} is not finite in frame {frame}"
        yield from self.of_words(vectors, episode)
        late = off_rate(vectors.time, self._dataset.fps, JITTER)
        if late:
            yield f"{where}: {late}"

    def of_words(self, vectors: Vectors, episode: Episode) -> list[str]:
        """Whether frames are of another instruction than the one that is stated for their episode."""
        if vectors.tasks is None or len(episode.tasks) != 1:
            return []
        (stated,), words = episode.tasks, self._dataset.words
        other = next((number for number in np.unique(vectors.tasks).tolist() if words.get(number) != stated), None)
        if other is None:
            return []
        frame, told = int(np.argmax(vectors.tasks == other)), words.get(other, "nothing")
        return [
            f"{self._dataset.root}: episode {episode.index}: frame {frame} has {TASK} {other} ({told!r}), and the "
            f"episode's instruction is {stated!r}"
        ]

    def of_companions(self, episode: Episode) -> list[str]:
        """What is said of an episode's frames and cannot be: the first of each kind."""
        root, found = self._dataset.root, []
        try:
            self._known = self._known or {name: Companion(root, name) for name in SCHEMAS}
            for name, companion in self._known.items():
                for frame, wrong in companion.faults(episode.index):
                    found.append(f"{root}: frame {frame} of episode {episode.index}: {name}: {wrong}")
                    break
        except DatasetError as error:
            found.append(str(error))
        return found

    def of_videos(self, episode: Episode) -> list[str]:
        """What is wrong with the files that hold an episode's images."""
        found = []
        for feature, place in episode.videos.items():
            if place.path not in self._videos:
                self._videos[place.path] = _opened(place.path)
            video = self._videos[place.path]
            if isinstance(video, str):
                found.append(video)
            else:
                found += self._of_video(video, place, episode, image_size(self._dataset.features[feature]))
        return found

    def _of_video(self, video: _Video, place: Place, episode: Episode, size: tuple[int, int]) -> Iterator[str]:
        fps = self._dataset.fps
        if video.size != size:
            there, stated = (f"{width} x {height}" for height, width in (video.size, size))
            yield f"{place.path} has {there} pixels, {stated} is stated"
        if abs(video.rate / fps - 1) > RATE:
            yield f"{place.path} has {video.rate:g} frames a second, {fps:g} are stated"
        last = place.begin + (episode.length - 1) / fps
        if video.seconds < last + TOLERANCE / fps:
            yield (
                f"{place.path} ends at {video.seconds:.2f} s; the last frame of episode {episode.index} is at "
                f"{last:.2f} s"
            )


def _opened(path: Path) -> _Video | str:
    """A video's own facts, or what is wrong with it."""
    if not path.is_file():
        return f"{path} is missing"
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate, of_stream = float(stream.average_rate or 0), float((stream.duration or 0) * (stream.time_base or 0))
            seconds = of_stream or (container.duration or 0) / av.time_base
            return _Video((stream.height, stream.width), rate, seconds)
    except BROKEN as error:
        return f"{path} cannot be read: {error}"


def check(
    dataset: Dataset, parts: Sequence[Part], most: int = 20, progress: Callable[[], object] = lambda: None
) -> list[str]:
    """The first so many things that are wrong with the episodes that these are parts of; where it ended with them, the
    last line says of how many episodes nothing is known."""
    checker, found = Checker(dataset), dict[str, None]()
    of_episode: dict[int, list[Part]] = {}
    for part in parts:
        of_episode.setdefault(part.episode.index, []).append(part)
    for looked_at, those in enumerate(of_episode.values(), 1):
        silent = [part for part in those if not part.episode.task.strip()]
        found |= dict.fromkeys([*checker.problems(those[0].episode), *(_silent(dataset, part) for part in silent)])
        progress()
        if len(found) >= most and looked_at < len(of_episode):
            left = len(of_episode) - looked_at
            return [*list(found)[:most], f"{dataset.root}: {left} more episodes were not looked at after so much"]
    return list(found)[:most]


def _silent(dataset: Dataset, part: Part) -> str:
    """A part without an instruction."""
    where = f"{dataset.root}: episode {part.episode.index}"
    if part.length == part.episode.length:
        return f"{where} has no task in words"
    return f"{where}: frames {part.first} to {part.end - 1} have no task in words"
