# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Frames to train on, drawn from several data sets, without holding them in memory.

Episodes come in an order drawn from a seed, and each is decoded from beginning to end; some of its frames go to a
bounded buffer, from which they are drawn. So memory depends on the buffer, not on the data, and videos are read in the
order in which they decode fast. What is drawn is a function of the seed alone: a run that is continued begins its
stream again and passes over what it has drawn, without decoding.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .checking import check
from .companions import ALTERNATIVES, DEPTH_CODES, POINTS, QUESTIONS, Companion, fault
from .frame import Frame
from .keep import Part, open_kept
from .layout import CORRECTED, DatasetError
from .meta import image_size
from .reader import Dataset, Episode, Vectors

KNOWN = (ALTERNATIVES, POINTS, QUESTIONS, DEPTH_CODES)
MOST = 10    # problems that are told at once
MEND = "molmoact2 data filter DATA -o OUT, and OUT in the place of DATA"


@dataclass(frozen=True)
class TrainingFrame:
    """One frame and all that is known of it. images: uint8 (H, W, 3) RGB by camera; state: float32 (D,); chunk: float32
    (horizon, D), the actions from this frame on, the last one repeated past the end of the episode; valid: bool
    (horizon,), False there. alternatives: instruction -> chunk (horizon, D); points: phrase -> where it is, as shares
    of width and height; depth_codes: int16 (cells,) or None. Points, questions and codes are of the main camera;
    elsewhere: points of the other cameras, by camera."""

    dataset: str
    episode: int
    frame: int
    images: dict[str, np.ndarray]
    state: np.ndarray
    chunk: np.ndarray
    valid: np.ndarray
    instruction: str
    alternatives: dict[str, np.ndarray] = field(default_factory=dict)
    points: dict[str, tuple[float, float]] = field(default_factory=dict)
    elsewhere: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    questions: tuple[tuple[str, str], ...] = ()
    depth_codes: np.ndarray | None = None


@dataclass(frozen=True)
class Share:
    """A data set and how often it is drawn from. root: its folder, or one with a list of what of it is kept (keep.py).
    episodes: which ones, None: all. frame: to the model's numbers, None: they are those already. camera: the main one,
    whose companions are used; None: those of every camera."""

    root: Path
    weight: float = 1.0
    episodes: range | None = None
    frame: Frame | None = None
    camera: str | None = None


