# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Rules by which frames are left out of data sets. Each is named, says why, and has thresholds that can be set.

Thresholds on motion are shares of each joint's range in the data set (from its 1 % to its 99 % quantile, and a fifth of
the greatest range at least, of joints and of grippers apart), so that they hold for radians, degrees and whatever else.
Where no gripper is ever used but trembles, its trembling counts as motion, and `idle` finds nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .stretches import off_rate, runs, still

MEANINGLESS = ("", "none", "null", "nan", "n/a", "na", "unknown", "task", "default", "test", "untitled", "todo")


class Span(NamedTuple):
    """Frames first .. end - 1 of an episode that are left out, and why. Where first is end nothing is left out, but the
    episode is cut there."""

    first: int
    end: int
    why: str


@dataclass(frozen=True)
class Looks:
    """Images of one camera, small: uint8 (n, h, w) grey, of the frames with these numbers."""

    frames: np.ndarray
    images: np.ndarray


@dataclass(frozen=True)
class View:
    """One episode, as rules see it. tasks: first, end and instruction of each stretch of frames that has its own, all
    frames together; time: (N,) [s]; state, action: (N, D), finite, action None where its values are not those of the
    same joints; span, least, most: (D,), each joint's range in the data set, and its ends; arm: bool (D,), False for
    grippers; looks: by camera, empty where images are not looked at."""

    where: str
    tasks: list[tuple[int, int, str]]
    fps: float
    names: list[str]
    time: np.ndarray
    state: np.ndarray
    action: np.ndarray | None
    span: np.ndarray
    least: np.ndarray
    most: np.ndarray
    arm: np.ndarray
    looks: dict[str, Looks] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """All instructions."""
        return "; ".join(dict.fromkeys(text for *_, text in self.tasks))

    @property
    def vectors(self) -> dict[str, np.ndarray]:
        return {"state": self.state} | ({} if self.action is None else {"action": self.action})

    def of_range(self, values: np.ndarray) -> np.ndarray:
        """As shares of each joint's range; 0 for a joint that never moves."""
        return np.divide(values, self.span, out=np.zeros_like(values, dtype=np.float64), where=self.span > 0)


class Rule:
    """why: what is wrong with what it finds. images: whether it looks at them."""

    name: ClassVar[str]
    why: ClassVar[str]
    images: ClassVar[bool] = False

    def find(self, view: View) -> list[Span]:
        raise NotImplementedError


@dataclass
class Rate(Rule):
    """tolerance: of the time between frames."""

    name = "rate"
    why = "frames are not as far apart as the data set says, so waypoints would be at other times"
    tolerance: float = 0.1

    def find(self, view: View) -> list[Span]:
        why = off_rate(view.time, view.fps, self.tolerance)
        return [Span(0, len(view.time), why)] if why else []


@dataclass
class Language(Rule):
    """letters: fewest that an instruction has."""

    name = "language"
    why = "no instruction in words, so nothing says what is being done"
    letters: int = 4

    def find(self, view: View) -> list[Span]:
        silent = [stretch for stretch in view.tasks if not self._says(stretch[2].strip())]
        return [Span(first, end, f"the instruction is {text!r}") for first, end, text in silent]

    def _says(self, text: str) -> bool:
        letters = sum(letter.isalpha() for letter in text)
        return letters >= self.letters and text.lower().strip(" .") not in MEANINGLESS


@dataclass
class Duplicates(Rule):
    """rounding: to which numbers are compared, in the data set's own units."""

    name = "duplicates"
    why = "the same episode twice counts twice"
    rounding: float = 1e-4
    _seen: dict[bytes, str] = field(default_factory=dict, repr=False)

    def find(self, view: View) -> list[Span]:
        rounded = [np.round(values / self.rounding).astype(np.int64) for values in view.vectors.values()]
        mark = hashlib.sha256(b"|".join([view.task.encode(), *(values.tobytes() for values in rounded)])).digest()
        other = self._seen.setdefault(mark, view.where)
        return [] if other == view.where else [Span(0, len(view.time), f"the same numbers as {other}")]


@dataclass
class Jump(Rule):
    """share: of the range, between two frames."""

    name = "jump"
    why = "an arm cannot be elsewhere in the next frame: frames are missing, or a reading was wrong"
    share: float = 0.25

    def find(self, view: View) -> list[Span]:
        found: dict[int, str] = {}
        for what, values in view.vectors.items():
            steps = np.where(view.arm, np.abs(view.of_range(np.diff(values, axis=0))), 0)
            for frame in np.flatnonzero((steps > self.share).any(axis=1)):
                joint = int(steps[frame].argmax())
                text = f"{what} {view.names[joint]} by {steps[frame, joint]:.0%} of its range"
                found.setdefault(int(frame) + 1, text)
        return [Span(frame, frame, why) for frame, why in sorted(found.items())]


