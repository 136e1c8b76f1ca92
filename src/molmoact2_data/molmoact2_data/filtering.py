# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Rules held against every episode of a data set, and what is left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from .checking import Checker
from .keep import Part, by_task
from .layout import CORRECTED, STATE, DatasetError
from .meta import Episode
from .reader import Dataset, Vectors, names_of
from .rules import Looks, Mismatch, Rule, Short, Span, View

SMALL = (64, 48)       # width and height at which images are compared
LOOKS_A_SECOND = 6
LEAST_SHARE = 0.2      # of the greatest range of a joint: one that is hardly used is not judged by its noise
UNREADABLE = "unreadable"
STRAYED = "the set was corrected: its actions say what would have been right, and not what was done"
UNREADABLE_WHY = "it cannot be read, is not as stated, or holds numbers that are none"


@dataclass(frozen=True)
class Finding:
    """Frames first .. end - 1 of an episode are left out (where first is end, it is cut there)."""

    rule: str
    episode: int
    first: int
    end: int
    why: str


@dataclass(frozen=True)
class Result:
    """parts: what is kept. off: rules that were not asked of this data set, and why."""

    dataset: Dataset
    parts: list[Part]
    findings: list[Finding]
    off: dict[str, str] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        return sum(part.length for part in self.parts)


@dataclass(frozen=True)
class _Ranges:
    """Of each joint in the data set."""

    span: np.ndarray
    least: np.ndarray
    most: np.ndarray
    same_joints: bool    # in state and action


def judge(dataset: Dataset, rules: Sequence[Rule], progress: Callable[[], object] = lambda: None) -> Result:
    """rules: in the order in which they are asked; a rule that remembers what it saw (duplicates) may be asked about
    several data sets. Errors: DatasetError, where no episode can be read."""
    ranges, checker = _ranges(dataset), Checker(dataset)
    parts: list[Part] = []
    findings: list[Finding] = []
    off = {rule.name: STRAYED for rule in rules if isinstance(rule, Mismatch) and dataset.notes.get(CORRECTED)}
    rules = [rule for rule in rules if rule.name not in off]
    shorts = [rule for rule in rules if isinstance(rule, Short)]
    for episode in dataset.episodes:
        found = _of_episode(dataset, episode, rules, ranges, checker)
        rest = [Part(episode, *span) for span in left(episode.length, [span for _, span in found])]
        for part in by_task(dataset, rest):
            short = [("short", span) for rule in shorts for span in rule.of_part(part.first, part.end, dataset.fps)]
            found += short
            if not short:
                parts.append(part)
        findings += [Finding(rule, episode.index, *span) for rule, span in found]
        progress()
    return Result(dataset, parts, findings, off)


def left(length: int, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """First and end of what is left of so many frames."""
    gone = np.zeros(length, bool)
    for span in spans:
        gone[span.first : span.end] = True
    cuts = {span.first for span in spans if span.first == span.end}
    edges = sorted({0, length} | cuts | set((np.flatnonzero(np.diff(gone)) + 1).tolist()))
    return [(first, end) for first, end in itertools.pairwise(edges) if not gone[first]]


def _of_episode(
    dataset: Dataset, episode: Episode, rules: Sequence[Rule], ranges: _Ranges, checker: Checker
) -> list[tuple[str, Span]]:
    whole = (0, episode.length)
    try:
        vectors = dataset.vectors(episode)
        if vectors.action is None:
            raise DatasetError(f"{dataset.root}: episode {episode.index} has no actions")
        wrong = checker.of_videos(episode) + checker.of_words(vectors, episode) + checker.of_companions(episode)
        if wrong:
            raise DatasetError(wrong[0])
        finite = np.isfinite(vectors.state).all(axis=1) & np.isfinite(vectors.action).all(axis=1)
        if not finite.all():
            raise DatasetError(f"frame {int(np.argmin(finite))} has a state or action that is not finite")
        looks = _looks(dataset, episode) if any(rule.images for rule in rules) else {}
        tasks = [(part.first, part.end, part.episode.task) for part in by_task(dataset, [Part(episode, *whole)])]
    except DatasetError as error:
        return [(UNREADABLE, Span(*whole, str(error)))]
    view = _view(dataset, episode, tasks, vectors, ranges, looks)
    return [(rule.name, span) for rule in rules if not isinstance(rule, Short) for span in rule.find(view)]


def _view(
    dataset: Dataset, episode: Episode, tasks: list[tuple[int, int, str]], vectors: Vectors, ranges: _Ranges,
    looks: dict[str, Looks],
) -> View:
    names = dataset.joints or [str(number) for number in range(vectors.state.shape[1])]
    return View(
        where=f"{dataset.root}, episode {episode.index}", tasks=tasks, fps=dataset.fps, names=names,
        time=vectors.time, state=vectors.state, action=vectors.action if ranges.same_joints else None,
        span=ranges.span, least=ranges.least, most=ranges.most,
        arm=_arm(dataset, len(names)), looks=looks,
    )  # fmt: skip


def _looks(dataset: Dataset, episode: Episode) -> dict[str, Looks]:
    frames = np.arange(0, episode.length, max(1, round(dataset.fps / LOOKS_A_SECOND)))
    found = {}
    for camera in dataset.cameras:
        images = [
            cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), SMALL, interpolation=cv2.INTER_AREA)
            for image in dataset.pictures(episode, camera, frames.tolist())
        ]
        found[camera] = Looks(frames, np.stack(images))
    return found


def _ranges(dataset: Dataset) -> _Ranges:
    states, actions, wrong = [], [], ""
    for episode in dataset.episodes:
        try:
            vectors = dataset.vectors(episode)
        except DatasetError as error:
            wrong = wrong or str(error)
            continue
        states.append(vectors.state[np.isfinite(vectors.state).all(axis=1)])
        if vectors.action is not None:
            actions.append(vectors.action[np.isfinite(vectors.action).all(axis=1)])
    if not sum(map(len, states)):
        raise DatasetError(f"{dataset.root}: no episode can be read; the first: {wrong or 'no finite numbers'}")
    state = np.concatenate(states)
    span = _span(state)
    action = np.concatenate(actions) if sum(map(len, actions)) else None
    same = action is not None and action.shape[1] == state.shape[1] and _same_names(dataset)
    if same:
        assert action is not None
        span = np.maximum(span, _span(action))
    arm = _arm(dataset, len(span))
    for kind in (arm, ~arm):    # grippers have other units than joints
        if kind.any():
            span = np.where(kind, np.maximum(span, LEAST_SHARE * span[kind].max()), span)
    return _Ranges(span, state.min(axis=0).astype(np.float64), state.max(axis=0).astype(np.float64), same)


def _span(values: np.ndarray) -> np.ndarray:
    """float64 (D,): from the 1 % to the 99 % quantile."""
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    return np.asarray(high - low, np.float64)


def _arm(dataset: Dataset, size: int) -> np.ndarray:
    """bool (D,): False for grippers."""
    names = dataset.joints or [""] * size
    return np.array(["gripper" not in name.lower() for name in names])


def _same_names(dataset: Dataset) -> bool:
    names = names_of(dataset.features.get("action", {}))
    return not names or names == names_of(dataset.features[STATE])
