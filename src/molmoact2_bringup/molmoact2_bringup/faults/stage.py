# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The stage of the campaign: a running system, what it says, and a witness of its arm's motion."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from molmoact2_contract import Contract, NormTag
from molmoact2_contract.qos import CHUNK, STATUS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace

from ..check.alone import ANNOUNCED, CHUNKS, GONE, MEND, must_be_alone
from ..lifecycle import BringUpError
from ..running import RunningSystem, Stopped
from .judgement import GAP
from .reasons import Late, joined
from .witness import Witness

PATIENCE = 20.0    # [s] for what is expected to be seen
S = ControllerStatus
TRACES = "policy/reasoning_trace"
LATE_FAULTS = (S.FAULT_DRIVER, S.FAULT_STATE_STALE, S.FAULT_TIMER)    # a double, too, that is not run answers late
UNARMED = (ControllerStatus.DISARMED, ControllerStatus.FAULT)
REFUSED, HELD, FAULT, UNHARMED = "refused", "hold", "fault", "handled unharmed"    # what a row may expect
FRESH = 0.5        # [s]; a controller states itself ten times a second
MEETING = 3.0      # [s] after the start of a process, in which the middleware brings it together with all others


@dataclass(frozen=True)
class Row:
    """One fault and what came of it. seconds: until it was seen; failed: which promise was broken, empty where none;
    excused: why it was tried again (pauses.py)."""

    fault: str
    expected: str
    seen: str
    seconds: float
    failed: str
    excused: str = ""


