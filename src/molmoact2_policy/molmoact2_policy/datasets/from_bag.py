# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The frames of a recorded run, one for each tick of a dataset's rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from molmoact2_contract import Contract, NormTag

from ..bags.bag import Bag, BagError
from ..bags.bag import stamp_ns as time_ns
from ..ingest import Ingest, Observation, ObservationError
from ..replay.embodied import Embodied
from ..replay.fresh import read_sets
from ..report.run import resolved
from .episodes import Part

SETPOINT, MEASURED = "setpoint", "measured"    # what an action is
CONTROLLER_TYPE = "molmoact2_msgs/msg/ControllerStatus"
LATE = 0.25    # [s] between two statements of a setpoint, between which it is known
SAME = 1e-5    # [s]; stamps so near are one
LOOKED_AT = 300
PULL = 0.1     # of a frame's lateness, by which the ticks after it come later


@dataclass
class LeftOut:
    """Counts, by reason."""

    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + count


class Setpoints:
    """What the arms were told, by joint, over the time of the whole bag."""

    def __init__(self, bag: Bag, contract: Contract):
        tracks: dict[str, list[tuple[float, float]]] = {joint: [] for joint in contract.joint_names}
        self._twice: list[tuple[float, float]] = []    # where a clock was set back, moments that came twice
        statuses = [resolved(f"{arm}/status") for arm in contract.arms]
        for _, _, status, _ in bag.messages({topic for topic in statuses if bag.types.get(topic) == CONTROLLER_TYPE}):
            if status.state in (status.DISARMED, status.FAULT) or status.shadow:
                continue
            stamp = time_ns(status.header.stamp) / 1e9
            for joint, setpoint in zip(status.joint_names, status.setpoint, strict=False):
                track = tracks.get(joint)
                if track and stamp < track[-1][0]:
                    self._twice.append((stamp, track[-1][0]))
                elif track is not None:
                    track.append((stamp, float(setpoint)))
        self._tracks = {joint: np.array(track).reshape(-1, 2) for joint, track in tracks.items()}

    @property
    def complete(self) -> bool:
        return all(len(track) > 1 for track in self._tracks.values())

    def at(self, stamp: float) -> np.ndarray | None:
        """float64 (D,) in the contract's order; None where they were not stated about then."""
        if any(begin - SAME <= stamp <= end + LATE for begin, end in self._twice):
            return None
        values = []
        for track in self._tracks.values():
            after = int(np.searchsorted(track[:, 0], stamp - SAME))
            if after == len(track):
                return None
            stated = track[after, 0] <= stamp + SAME
            if not stated and (after == 0 or track[after, 0] - track[after - 1, 0] > LATE):
                return None
            values.append(np.interp(stamp, track[:, 0], track[:, 1]))
        return np.array(values)


@dataclass(frozen=True)
class Stretch:
    """Frames at every tick, without a gap, of one part. actions (N, D) in ROS units."""

    part: Part
    frames: list[int]    # stamps of the main image [ns]
    actions: np.ndarray


def rate_of(bag: Bag, robot: Embodied, tag: NormTag) -> float:
    """How many images a second the main camera gives. Errors: BagError."""
    topic = resolved(robot.contract.cameras[tag.cameras[0]].topic)
    stamps = []
    for _, _, message, _ in bag.messages({topic}):
        stamps.append(time_ns(message.header.stamp) / 1e9)
        if len(stamps) >= LOOKED_AT:
            break
    steps = np.diff(stamps)
    steps = steps[steps > 0]    # a clock may have been set back
    if len(steps) < 2:
        raise BagError(f"bag {bag.path} holds {len(stamps)} images on {topic}: too few to know a rate")
    return float(1.0 / np.median(steps))


def observed(
    bag: Bag, robot: Embodied, tag: NormTag, left_out: LeftOut | None = None
) -> Iterator[tuple[Observation, int]]:
    """Every observation that the live node could have had, in order, and when it was received."""
    ingest = Ingest(robot.contract, tag)
    for found, receive_ns in read_sets(bag, robot, tag, lambda _: None):
        if found is None:
            continue
        try:
            yield ingest.observation(found.images, found.joint_states, robot.joint_topic), receive_ns
        except ObservationError as error:
            if left_out is not None:
                left_out.add(f"sets of images: {error.kind}")


