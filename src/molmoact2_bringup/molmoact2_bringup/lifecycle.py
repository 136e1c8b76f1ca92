# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Brings lifecycle nodes up: configure, then activate, with an error that says which step failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

ANSWER_WITHIN = 3.0    # [s]; later than this it is asked whether a request has arrived at all


@dataclass(frozen=True)
class _Step:
    """One transition, and the states before and after it."""

    transition: int
    word: str
    before: int
    after: int


CONFIGURE = _Step(
    Transition.TRANSITION_CONFIGURE, "configure", State.PRIMARY_STATE_UNCONFIGURED, State.PRIMARY_STATE_INACTIVE
)
ACTIVATE = _Step(Transition.TRANSITION_ACTIVATE, "activate", State.PRIMARY_STATE_INACTIVE, State.PRIMARY_STATE_ACTIVE)
STEPS = (CONFIGURE, ACTIVATE)


class BringUpError(RuntimeError):
    """A lifecycle node did not come up."""


def bring_up(
    node: Node, name: str, give_up: Callable[[], str | None], steps: Sequence[_Step] = STEPS, *,
    appear_within: float = 60.0, step_within: float = 900.0,
) -> None:
    """Takes the lifecycle node `name` from unconfigured to active, or the given steps of that way.

    node: a node that another thread spins. give_up: returns a reason to stop waiting (e.g. the process died), or None.
    appear_within, step_within: patience for the service to appear and for each step [s]; configuring reads a
    checkpoint of many GB. Errors: BringUpError.
    """
    change = node.create_client(ChangeState, f"{name}/change_state")
    ask = node.create_client(GetState, f"{name}/get_state")
    try:
        _wait(lambda: change.service_is_ready(), give_up, appear_within, f"{name} offers no lifecycle service")
        for step in steps:
            _take(step, name, change, ask, give_up, step_within)
    finally:
        node.destroy_client(change)
        node.destroy_client(ask)


def _take(
    step: _Step, name: str, change: Client, ask: Client, give_up: Callable[[], str | None], patience: float
) -> None:
    """Takes one step, asking again where the request got lost: a process that was killed leaves its services in the
    graph for a while, and a request to them reaches nobody."""
    deadline = time.monotonic() + patience
    request = ChangeState.Request()
    request.transition.id = step.transition
    requests, what = [change.call_async(request)], f"{name} did not {step.word}"

    def first(futures: list[Future]) -> Any:
        """The first answer that comes; None where none came within ANSWER_WITHIN."""
        until = time.monotonic() + ANSWER_WITHIN
        if time.monotonic() > deadline:
            raise BringUpError(f"{what} within {patience:g} s")
        _wait(lambda: any(f.done() for f in futures) or time.monotonic() > until, give_up, patience, what)
        return next((f.result() for f in futures if f.done()), None)

    while True:
        answer = first(requests)
        if answer is not None and answer.success:
            return
        # A node that is busy with the step answers this when it has taken it.
        asked = first([ask.call_async(GetState.Request())])
        state = asked.current_state.id if asked is not None else None
        if state == step.after:
            return    # the answer got lost
        if answer is not None:
            raise BringUpError(f"{name} refused to {step.word}; its log line above says why")
        if state == step.before:
            requests.append(change.call_async(request))


def _wait(ready: Callable[[], bool], give_up: Callable[[], str | None], patience: float, what: str) -> None:
    deadline = time.monotonic() + patience
    while not ready():
        reason = give_up()
        if reason is not None:
            raise BringUpError(f"{what}: {reason}")
        if time.monotonic() > deadline:
            raise BringUpError(f"{what} within {patience:g} s")
        time.sleep(0.02)
