# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One run of a task: what it hears, and when and why it ends. It moves nothing. No ROS here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

SILENT = 1.5    # [s] without a word of a controller, which states itself ten times a second
STALL = 0.3     # [s]; when this process stalls for longer, statuses wait to be read: that is no silence
FRESH = 1.0     # [s]; a test that was made longer ago is no success
AHEAD = 0.05    # [s]; how far in the future a test may be stamped


class State(IntEnum):
    """The values are those of ControllerStatus."""

    DISARMED = 0
    HOLDING = 1
    FOLLOWING = 2
    STOPPING = 3
    FAULT = 4


class Cause(IntEnum):
    """The values are those of ControllerStatus.CAUSE_*."""

    NONE = 0
    REQUEST = 1
    RAN_OUT = 2
    ITSELF = 3


BAD_TO_GOOD = (State.FAULT, State.DISARMED, State.STOPPING, State.HOLDING, State.FOLLOWING)


class Ended(IntEnum):
    """The values are those of RunTask.Result.ENDED_*."""

    SUCCEEDED = 1
    TIME_LIMIT = 2
    CANCELED = 3
    FAULT = 4
    OPERATOR = 5
    REPLACED = 6
    REFUSED = 7


@dataclass(frozen=True)
class Goal:
    """What is asked for. time_limit [s]; success_test: empty where only the time limit ends it."""

    instruction: str
    time_limit: float
    success_test: str

    @property
    def refusal(self) -> str:
        """What is wrong with it in itself, in words with the mend; empty where nothing is."""
        if not (math.isfinite(self.time_limit) and self.time_limit > 0):
            return f"time_limit is {self.time_limit:g}; give a number of seconds above 0"
        return ""


@dataclass(frozen=True)
class ArmStatus:
    """What a controller says of its arm, as in ControllerStatus. waits: until an operator resumes it.

    refused: how many chunks it has refused; refusal, refusal_text: why the last of them, also in words.
    """

    state: State
    reason: str = ""
    paused: bool = False
    guided: bool = False
    fault_code: int = 0
    fault_text: str = ""
    chunk_id: int = 0
    cause: Cause = Cause.NONE
    waits: bool = False
    refused: int = 0
    refusal: int = 0
    refusal_text: str = ""

    @property
    def operator_is_due(self) -> bool:
        """It holds, and follows nothing until an operator has done something."""
        return self.guided or self.paused or (self.state == State.HOLDING and self.waits)


@dataclass(frozen=True)
class Ending:
    """fault_code: of the controller whose fault ended the task; 0 elsewhere."""

    ended: Ended
    message: str
    fault_code: int = 0


