# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Brings lifecycle nodes up: configure, then activate, with an error that says which step failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node

STEPS = ((Transition.TRANSITION_CONFIGURE, "configure"), (Transition.TRANSITION_ACTIVATE, "activate"))


class BringUpError(RuntimeError):
    """A lifecycle node did not come up."""


def bring_up(
    node: Node, name: str, give_up: Callable[[], str | None], *, appear_within: float = 60.0, step_within: float = 900.0
) -> None:
    """Takes the lifecycle node `name` from unconfigured to active.

    node: a node that another thread spins. give_up: returns a reason to stop waiting (e.g. the process died), or None.
    appear_within, step_within: patience for the service to appear and for each step [s]; configuring reads a
    checkpoint of many GB. Errors: BringUpError.
    """
    client = node.create_client(ChangeState, f"{name}/change_state")
    try:
        _wait(lambda: client.service_is_ready(), give_up, appear_within, f"{name} offers no lifecycle service")
        for transition, word in STEPS:
            request = ChangeState.Request()
            request.transition.id = transition
            done = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _, done=done: done.set())
            _wait(done.is_set, give_up, step_within, f"{name} did not {word}")
            if not future.result().success:
                raise BringUpError(f"{name} refused to {word}; its log line above says why")
    finally:
        node.destroy_client(client)


def _wait(ready: Callable[[], bool], give_up: Callable[[], str | None], patience: float, what: str) -> None:
    deadline = time.monotonic() + patience
    while not ready():
        reason = give_up()
        if reason is not None:
            raise BringUpError(f"{what}: {reason}")
        if time.monotonic() > deadline:
            raise BringUpError(f"{what} within {patience:g} s")
        time.sleep(0.02)