class Ticks:
    """Chooses, of frames with stamps, one for each tick of a rate. Frames of a camera are never exactly on time; where
    their clock was set back, ticks begin anew."""

    def __init__(self, fps: float):
        self._period, self._next, self._last = 1e9 / fps, 0.0, 0

    def take(self, stamp_ns: int) -> tuple[bool, bool]:
        """Whether the frame is the one of a tick, and whether ticks were missed before it."""
        back, self._last = stamp_ns < self._last, stamp_ns
        if not self._next or back:
            self._next = stamp_ns + self._period
            return True, back
        early = self._next - stamp_ns
        if early > self._period / 2:
            return False, False
        if early <= -self._period / 2:
            self._next = stamp_ns + self._period
            return True, True
        # A camera's own rate is never quite the nominal one.
        self._next += self._period + PULL * (stamp_ns - self._next)
        return True, False


def stretches(
    bag: Bag, robot: Embodied, tag: NormTag, parts: list[Part], fps: int, action: str, shortest: int,
    left_out: LeftOut, progress: Callable[[], object] = lambda: None,
) -> list[Stretch]:
    """What can be made into episodes: parts without a gap of at least `shortest` frames. Errors: BagError."""
    setpoints = Setpoints(bag, robot.contract)
    if action == SETPOINT and not setpoints.complete:
        raise BagError(
            f"bag {bag.path} does not say what its arms were told (no setpoints of all joints on <arm>/status while "
            "armed); take the next measured position with --action measured"
        )
    found: list[Stretch] = []
    run: list[tuple[int, np.ndarray]] = []
    place, ticks = 0, Ticks(fps)

    def close() -> None:
        nonlocal run
        told = setpoints if action == SETPOINT else None
        stretch = _with_actions(parts[place], run, told, fps, left_out) if run else None
        if stretch is not None and len(stretch.frames) >= shortest:
            found.append(stretch)
        elif stretch is not None:
            left_out.add(f"frames of parts shorter than {shortest}", len(stretch.frames))
        run = []

    for observation, receive_ns in observed(bag, robot, tag, left_out):
        progress()
        while place < len(parts) and receive_ns >= parts[place].end_ns:
            close()
            place, ticks = place + 1, Ticks(fps)
        if place == len(parts) or receive_ns < parts[place].begin_ns:
            left_out.add("frames outside of episodes")
            continue
        taken, gap = ticks.take(observation.stamp_ns)
        if gap:
            close()
            left_out.add("gaps, at which an episode was split")
        if taken:
            run.append((observation.stamp_ns, observation.state))
    if place < len(parts):
        close()
    return found


def _with_actions(
    part: Part, run: list[tuple[int, np.ndarray]], setpoints: Setpoints | None, fps: int, left_out: LeftOut
) -> Stretch | None:
    """The longest beginning whose actions are known: what the joints were told, or where they were, a tick later."""
    stamps, actions = list[int](), list[np.ndarray]()
    for index, (stamp, _) in enumerate(run):
        if setpoints is not None:
            told = setpoints.at(stamp / 1e9 + 1.0 / fps)
        else:
            told = run[index + 1][1] if index + 1 < len(run) else None
        if told is None:
            if actions:
                left_out.add("frames at whose end no action is known", len(run) - index)
                break
            left_out.add("frames before the first known action")
            continue
        stamps.append(stamp)
        actions.append(told)
    return Stretch(part, stamps, np.array(actions)) if stamps else None


def rows(
    bag: Bag, robot: Embodied, tag: NormTag, wanted: Mapping[int, int]
) -> Iterator[tuple[int, Observation, int]]:
    """The observations of the wanted frames, and when each was received. wanted: stamp of the main image -> anything,
    given back."""
    for observation, receive_ns in observed(bag, robot, tag):
        if observation.stamp_ns in wanted:
            yield wanted[observation.stamp_ns], observation, receive_ns


def camera_sizes(tag: NormTag, observation: Observation) -> dict[str, tuple[int, int]]:
    """(height, width) by camera."""
    return {name: image.shape[:2] for name, image in zip(tag.cameras, observation.images, strict=True)}


def images_of(tag: NormTag, observation: Observation) -> dict[str, Any]:
    return dict(zip(tag.cameras, observation.images, strict=True))
