# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a simulated system with a scripted policy, spoils one thing after the other, and judges what is seen.

Every row is held to the same promises: the measured motion stayed within the contract's limits, the cause was named in
the status, and nothing armed itself.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from molmoact2_contract import Contract, NormTag, System
from molmoact2_contract.qos import CHUNK, SENSOR_SUBSCRIBE, STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus

from ..bench.setpoints import busy
from ..running import RunningSystem
from .chunks import FAULTS, ChunkFault

PERIOD = 0.3           # [s] between two sound chunks
SWAY, TURN = 0.3, 0.8  # of the first joint: amplitude [rad], speed [rad/s]
PATIENCE = 20.0        # [s] for what is expected to be seen
SLACK = 1.25           # measured speeds overshoot commanded ones by this much at most
FLOOD = 300            # chunks
LOADED, STILL_LATCHED = 3.0, 0.5    # [s]


@dataclass(frozen=True)
class Row:
    """One fault and what came of it. seconds: until it was seen; failed: which promise was broken, empty where none."""

    fault: str
    expected: str
    seen: str
    seconds: float
    failed: str


class ScriptedPolicy:
    """Announces itself, sends sound chunks of a slow sway, and lets one be spoilt; hears what the arm does."""

    def __init__(self, running: RunningSystem, contract: Contract, tag: NormTag, arm: str):
        self._contract, self._tag, self._arm = contract, tag, arm
        self.running, self._node = running, running.node
        self._numbers = itertools.count(1)
        self._announced = PolicyStatus(process_id=uuid.uuid4().hex, episode_id=uuid.uuid4().hex)
        self._began = time.time()
        self._news = threading.Condition()
        self.status: ControllerStatus | None = None
        self._states: list[tuple[float, np.ndarray]] = []
        self._chunks = self._node.create_publisher(ActionChunk, "policy/action_chunk", CHUNK)
        self._policy = self._node.create_publisher(PolicyStatus, "policy/status", STATUS)
        self._node.create_subscription(ControllerStatus, f"{arm}/status", self._on_status, STATUS)
        self._node.create_subscription(JointState, "joint_states", self._on_joints, SENSOR_SUBSCRIBE)
        self._node.create_timer(0.1, lambda: self._policy.publish(self._announced))
        self._timer = self._node.create_timer(PERIOD, lambda: self.send(self.sound()))

    def _on_status(self, message: ControllerStatus) -> None:
        with self._news:
            self.status = message
            self._news.notify_all()

    def _on_joints(self, message: JointState) -> None:
        stamp = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        positions = dict(zip(message.name, message.position, strict=True))
        values = np.array([positions.get(j, np.nan) for j in self._contract.arm(self._arm).joints])
        self._states.append((stamp, values))

    def sound(self) -> ActionChunk:
        """A chunk observed now, in which the first joint sways about home."""
        now, tag, names = self._node.get_clock().now(), self._tag, self._contract.joint_names
        horizon = round(1.0 / tag.dt)
        times = now.nanoseconds / 1e9 + (np.arange(horizon) + tag.first_offset) * tag.dt - self._began
        table = np.tile(self._contract.values("home"), (horizon, 1))
        table[:, 0] += SWAY * np.sin(TURN * times)
        chunk = ActionChunk(chunk_id=next(self._numbers), joint_names=list(names))
        chunk.episode_id = self._announced.episode_id
        chunk.header.stamp = now.to_msg()
        chunk.dt, chunk.first_offset, chunk.horizon = tag.dt, tag.first_offset, horizon
        chunk.positions = table.ravel().tolist()
        return chunk

    def send(self, chunk: ActionChunk) -> None:
        self._chunks.publish(chunk)

    def operate(self, verb: str) -> Trigger.Response:
        """Calls one of the arm's services."""
        client, done = self._node.create_client(Trigger, f"{self._arm}/{verb}"), threading.Event()
        if not client.wait_for_service(PATIENCE):
            return Trigger.Response(message="the service does not appear")
        future = client.call_async(Trigger.Request())
        future.add_done_callback(lambda _: done.set())
        answered = done.wait(PATIENCE)
        return future.result() if answered else Trigger.Response(message="no answer came")

    def pause(self) -> None:
        """Sends no more sound chunks."""
        self._timer.cancel()

    def go_on(self) -> None:
        self._timer.reset()

    def another_process(self) -> None:
        """As if the policy had been started anew."""
        self._announced = PolicyStatus(process_id=uuid.uuid4().hex, episode_id=uuid.uuid4().hex)

    def wait(self, condition: Callable[[ControllerStatus], bool]) -> float | None:
        """Seconds until a status is as wanted; None where it never is."""
        began = time.monotonic()
        with self._news:
            found = self._news.wait_for(lambda: self.status is not None and condition(self.status), PATIENCE)
        return time.monotonic() - began if found else None

    def motion_error(self) -> str:
        """Which limit the measured motion has left since the last call; empty where none."""
        states, self._states = self._states, self._states[-1:]
        if len(states) < 2:
            return "no joint states came"
        joints = self._contract.arm(self._arm).joints
        times, positions = np.array([t for t, _ in states]), np.array([p for _, p in states])
        if not np.isfinite(positions).all():
            return "a measured joint is not a number"
        lower, upper = (self._contract.values(name, joints) for name in ("lower", "upper"))
        margin = self._contract.values("tracking", joints)
        if (positions < lower - margin).any() or (positions > upper + margin).any():
            return "a joint left its position limits"
        # Over 50 ms, so that the jitter of stamps counts for little.
        apart = np.searchsorted(times, times + 0.05)
        inside = apart < len(times)
        span = (times[apart[inside]] - times[inside])[:, None]
        speed = np.abs(positions[apart[inside]] - positions[inside]) / span
        if (speed > SLACK * self._contract.values("velocity", joints)).any():
            return f"a joint moved at {speed.max():.2f} per second"
        return ""