@dataclass
class Idle(Rule):
    """seconds: shortest; still: share of the range by which nothing moves within them."""

    name = "idle"
    why = "nothing moves, and what is learnt is to stand still"
    seconds: float = 2.0
    still: float = 0.01

    def find(self, view: View) -> list[Span]:
        values = np.concatenate([view.of_range(values) for values in view.vectors.values()], axis=1)
        return [
            Span(first, end, f"{(end - first) / view.fps:.1f} s")
            for first, end in still(values, self.still, round(self.seconds * view.fps))
        ]


@dataclass
class Saturated(Rule):
    """seconds: shortest; edge: share of the range that counts as the end of it; moving: by how much the others move
    meanwhile."""

    name = "saturated"
    why = "a joint stays at the very end of its range while others move: it was clipped"
    seconds: float = 0.5
    edge: float = 1e-5
    moving: float = 0.02

    def find(self, view: View) -> list[Span]:
        near = [np.abs(view.of_range(view.state - end)) <= self.edge for end in (view.least, view.most)]
        used = view.most - view.least >= view.span    # one that is hardly used often rests where it was least or most
        there = (near[0] | near[1]) & view.arm & used & (view.span > 0)
        moved = view.of_range(view.state)
        found = []
        for joint in np.flatnonzero(there.any(axis=0)):
            for first, end in runs(there[:, joint], round(self.seconds * view.fps)):
                others = np.delete(moved[first:end], joint, axis=1)
                if np.ptp(others, axis=0).max(initial=0) > self.moving:
                    found.append(Span(first, end, f"{view.names[joint]} for {(end - first) / view.fps:.1f} s"))
        return found


@dataclass
class Mismatch(Rule):
    """seconds: shortest; share: of the range between what was told and where the arm was at the next frame."""

    name = "mismatch"
    why = "the arm does not do what it is told: without torque, blocked, or of another calibration"
    seconds: float = 0.5
    share: float = 0.25

    def find(self, view: View) -> list[Span]:
        if view.action is None or len(view.state) < 2:
            return []
        behind = np.where(view.arm, np.abs(view.of_range(view.action[:-1] - view.state[1:])), 0)
        found = []
        for first, end in runs(np.any(behind > self.share, axis=1), round(self.seconds * view.fps)):
            worst = behind[first:end].max(axis=0)
            found.append(Span(first, end, f"{view.names[int(worst.argmax())]} by up to {worst.max():.0%} of its range"))
        return found


@dataclass
class Black(Rule):
    """level: mean of 255 below which an image is black; evenness: standard deviation below which it is."""

    name = "black"
    why = "a camera shows nothing"
    images = True
    level: float = 8.0
    evenness: float = 6.0

    def find(self, view: View) -> list[Span]:
        found = []
        for camera, looks in view.looks.items():
            pixels = looks.images.reshape(len(looks.images), -1)
            black = (pixels.mean(axis=1) < self.level) & (pixels.std(axis=1) < self.evenness)
            found += [Span(*_spread(looks.frames, first, end, view), camera) for first, end in runs(black, 1)]
        return found


@dataclass
class Frozen(Rule):
    """seconds: shortest; level: by which no part of the image changes, of 255; moving: share of its range by which a
    joint moves meanwhile."""

    name = "frozen"
    why = "a camera repeats one image while the arm moves"
    images = True
    seconds: float = 1.0
    level: float = 3.0
    moving: float = 0.05

    def find(self, view: View) -> list[Span]:
        found = []
        for camera, looks in view.looks.items():
            pixels = looks.images.reshape(len(looks.images), -1).astype(np.float32)
            every = looks.frames[1] - looks.frames[0] if len(looks.frames) > 1 else 1
            for first, end in still(pixels, self.level, max(2, round(self.seconds * view.fps / every))):
                begin, stop = int(looks.frames[first]), int(looks.frames[end - 1]) + 1
                if np.ptp(view.of_range(view.state[begin:stop])[:, view.arm], axis=0).max(initial=0) > self.moving:
                    found.append(Span(begin, stop, f"{camera} for {(stop - begin) / view.fps:.1f} s"))
        return found


@dataclass
class Short(Rule):
    """seconds: that a part has at least."""

    name = "short"
    why = "what is left is too short to show anything"
    seconds: float = 0.5

    def of_part(self, first: int, end: int, fps: float) -> list[Span]:
        return [Span(first, end, f"{end - first} frames")] if end - first < self.seconds * fps else []


RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (Rate, Language, Duplicates, Jump, Idle, Saturated, Mismatch, Black, Frozen, Short)
}


def thresholds(rule: type[Rule] | Rule) -> dict[str, Any]:
    """Names and values; of a class, the defaults."""
    fields = [one for one in dataclasses.fields(rule) if not one.name.startswith("_")]    # type: ignore[arg-type]
    return {one.name: getattr(rule, one.name) for one in fields}


def _spread(frames: np.ndarray, first: int, end: int, view: View) -> tuple[int, int]:
    """Frames for which those that were looked at stand: up to the next one that was."""
    return int(frames[first]), int(frames[end]) if end < len(frames) else len(view.time)