class Source:
    """One data set as training frames. horizon: of the chunks. In a data set that was corrected (layout.CORRECTED) what
    was done is not what is to be learnt: a frame's chunk is the one that the alternatives name for the episode's own
    instruction, and where there is none it has no valid one. Errors: DatasetError."""

    def __init__(self, share: Share, horizon: int):
        (self.dataset, parts), self._horizon = open_kept(share.root), horizon
        self._to_model = share.frame.to_model if share.frame else lambda values: values
        chosen = share.episodes
        self.parts = [part for part in parts if chosen is None or part.episode.index in chosen]
        if not self.parts:
            raise DatasetError(f"{share.root} has no episode in {chosen}")
        last = max(episode.index for episode in self.dataset.episodes)
        if chosen is not None and chosen.stop - 1 > last:
            raise DatasetError(
                f"{share.root} has no episode {chosen.stop - 1}; [{chosen.start}, {chosen.stop}] was asked, the end "
                f"excluded, and the last one is {last}"
            )
        self._companions = {name: Companion(self.dataset.root, name) for name in KNOWN}
        self._corrected, self._camera = bool(self.dataset.notes.get(CORRECTED)), share.camera

    @property
    def mean_length(self) -> float:
        """Frames of a part."""
        return float(np.mean([part.length for part in self.parts]))

    def frames(self, episode: Episode, wanted: Sequence[int], end: int | None = None) -> Iterator[TrainingFrame]:
        """The frames of an episode with these numbers, in their order. end: of the part that they are of; no chunk
        reaches past it."""
        vectors, chosen = self._checked(episode), sorted(set(wanted))
        known, last = self._known(episode.index, set(wanted)), (episode.length if end is None else end) - 1
        for number, sample in zip(chosen, self.dataset.frames(episode, chosen), strict=True):
            assert vectors.action is not None
            rows = np.arange(number, number + self._horizon)
            chunk = self._to_model(vectors.action[np.minimum(rows, last)])
            where = f"{self.dataset.root}: frame {number} of episode {episode.index}"
            valid, fields = rows <= last, self._fields(known[number], where, vectors.action.shape[1])
            if self._corrected:
                better = fields["alternatives"].pop(episode.task, None)
                chunk, valid = (chunk, valid & False) if better is None else (better, valid | True)
            yield TrainingFrame(
                str(self.dataset.root), episode.index, number, sample.images, self._to_model(sample.state), chunk,
                valid, episode.task, **fields,
            )

    def _checked(self, episode: Episode) -> Vectors:
        where, vectors = f"{self.dataset.root}: episode {episode.index}", self.dataset.vectors(episode)
        if vectors.action is None:
            raise DatasetError(f"{where} has no actions; there is nothing to learn of it")
        for name, values in (("state", vectors.state), ("action", vectors.action)):
            if not np.isfinite(values).all():
                raise DatasetError(f"{where} has a {name} that is not finite; leave the episode out")
        if not episode.task.strip():
            raise DatasetError(f"{where} has no task in words; leave the episode out")
        return vectors

    def _known(self, episode: int, frames: set[int]) -> dict[int, dict[str, list[dict[str, Any]]]]:
        found: dict[int, dict[str, list[dict[str, Any]]]] = {frame: {name: [] for name in KNOWN} for frame in frames}
        for name, companion in self._companions.items():
            for row in companion.rows(episode):
                if row["frame_index"] in found and (name == POINTS or self._of_main(row)):
                    found[row["frame_index"]][name].append(row)
        return found

    def _of_main(self, row: dict[str, Any]) -> bool:
        return self._camera is None or row.get("camera", self._camera) == self._camera

    def _fields(self, known: dict[str, list[dict[str, Any]]], where: str, width: int) -> dict[str, Any]:
        """What a TrainingFrame holds of companions. where: in words; width: of an action."""
        wrong = next((f"{name}: {fault(row)}" for name, rows in known.items() for row in rows if fault(row)), "")
        if wrong:
            raise DatasetError(f"{where}: {wrong}; leave the episode out")
        codes, others = known[DEPTH_CODES], known[ALTERNATIVES]
        points: dict[str, tuple[float, float]] = {}
        elsewhere: dict[str, dict[str, tuple[float, float]]] = {}
        for row in known[POINTS]:
            view = points if self._of_main(row) else elsewhere.setdefault(row["camera"], {})
            view[row["phrase"]] = row["across"], row["down"]
        return {
            "alternatives": {row["instruction"]: self._chunk(row["chunk"], where, width) for row in others},
            "points": points,
            "elsewhere": elsewhere,
            "questions": tuple((row["question"], row["answer"]) for row in known[QUESTIONS]),
            "depth_codes": np.array(codes[0]["codes"], np.int16) if codes else None,
        }

    def _chunk(self, values: Sequence[float], where: str, width: int) -> np.ndarray:
        """float32 (horizon, D) of an alternative, whose rows lie one behind the other."""
        if len(values) != self._horizon * width:
            raise DatasetError(
                f"{where} has an alternative of {len(values)} numbers; the norm tag's chunks are {self._horizon} "
                f"waypoints of {width}: alternatives are made for one horizon, make them anew for this one"
            )
        return self._to_model(np.array(values, np.float32).reshape(self._horizon, width))


@dataclass(frozen=True)
class _Place:
    """A frame in the buffer. number: of all that were ever put there."""

    number: int
    source: int
    part: Part
    frame: int