def campaign(system: System, say: Callable[[str], None], progress: Callable[[Row], None]) -> list[Row]:
    """Every row, in one running system without its policy. say: takes the log; progress: each row as it is done."""
    parameters = system.process("policy").parameters
    tag = system.contract.norm_tag(parameters["norm_tag"])
    arm = next(iter(system.contract.arms))
    without = replace(system, processes=tuple(p for p in system.processes if not p.lifecycle))
    rows: list[Row] = []
    with RunningSystem(without, say) as running:
        running.bring_up()
        policy = ScriptedPolicy(running, system.contract, tag, arm)
        if policy.wait(lambda s: s.state == ControllerStatus.FOLLOWING) is None:
            raise RuntimeError("the arm did not begin to follow the scripted policy")
        policy.motion_error()
        for judge in (*(lambda f=f: _spoilt(policy, f) for f in FAULTS), *(lambda j=j: j(policy) for j in OTHERS)):
            rows.append(judge())
            progress(rows[-1])
    return rows


def _spoilt(policy: ScriptedPolicy, fault: ChunkFault) -> Row:
    assert policy.status is not None
    before = policy.status
    chunk = policy.sound()
    fault.spoil(chunk)
    policy.send(chunk)
    if fault.refusals:
        took = policy.wait(lambda s: s.last_refused_chunk_id == chunk.chunk_id)
        seen = policy.status.last_refusal_text if took is not None else "nothing"
        wrong = took is None or policy.status.last_refusal not in fault.refusals
        failed = f"expected a refusal of code {fault.refusals}" if wrong else ""
    else:
        took = policy.wait(lambda s: s.chunk_id == chunk.chunk_id)
        seen = f"chunk {chunk.chunk_id} was followed" if took is not None else "nothing"
        failed = "it was not followed" if took is None else ""
    following = ControllerStatus.FOLLOWING
    going_on = policy.wait(lambda s: s.state == following and s.accepted_chunks > before.accepted_chunks)
    failed = failed or ("" if going_on is not None else "the arm did not go on with the next sound chunk")
    return Row(fault.name, fault.expected, seen, took or 0.0, failed or policy.motion_error())


def _duplicate(policy: ScriptedPolicy) -> Row:
    chunk = policy.sound()
    policy.send(chunk)
    if policy.wait(lambda s: s.chunk_id == chunk.chunk_id) is not None:
        policy.send(chunk)
    took = policy.wait(lambda s: s.last_refused_chunk_id == chunk.chunk_id)
    assert policy.status is not None
    ok = took is not None and policy.status.last_refusal == ControllerStatus.REFUSAL_OLDER
    seen = policy.status.last_refusal_text if took is not None else "nothing"
    return Row("the same chunk twice", "refused", seen, took or 0.0, policy.motion_error() if ok else "not refused")