class TaskRun:
    """A task under way. `ending` is None until it has ended; what comes first, counts.

    arms: all that the policy moves. now: steady time [s]; ros_ns: ROS time [ns]. over: the last chunk of what had ended
    before; an arm that still follows it is being stopped for that, and has not followed this task.
    """

    def __init__(self, goal: Goal, arms: Iterable[str], now: float, ros_ns: int, over: int):
        self.goal = goal
        self.ending: Ending | None = None
        self._began, self._began_ns, self._over = now, ros_ns, over
        self._statuses: dict[str, ArmStatus | None] = dict.fromkeys(arms)
        self._silent = dict.fromkeys(self._statuses, 0.0)
        self._checked = now
        self._followed: dict[str, int] = {}    # by arm: the last chunk that it followed
        self._test_heard = now
        self._test_remark = ""

        self._refused_before: dict[str, int] = {}        # by arm: how many, before it began to wait for a chunk
        self._refused: dict[str, tuple[int, str]] = {}    # by arm that waits: why, and the words of the first such

    def elapsed(self, now: float) -> float:
        """[s]"""
        return now - self._began

    def end(self, ended: Ended, message: str, fault_code: int = 0) -> None:
        if self.ending is None:
            self.ending = Ending(ended, message, fault_code)

    # --- what comes in ------------------------------------------------------------------------------------------------
    def hear_controller(self, arm: str, status: ArmStatus) -> None:
        """Ends the task at a fault, and where an arm that has followed it was stopped."""
        self._hear_refusal(arm, status, self._statuses[arm])
        self._statuses[arm], self._silent[arm] = status, 0.0
        if status.state == State.FAULT:
            text = f"arm {arm!r} is in fault: {status.fault_text}"
            self.end(Ended.FAULT, text, status.fault_code)
        elif status.state == State.FOLLOWING and status.chunk_id > self._over:
            self._followed[arm] = status.chunk_id
        elif arm in self._followed:
            act = _operator_act(status)
            if act:
                self.end(Ended.OPERATOR, f"arm {arm!r} {act}")
            elif status.cause == Cause.ITSELF:
                self.end(Ended.FAULT, f"arm {arm!r} stopped by itself: {status.reason}")

    def _hear_refusal(self, arm: str, status: ArmStatus, last: ArmStatus | None) -> None:
        """Of chunks refused in a row for one reason the first stands for all: its figures would change all the time."""
        waits = status.state == State.HOLDING and not status.operator_is_due
        if not waits or last is None or status.refused < last.refused:    # fewer: the controller was started anew
            self._refused_before[arm] = status.refused
            self._refused.pop(arm, None)
        elif status.refused > self._refused_before[arm] and self._refused.get(arm, (0, ""))[0] != status.refusal:
            self._refused[arm] = (status.refusal, status.refusal_text)

    def hear_test(self, name: str, holds: bool, stamp_ns: int, ros_ns: int, now: float) -> None:
        """Ends the task where its test of success holds now, by a stamp that lies after the begin."""
        if not self.goal.success_test or name != self.goal.success_test:
            return
        self._test_heard, self._test_remark = now, ""
        if not holds:
            return
        age = (ros_ns - stamp_ns) / 1e9
        if not -AHEAD <= age <= FRESH:
            self._test_remark = f"the success test {name!r} holds, but its stamp is not of now; check the clocks"
        elif stamp_ns > self._began_ns:
            self.end(Ended.SUCCEEDED, f"the success test {name!r} holds")

    def check(self, now: float) -> None:
        """Ends the task where its time is over or a controller is silent. Call it ten times a second."""
        listened, self._checked = min(now - self._checked, STALL), now
        for arm in self._silent:
            self._silent[arm] += listened
            if self._silent[arm] > SILENT:
                self.end(
                    Ended.FAULT, f"the controller of arm {arm!r} has been silent for {SILENT:g} s; see whether it runs"
                )
        if self.elapsed(now) >= self.goal.time_limit:
            test = self.goal.success_test
            unmet = f", and the success test {test!r} has not held" if test else ""
            refused = "".join(f"; {text}" for text in map(self._refusal_text, self._statuses) if text)
            self.end(Ended.TIME_LIMIT, f"the time limit of {self.goal.time_limit:g} s is over{unmet}{refused}")

    # --- what goes out ------------------------------------------------------------------------------------------------
    @property
    def worst(self) -> State:
        """Of the arms' states; DISARMED while none has been heard."""
        states = [s.state for s in self._statuses.values() if s is not None]
        return min(states, key=BAD_TO_GOOD.index, default=State.DISARMED)

    def text(self, withheld: str, now: float) -> str:
        """How it goes, in words without figures that change all the time. withheld: why no chunks are published."""
        parts = [self._arm_text(arm, status) for arm, status in self._statuses.items()]
        if withheld:
            parts.append(f"no chunks: {withheld}")
        if self.goal.success_test and now - self._test_heard > SILENT:
            parts.append(f"the success test {self.goal.success_test!r} has fallen silent")
        parts.append(self._test_remark)
        return "; ".join(part for part in parts if part) or "following"

    def _arm_text(self, arm: str, status: ArmStatus | None) -> str:
        if status is None:
            return f"arm {arm!r} has not been heard yet"
        if status.state == State.FOLLOWING:
            return "" if status.chunk_id else f"arm {arm!r} is {status.reason}"
        if status.state == State.DISARMED:
            return f"arm {arm!r} is disarmed ({status.reason}): an operator must arm it"
        if status.guided:
            return f"arm {arm!r} is guided by hand: an operator must end that"
        if status.operator_is_due:
            return f"arm {arm!r} is holding ({status.reason}): an operator must call {arm}/resume"
        how = f"arm {arm!r} is {status.state.name.lower()}: {status.reason}"
        return "; ".join(filter(None, (how, self._refusal_text(arm))))

    def _refusal_text(self, arm: str) -> str:
        """Why an arm that waits for a chunk takes none of those that came; empty where none came, or it follows one."""
        if arm not in self._refused:
            return ""
        return f"the controller of arm {arm!r} refuses chunks, as {self._refused[arm][1]}"


def _operator_act(status: ArmStatus) -> str:
    """What an operator has done with an arm that followed, in words; empty where nothing."""
    if status.state == State.DISARMED:
        return f"was disarmed ({status.reason})"
    if status.guided:
        return "is guided by hand"
    if status.state == State.FOLLOWING and status.chunk_id == 0:
        return f"is moved by the operator ({status.reason})"
    if status.paused or status.cause == Cause.REQUEST:
        return f"was {status.reason}"
    return ""
