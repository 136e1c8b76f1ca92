# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy saw or would have seen by a bag, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from molmoact2_contract import NormTag

from ..bags.bag import Bag
from ..ingest import IMAGE, Ingest, Observation, ObservationError
from ..replay.embodied import Embodied
from ..replay.fresh import read_sets
from ..replay.recorded import Needs, read_recorded
from ..replay.rerun import readings


@dataclass(frozen=True)
class Shown:
    """One observation. now [s]: when it was reasoned about; episode: a new one begins where it changes; why_not: where
    there is none, in words."""

    name: str
    now: float
    episode: str
    instruction: str
    observation: Observation | None
    why_not: str = ""


def recorded_ones(bag: Bag, robot: Embodied, tag: NormTag, needs: Needs, instruction: str) -> Iterator[Shown]:
    """Those of the recorded inferences. instruction: another than the recorded ones, where it is given."""
    ingest = Ingest(robot.contract, tag)
    for one in read_recorded(bag, needs, robot.topics, robot.joint_topic, lambda _: None):
        trace, seen, why_not = one.trace, None, one.missing
        if not why_not:
            joint_topic = next((item.topic for item in trace.inputs if item.kind != IMAGE), "")
            try:
                states = [robot.joint_state(message) for message in one.joint_states]
                seen = ingest.observation(one.images, states, joint_topic)
            except ObservationError as error:
                why_not = str(error)
        yield Shown(
            one.name, readings(trace)[0], str(trace.episode_id), instruction or str(trace.instruction), seen, why_not
        )


def every_one(bag: Bag, robot: Embodied, tag: NormTag, instruction: str) -> Iterator[Shown]:
    """One for each frame of the main camera, by the live node's matching."""
    ingest = Ingest(robot.contract, tag)
    for found, receive_ns in read_sets(bag, robot, tag, lambda _: None):
        if found is None:
            continue
        seen, why_not = None, ""
        try:
            seen = ingest.observation(found.images, found.joint_states, robot.joint_topic)
        except ObservationError as error:
            why_not = str(error)
        yield Shown(f"image set at {receive_ns / 1e9:.3f}", receive_ns / 1e9, "", instruction, seen, why_not)