def _flood(policy: ScriptedPolicy) -> Row:
    assert policy.status is not None
    before = policy.status
    for _ in range(FLOOD):
        policy.send(policy.sound())
        time.sleep(0.001)
    took = policy.wait(
        lambda s: s.state == ControllerStatus.FOLLOWING and s.accepted_chunks > before.accepted_chunks
    )
    missed = policy.status.missed_ticks - before.missed_ticks
    accepted = policy.status.accepted_chunks - before.accepted_chunks
    seen = f"{accepted} of {FLOOD} followed, {missed} ticks late"
    failed = policy.motion_error() if took is not None else "the arm does not follow any more"
    return Row("a chunk every millisecond", "handled unharmed", seen, took or 0.0, failed)


def _silence(policy: ScriptedPolicy) -> Row:
    policy.pause()
    took = policy.wait(lambda s: s.state == ControllerStatus.HOLDING)
    named = policy.status is not None and "ran out of waypoints" in policy.status.reason
    seen = policy.status.reason if policy.status else "nothing"
    failed = "" if took is not None and named else "the arm does not hold, or does not say why"
    policy.go_on()
    if not failed and policy.wait(lambda s: s.state == ControllerStatus.FOLLOWING) is None:
        failed = "the same episode did not go on within resume_within"
    return Row("the stream of chunks stops", "hold", seen, took or 0.0, failed or policy.motion_error())


def _another_process(policy: ScriptedPolicy) -> Row:
    policy.another_process()
    took = policy.wait(lambda s: s.last_refusal == ControllerStatus.REFUSAL_RESUME)
    seen = policy.status.last_refusal_text if took is not None and policy.status else "nothing"
    failed = "" if took is not None else "a new policy process was followed without an operator"
    if not failed and policy.wait(lambda s: s.state == ControllerStatus.HOLDING) is None:
        failed = "the arm did not come to rest"
    return Row("the policy is started anew", "hold", seen, took or 0.0, failed or policy.motion_error())


def _loaded(policy: ScriptedPolicy) -> Row:
    assert policy.status is not None
    before = policy.status
    context = multiprocessing.get_context("spawn")
    load = [context.Process(target=busy, daemon=True) for _ in range(os.cpu_count() or 2)]
    for process in load:
        process.start()
    time.sleep(LOADED)
    for process in load:
        process.kill()
    ticks, missed = policy.status.ticks - before.ticks, policy.status.missed_ticks - before.missed_ticks
    following = policy.status.state == ControllerStatus.FOLLOWING
    failed = "" if following else f"the arm does not follow: {policy.status.reason}"
    seen = f"{missed} of {ticks} ticks late"
    return Row("every core busy for 3 s", "handled unharmed", seen, LOADED, failed or policy.motion_error())


def _stalled_bus(policy: ScriptedPolicy) -> Row:
    """The world stands still: the servo bus does not answer, and its arm does not move either."""
    group = policy.running.pid("world")    # each process leads a group, here with that of physics and bus
    os.killpg(group, signal.SIGSTOP)
    took = policy.wait(lambda s: s.state == ControllerStatus.FAULT)
    os.killpg(group, signal.SIGCONT)
    seen = policy.status.fault_text if took is not None and policy.status else "nothing"
    failed = "" if took is not None else "no fault was latched"
    time.sleep(STILL_LATCHED)
    if not failed and policy.status and policy.status.state != ControllerStatus.FAULT:
        failed = "the fault cleared itself"
    for verb in ("clear_fault", "arm"):
        answer = policy.operate(verb)
        failed = failed or ("" if answer.success else f"{verb}: {answer.message}")
    if not failed and policy.wait(lambda s: s.state == ControllerStatus.FOLLOWING) is None:
        failed = "the arm did not go on after an operator armed it"
    policy.motion_error()    # the clock of the measured states stood still as well
    return Row("the servo bus stalls", "fault", seen, took or 0.0, failed)


OTHERS = (_duplicate, _flood, _loaded, _stalled_bus, _silence, _another_process)