class Stream:
    """Frames of a mixture, without end, or each once. every: of an episode's frames one in so many is used, other ones
    each time unless `shift` is False: then those whose numbers are its multiples, wherever a part begins, since frames
    are annotated so. buffer: frames that wait to be drawn; skip: frames that were drawn before. Errors:
    DatasetError."""

    def __init__(
        self, shares: Sequence[Share], horizon: int, seed: int | tuple[int, ...], *, every: int = 3, shift: bool = True,
        buffer: int = 2000, skip: int = 0,
    ):
        if not shares or any(not np.isfinite(share.weight) or share.weight <= 0 for share in shares):
            raise DatasetError("a mixture needs data sets with weights above 0")
        self._sources = [Source(share, horizon) for share in shares]
        first, *others = (source.dataset for source in self._sources)
        for other in others:
            if other.fps != first.fps:
                raise DatasetError(
                    f"{other.root} has {other.fps:g} frames a second and {first.root} {first.fps:g}; what is learnt "
                    "together must have one rate"
                )
        # Whole parts are drawn, and weights are shares of frames.
        drawn = [share.weight / source.mean_length for share, source in zip(shares, self._sources, strict=True)]
        self._weights = np.array(drawn) / np.sum(drawn)
        self._seed, self._every, self._size, self._skip = seed, every, buffer, skip
        self._shift = shift
        for source in self._sources:
            if not any(self._first(part) < part.end for part in source.parts):
                raise DatasetError(
                    f"{source.dataset.root}: no part that is kept has a frame whose number is a multiple of {every}; "
                    "keep longer parts, or leave the data set out"
                )

    @property
    def frames(self) -> int:
        """In all data sets together."""
        return sum(part.length for source in self._sources for part in source.parts)

    @property
    def used(self) -> int:
        """Frames that are used when every part is drawn from once: one in `every`."""
        return sum(self._used(part) for source in self._sources for part in source.parts)

    def _used(self, part: Part) -> int:
        return max(0, -(-(part.end - self._first(part)) // self._every))

    @property
    def held(self) -> int:
        """Bytes of images, as recorded, that wait to be drawn at most, where all are of the largest set: a full buffer,
        and the longest part, which is decoded as a whole when one place is left."""
        def size(dataset: Dataset) -> int:
            return sum(3 * math.prod(image_size(dataset.features[name])) for name in dataset.meta.images.values())

        longest = max(size(one.dataset) * max(map(self._used, one.parts)) for one in self._sources)
        return (self._size - 1) * max(size(source.dataset) for source in self._sources) + longest

    def check(self, progress: Callable[[], object] = lambda: None) -> None:
        """Reads all numbers and opens all videos. Errors: DatasetError that names what is wrong, before anything is
        drawn."""
        found = [text for source in self._sources for text in check(source.dataset, source.parts, MOST, progress)]
        if found:
            raise DatasetError("\n".join([*found, f"leave these out: {MEND}"]))

    def __iter__(self) -> Iterator[TrainingFrame]:
        random = np.random.default_rng(self._seed)
        return self._drawn(random, self._endless(random))

    def once(self) -> Iterator[TrainingFrame]:
        """Every frame that is kept, one in `every` of each part, once; weights do not count."""
        random = np.random.default_rng(self._seed)
        return self._drawn(random, self._each(random))

    def _drawn(self, random: np.random.Generator, upcoming: Iterator[list[_Place]]) -> Iterator[TrainingFrame]:
        buffer: list[_Place] = []
        ready: dict[int, TrainingFrame] = {}
        for drawn in itertools.count():
            while len(buffer) < self._size:
                places = next(upcoming, None)
                if places is None:
                    break
                buffer += places
                if drawn >= self._skip:
                    ready |= self._decoded(places)
            if not buffer:
                return
            if drawn == self._skip and drawn:
                ready = self._decoded(buffer)
            index = int(random.integers(len(buffer)))
            buffer[index], buffer[-1] = buffer[-1], buffer[index]
            place = buffer.pop()
            if drawn >= self._skip:
                yield ready.pop(place.number)

    def _endless(self, random: np.random.Generator) -> Iterator[list[_Place]]:
        """Some frames of one part after the other, of data sets by their weights."""
        orders: list[list[Part]] = [[] for _ in self._sources]
        count = itertools.count()
        while True:
            number = int(random.choice(len(self._sources), p=self._weights))
            if not orders[number]:
                parts = self._sources[number].parts
                orders[number] = [parts[index] for index in random.permutation(len(parts))]
            part = orders[number].pop()
            first = self._first(part) + (int(random.integers(min(self._every, part.length))) if self._shift else 0)
            yield [_Place(next(count), number, part, frame) for frame in range(first, part.end, self._every)]

    def _each(self, random: np.random.Generator) -> Iterator[list[_Place]]:
        """Frames of every part, part by part."""
        parts = [(number, part) for number, source in enumerate(self._sources) for part in source.parts]
        count = itertools.count()
        for index in random.permutation(len(parts)):
            (number, part), first = parts[index], self._first(parts[index][1])
            yield [_Place(next(count), number, part, frame) for frame in range(first, part.end, self._every)]

    def _first(self, part: Part) -> int:
        return part.first if self._shift else part.first_on(self._every)

    def _decoded(self, places: Sequence[_Place]) -> dict[int, TrainingFrame]:
        found: dict[int, TrainingFrame] = {}
        of_part = operator.attrgetter("source", "part.episode.index", "part.first")
        by_frame = operator.attrgetter("source", "part.episode.index", "part.first", "frame", "number")
        for (source, *_), group in itertools.groupby(sorted(places, key=by_frame), key=of_part):
            wanted = list(group)
            part, numbers = wanted[0].part, [place.frame for place in wanted]
            frames = {
                frame.frame: frame for frame in self._sources[source].frames(part.episode, numbers, part.end)
            }
            found |= {place.number: frames[place.frame] for place in wanted}
        return found