class Stage:
    """Hears one arm and the policy of a running system, plays the operator, and judges what holds for every row.

    heard: what a recording must hold: stamps of what was heard [ns], by topic, but for the first moments of a process.
    """

    def __init__(self, running: RunningSystem, contract: Contract, tag: NormTag, arm: str, witness: Witness):
        self.running, self.contract, self.tag, self.arm = running, contract, tag, arm
        self.node = running.node
        self._met = time.time() + MEETING
        self.heard: dict[str, list[int]] = {topic: [] for topic in (CHUNKS, TRACES, f"{arm}/status")}
        self.status = ControllerStatus()
        self.policy = PolicyStatus()
        self.trace = ReasoningTrace()
        self._status_at = 0.0
        self._news = threading.Condition()
        self._arming, self._armed_itself = False, ""
        self.witness = witness
        subscribe = self.node.create_subscription
        subscribe(ControllerStatus, f"{arm}/status", self._on_status, STATUS)
        subscribe(PolicyStatus, ANNOUNCED, self._on_policy, STATUS)
        subscribe(ReasoningTrace, TRACES, self._on_trace, TRACE)
        subscribe(ActionChunk, CHUNKS, self._on_chunk, CHUNK)

    def close(self) -> None:
        self.witness.close()

    def forget_heard(self) -> None:
        """What was said until now, while the middleware brought everybody together, may be in no recording."""
        with self._news:
            for stamps in self.heard.values():
                stamps.clear()

    # --- ears ---------------------------------------------------------------------------------------------------------
    def _on_status(self, message: ControllerStatus) -> None:
        with self._news:
            if self.status.state in UNARMED and message.state not in UNARMED and not self._arming:
                self._armed_itself = f"the arm armed itself: {message.reason}"
            self.status, self._status_at = message, time.monotonic()
            self._hear(f"{self.arm}/status", message)
            self._news.notify_all()

    def _on_policy(self, message: PolicyStatus) -> None:
        with self._news:
            self.policy = message
            self._news.notify_all()

    def _on_trace(self, message: ReasoningTrace) -> None:
        with self._news:
            self.trace = message
            self._hear(TRACES, message)
            self._news.notify_all()

    def _on_chunk(self, message: ActionChunk) -> None:
        self._hear(CHUNKS, message)

    def _hear(self, topic: str, message: ActionChunk | ReasoningTrace | ControllerStatus) -> None:
        if time.time() > self._met:
            self.heard[topic].append(stamp_ns(message))

    @property
    def silent(self) -> float:
        """For how long the controller has said nothing [s]."""
        return time.monotonic() - self._status_at

    def wait(self, condition: Callable[[], bool], patience: float = PATIENCE) -> float | None:
        """Seconds until something holds, looked at with all that is heard and ten times a second; None if it never
        does."""
        began = time.monotonic()
        with self._news:
            while not condition():
                if time.monotonic() - began > patience:
                    return None
                self._news.wait(0.1)
        return time.monotonic() - began

    def is_in(self, state: int) -> bool:
        """Whether the controller says so now."""
        return self.status.state == state and self.silent < FRESH

    # --- operator -----------------------------------------------------------------------------------------------------
    def operate(self, verb: str) -> str:
        """Calls one of the arm's services; returns why it failed, empty where it did not. Errors: as of
        must_be_alone, but for a stop."""
        if verb != "stop":
            self.must_be_alone()
        client, done = self.node.create_client(Trigger, f"{self.arm}/{verb}"), threading.Event()
        try:
            if not client.wait_for_service(PATIENCE):
                return f"{verb}: the service does not appear"
            self._arming = verb == "arm"
            future = client.call_async(Trigger.Request())
            future.add_done_callback(lambda _: done.set())
            if not done.wait(PATIENCE):
                return f"{verb}: no answer came"
            answer = future.result()
            if verb == "arm" and answer.success:
                self.wait(lambda: self.status.state not in UNARMED)
            return "" if answer.success else f"{verb}: {answer.message}"
        finally:
            self._arming = False
            self.node.destroy_client(client)

    def must_be_alone(self) -> None:
        """Errors: as of must_be_alone, of all arms."""
        must_be_alone(self.running, self.contract.arms)

    def arm_as_operator(self) -> str:
        return self.operate("arm")

    def arm_again(self) -> str:
        """After a fault or a restart, until the arm follows; returns why it could not."""
        failed = self.clear_fault() if self.status.state == S.FAULT else ""
        # To arm is to command where the arm is, whatever was commanded before: no motion, and not to be taken for one.
        time.sleep(2 * GAP)
        return failed or self.operate("arm") or self.follow()

    def clear_fault(self) -> str:
        """As an operator does who waits for the device to be there again; returns why it could not be cleared."""
        self.must_be_alone()    # which may take long
        deadline = time.monotonic() + PATIENCE
        while True:
            failed = self.operate("clear_fault")
            if not failed or time.monotonic() > deadline:
                return failed
            self.wait(lambda: self.status.state != S.FAULT, 0.1)

    def follow(self, sound: Callable[[], bool] = lambda: True) -> str:
        """Until the arm follows chunks, with a resume where the controller asks for one; returns why it does not.
        sound: what must hold besides."""
        before = self.status.last_refused_chunk_id

        def asks() -> bool:
            return self.status.last_refusal == S.REFUSAL_RESUME and self.status.last_refused_chunk_id != before

        def follows() -> bool:
            return self.is_in(S.FOLLOWING) and sound()

        if self.wait(lambda: asks() or follows()) is None:
            return self.stopped("the arm does not go on", self.policy.withheld)
        if follows():
            return ""
        failed = self.operate("resume")
        return failed or ("" if self.wait(follows) is not None else "it does not resume")

    def stopped(self, words: str, *more: str) -> str:
        """A reason in these words, with what the controller says."""
        said = self.status.fault_text or self.status.reason
        text = "; ".join(filter(None, [f"{words}: {said}", *more]))
        late = self.status.state == S.FAULT and self.status.fault_code in LATE_FAULTS
        return Late(text) if late else text

    def resume_where_asked(self) -> str:
        """As `follow`, but where the controller asked for a resume it is not waited until the arm follows; nor where
        another arm keeps it from that. Of several arms none follows before all are resumed."""
        before = self.status.last_refused_chunk_id

        def kept() -> bool:
            return self.status.last_refusal == S.REFUSAL_PEER and self.status.last_refused_chunk_id != before

        self.wait(lambda: self.is_in(S.FOLLOWING) or self.status.waits_for_resume or kept())
        return self.operate("resume") if self.status.waits_for_resume else ""

    # --- processes ----------------------------------------------------------------------------------------------------
    def set_parameter(self, node: str, name: str, value: str) -> str:
        """Returns why it could not be set."""
        client = self.node.create_client(SetParameters, f"{node}/set_parameters")
        try:
            if not client.wait_for_service(PATIENCE):
                return f"the parameters of {node} do not appear"
            request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
            future = client.call_async(request)
            if self.wait(future.done) is None:
                return f"{node} does not answer"
            result = future.result().results[0]
            return "" if result.successful else result.reason
        finally:
            self.node.destroy_client(client)

    def start(self, process: str) -> None:
        """Starts a process of the system anew, as soon as what was killed of it is heard no more: the middleware tells
        of it for a while yet, as it would of another system. Errors: BringUpError where it is not; Stopped."""
        gone = self.wait(lambda: self.running.stopping.is_set() or process not in self._speakers(), GONE)
        if self.running.stopping.is_set():
            raise Stopped
        if gone is None:
            raise BringUpError(f"a node {process!r} is heard {GONE:g} s after ours was killed: another's; {MEND}")
        self._met = time.time() + MEETING
        self.running.start(process)

    def _speakers(self) -> set[str]:
        """Names of the nodes that the middleware takes to speak for the arm or the policy."""
        topics = (f"{self.arm}/status", CHUNKS, ANNOUNCED)
        return {info.node_name for topic in topics for info in self.node.get_publishers_info_by_topic(f"/{topic}")}

    def signal(self, process: str, number: signal.Signals, whole: bool = False) -> None:
        """Sends a signal to a process of the system; whole: also to the processes it has started."""
        pid = self.running.pid(process)
        if whole:
            os.killpg(pid, number)    # each process of a system leads a group
        else:
            os.kill(pid, number)

    # --- promises -----------------------------------------------------------------------------------------------------
    def broken(self, cut_off: bool = False, falls: bool = False, timely: bool = True) -> str:
        """Which promise that holds for every row was broken since this was last asked; empty where none. cut_off:
        setpoints could not but end at speed; falls: what has no torque moves as gravity wants; timely: setpoints came
        as they were sent."""
        armed_itself, self._armed_itself = self._armed_itself, ""
        return joined(self.witness.motion_error(cut_off, falls, timely), armed_itself)


def stamp_ns(message: ActionChunk | ReasoningTrace | ControllerStatus) -> int:
    """Of a message's header [ns]."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
