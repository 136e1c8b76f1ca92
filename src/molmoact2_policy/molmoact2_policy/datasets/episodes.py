# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which parts of a recorded run are episodes, what they were to do, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..bags.bag import Bag
from ..report.run import POLICY, TRACES

STATUS_TYPE = "molmoact2_msgs/msg/PolicyStatus"
# By RunTask's ENDED_*.
OUTCOMES = {1: "succeeded", 2: "time_limit", 3: "canceled", 4: "faulted", 5: "operator", 6: "replaced", 7: "refused"}
UNKNOWN = "unknown"    # no task ran: an instruction was given by itself, or the recording ended first
ALL = (*OUTCOMES.values(), UNKNOWN)


@dataclass
class Part:
    """From begin_ns to end_ns of receive times, end excluded: one instruction in one episode of the policy. outcome:
    one of ALL; why: in words."""

    begin_ns: int
    end_ns: int
    episode_id: str
    task: str
    outcome: str = UNKNOWN
    why: str = ""


def parts_of(bag: Bag, instruction: str) -> list[Part]:
    """By what policy/status says; the whole bag as one part where it has none. instruction: instead of the recorded
    ones, where it is given.

    An end that the status states belongs to its episode. What comes after the end of a task, until the next episode
    begins, is no part of any.
    """
    span = bag.span_ns
    if span is None:
        return []
    if bag.types.get(POLICY) != STATUS_TYPE:
        return [Part(span[0], span[1] + 1, "", instruction)]
    known = "ended_episode_id" in bag.fields(STATUS_TYPE)
    parts: list[Part] = []
    running: Part | None = None
    ended: set[str] = set()
    for _, _, status, now in bag.messages({POLICY}):
        if known and status.ended_episode_id and status.ended_episode_id not in ended:
            ended.add(status.ended_episode_id)
            for part in parts:
                if part.episode_id == status.ended_episode_id:
                    part.outcome, part.why = OUTCOMES.get(int(status.ended), UNKNOWN), str(status.ended_message)
            if running is not None and running.episode_id == status.ended_episode_id:
                running.end_ns, running = now, None
        key = (str(status.episode_id), instruction or str(status.instruction))
        if running is not None and (running.episode_id, running.task) != key:
            running.end_ns, running = now, None
        if running is None and _begins(status, ended):
            running = Part(now, span[1] + 1, *key)
            parts.append(running)
    return parts


def _begins(status: Any, ended: set[str]) -> bool:
    return bool(status.state == status.ACTIVE and status.episode_id and status.episode_id not in ended)


def instruction_of(bag: Bag) -> str:
    """The first that a trace or a status names; empty where none does."""
    for topic in (TRACES, POLICY):
        for _, _, message, _ in bag.messages({topic}):
            if message.instruction:
                return str(message.instruction)
    return ""
