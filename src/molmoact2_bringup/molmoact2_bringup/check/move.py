# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Moves one joint a little: arms the arm as its operator, announces itself as a policy, and sends slow small chunks."""

from __future__ import annotations

import select
import sys
import threading
import time
import uuid
from collections.abc import Callable

import numpy as np
from std_srvs.srv import Trigger

from molmoact2_contract import Contract, NormTag
from molmoact2_contract.qos import CHUNK, STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus

from ..running import RunningSystem
from .alone import ANNOUNCED, CHUNKS, MEND, shared
from .line import Line, failed, passed, skipped, warned
from .move_plan import Move, NoMove, judge, plan

MOVE, LOOKED = "move", "move: seen"
PATIENCE = 20.0     # [s] for a controller to answer, to follow
APPEARS = 60.0      # [s]; a simulated world builds its scene first
BEFORE = 0.5        # [s] that are measured before anything moves
AHEAD = 1.0         # [s] of a chunk
PERIOD = 0.2        # [s] between two of them
YES = "move"        # to be typed
S = ControllerStatus
UNARMED = (S.DISARMED, S.FAULT)


class MoveFailed(RuntimeError):
    """The test could not be made; the text says why."""


class NotAlone(MoveFailed):
    """Somebody else would be moved too, or moves the arm."""


class Scripted:
    """A policy that thinks nothing: it announces itself, and sends chunks of a move from `begin` on."""

    def __init__(self, running: RunningSystem, contract: Contract, tag: NormTag):
        self._node, self._contract, self._tag = running.node, contract, tag
        self._status = PolicyStatus(process_id=uuid.uuid4().hex, episode_id=uuid.uuid4().hex)
        self._status.state = PolicyStatus.ACTIVE
        self._chunks = self._node.create_publisher(ActionChunk, CHUNKS, CHUNK)
        self._announced = self._node.create_publisher(PolicyStatus, ANNOUNCED, STATUS)
        self._announcing = self._node.create_timer(0.1, lambda: self._announced.publish(self._status))
        self._number = 0

    def send(self, move: Move, began: float) -> None:
        """A chunk observed now. began: of the move, ROS time [s]."""
        now, tag = self._node.get_clock().now(), self._tag
        horizon = min(max(round(AHEAD / tag.dt), 2), 256)
        times = now.nanoseconds / 1e9 + (np.arange(horizon) + tag.first_offset) * tag.dt - began
        self._number += 1
        chunk = ActionChunk(chunk_id=self._number, joint_names=list(move.arm.joints))
        chunk.episode_id, chunk.header.stamp = self._status.episode_id, now.to_msg()
        chunk.dt, chunk.first_offset, chunk.horizon = tag.dt, tag.first_offset, horizon
        chunk.positions = move.at(times).ravel().tolist()
        self._chunks.publish(chunk)


class Mover:
    """Plays the operator of one arm of a running system. sleep: waits a moment, or until a stop is asked for."""

    def __init__(self, running: RunningSystem, arm: str):
        self._running, self._node, self._arm = running, running.node, arm

    @property
    def status(self) -> ControllerStatus:
        return self._running.statuses.get(self._arm, ControllerStatus())

    def wait(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Errors: MoveFailed where it does not come true, or a process ends or a stop is asked for meanwhile."""
        deadline = time.monotonic() + patience
        while not condition():
            if self._running.stopping.is_set():
                raise MoveFailed("a stop was asked for")
            ended = self._running.ended
            if ended:
                raise MoveFailed(f"{ended[0]}; see log.txt")
            if time.monotonic() > deadline:
                raise MoveFailed(f"{what} within {patience:g} s ({self.status.fault_text or self.status.reason})")
            self._running.stopping.wait(0.02)

    def must_be_alone(self) -> None:
        """Errors: NotAlone."""
        others = shared(self._node, self._arm)
        if others:
            raise NotAlone(others)

    def operate(self, verb: str) -> None:
        """Calls one of the arm's services. Errors: MoveFailed."""
        client, done = self._node.create_client(Trigger, f"{self._arm}/{verb}"), threading.Event()
        try:
            self.wait(client.service_is_ready, f"{self._arm}/{verb} did not appear")
            future = client.call_async(Trigger.Request())
            future.add_done_callback(lambda _: done.set())
            self.wait(done.is_set, f"{self._arm}/{verb} did not answer")
            if not future.result().success:
                raise MoveFailed(f"{self._arm}/{verb} was refused: {future.result().message}")
        finally:
            self._node.destroy_client(client)

    def measured(self, seconds: float) -> np.ndarray:
        """The mean position (J,) over a while. Errors: MoveFailed, also where the arm is not well."""
        seen: list[list[float]] = []
        until = time.monotonic() + seconds

        def look() -> bool:
            if self.status.state == S.FAULT:
                raise MoveFailed(f"the controller is in fault: {self.status.fault_text}")
            seen.append(list(self.status.measured))
            return time.monotonic() > until

        self.wait(look, "never", seconds + PATIENCE)
        return np.array(seen).mean(axis=0)


def move_lines(
    running: RunningSystem, contract: Contract, tag: NormTag, arm: str, joint: str, yes: bool,
    say: Callable[[str], None],
) -> list[Line]:
    """The whole test, in a system whose controller is not in shadow. yes: asks nobody."""
    mover = Mover(running, arm)
    try:
        scripted = Scripted(running, contract, tag)
        mover.wait(lambda: bool(mover.status.measured), "no controller stated where the arm is", APPEARS)
        mover.wait(lambda: running.node.count_services(f"{arm}/arm") > 0, f"{arm}/arm did not appear")
        mover.must_be_alone()
        wanted = plan(contract, contract.arm(arm), np.array(mover.status.measured), joint)
        say(f"WILL MOVE: {wanted.words()}.")
        say("Keep a hand at the switch of the arm's power. Ctrl-C brings it to rest.")
        if not yes and not ask(f"Type {YES} to go on: ", running, say):
            return [skipped(MOVE, "it was not confirmed; nothing was armed")]
        return _move(mover, scripted, contract, tag, joint, yes, running, say)
    except NotAlone as error:
        return [failed(MOVE, str(error), MEND)]
    except (NoMove, MoveFailed) as error:
        return [failed(MOVE, str(error), "as it says; then again")]


def _move(
    mover: Mover, scripted: Scripted, contract: Contract, tag: NormTag, joint: str, yes: bool, running: RunningSystem,
    say: Callable[[str], None],
) -> list[Line]:
    mover.must_be_alone()    # since the question somebody may have come
    mover.operate("arm")
    try:
        mover.wait(lambda: mover.status.state not in UNARMED and bool(mover.status.setpoint), "the arm was not armed")
        before = mover.measured(BEFORE)
        move = plan(contract, contract.arm(mover.status.header.frame_id), np.array(mover.status.setpoint), joint)
        far = _follow(mover, scripted, move)
        mover.wait(lambda: mover.status.state == S.HOLDING, "the arm did not come to rest")
        after = mover.measured(BEFORE)
    finally:
        # However it ended: the arm comes to rest, nothing more is sent, and the device does what its guide says.
        _disarm(mover)
    done = passed(MOVE, f"armed, {move.name} sent there and back, disarmed")
    lines = [done, *judge(move, before, far, after)]
    if yes:
        return [*lines, warned(LOOKED, f"nobody was asked; {move.looks()}", "run it once without --yes, and look")]
    if ask(f"Was it so that {move.looks().replace(' must ', ' did ')}? Type yes: ", running, say, "yes"):
        return [*lines, passed(LOOKED, move.looks().replace(" must ", " did "))]
    mend = "do not run it: position and command both have the wrong sign. Correct direction or drive mode, calibrate"
    return [*lines, failed(LOOKED, f"it was not seen that {move.looks()}", mend)]


def _follow(mover: Mover, scripted: Scripted, move: Move) -> np.ndarray:
    """Sends the move, and returns where the arm was (J,) while it stood at the far end. Errors: MoveFailed."""
    began, started = time.time(), time.monotonic()
    refused, seen = mover.status.refused_chunks, []
    due = started

    def over() -> bool:
        nonlocal due
        now = time.monotonic()
        status = mover.status
        if status.refused_chunks > refused:
            raise MoveFailed(f"the controller refused {status.last_refusal_text}")
        if status.state == S.FAULT:
            raise MoveFailed(f"the controller is in fault: {status.fault_text}")
        if now >= due and now - started < move.lasts:
            mover.must_be_alone()
            scripted.send(move, began)
            due = now + PERIOD
        first, last = move.stands
        if first <= now - started <= last:
            seen.append(list(status.measured))
        return now - started > move.lasts

    mover.wait(over, "the move did not end", move.lasts + PATIENCE)
    if not seen:
        raise MoveFailed("the arm was not seen at the far end; free the processor and try again")
    return np.array(seen).mean(axis=0)


def _disarm(mover: Mover) -> None:
    """Also where a stop was asked for: the controller itself comes to rest when it is ended."""
    try:
        mover.operate("disarm")
        mover.wait(lambda: mover.status.state in UNARMED, "the arm was not disarmed")
    except MoveFailed:
        if mover.status.state not in UNARMED:
            return    # its process is ended next, which brings the arm to rest


def ask(question: str, running: RunningSystem, say: Callable[[str], None], wanted: str = YES) -> bool:
    """Whether a person at the terminal types what is wanted; False without a terminal, or on Ctrl-C."""
    if not sys.stdin.isatty():
        say(f"{question}(no terminal: taken as no; --yes goes on without)")
        return False
    print(question, end="", flush=True)
    while not running.stopping.is_set():
        if select.select([sys.stdin], [], [], 0.2)[0]:
            return sys.stdin.readline().strip().lower() == wanted
    print()
    return False
