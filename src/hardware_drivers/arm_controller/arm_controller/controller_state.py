# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""ControllerState: what the arm is allowed to do now, and why. The fault latches; only an operator clears it."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """The values are those of ControllerStatus."""

    DISARMED = 0
    HOLDING = 1
    FOLLOWING = 2
    STOPPING = 3
    FAULT = 4


class Fault(IntEnum):
    """The values are those of ControllerStatus.FAULT_*."""

    NONE = 0
    DRIVER = 1
    STATE_STALE = 2
    STATE_INVALID = 3
    TRACKING = 4
    CLOCK_JUMP = 5
    TIMER = 6
    SETPOINT_INVALID = 7
    PEER = 8
    STATE_FROZEN = 9
    INTERNAL = 10


class Cause(IntEnum):
    """Who or what ended the last motion, or nothing has. The values are those of ControllerStatus.CAUSE_*."""

    NONE = 0
    REQUEST = 1    # a service was called
    RAN_OUT = 2    # the chunk's waypoints were used up
    ITSELF = 3     # the controller stopped


class Refused(Exception):
    """An operator's request that cannot be met now; the text says why."""


class ControllerState:
    """The state machine. It decides nothing about motion itself; the controller asks it and tells it.

    resume_within [s]: after running out of waypoints, a chunk of the same policy process is followed without an
    operator for this long.
    """

    def __init__(self, resume_within: float):
        self._resume_within = resume_within
        self.state = State.DISARMED
        self.after_stop = State.HOLDING
        self.reason = "not armed since the start"
        self.paused = False
        self.guided = False    # holding, but in a person's hand: the device yields
        self.fault = Fault.NONE
        self.fault_text = ""
        self.needs_resume = ""
        self.cause = Cause.NONE
        self._peer_error = ""
        self._ran_out_at: float | None = None
        self._ran_out_in = ""

    @property
    def words(self) -> str:
        """The state in words, e.g. for "the arm is ..."."""
        if self.guided:
            return "in a person's hand"
        return {State.FAULT: "in fault", State.STOPPING: "coming to rest"}.get(self.state, self.state.name.lower())

    @property
    def armed(self) -> bool:
        return self.state in (State.HOLDING, State.FOLLOWING, State.STOPPING)

    # --- operator -----------------------------------------------------------------------------------------------------
    def arm(self) -> None:
        """Errors: Refused."""
        if self.state == State.FAULT:
            raise Refused(f"a fault is latched: {self.fault_text}; clear_fault first")
        if self.state != State.DISARMED:
            raise Refused("the arm is armed already")
        self.paused, self.needs_resume, self._ran_out_at, self.cause = False, "", None, Cause.NONE
        self._go(State.HOLDING, "armed; waiting for a chunk")

    def stop(self, reason: str, after: State = State.HOLDING, cause: Cause = Cause.ITSELF) -> None:
        """Brings the arm to rest, then goes to `after`. Errors: Refused where the arm is not armed."""
        if not self.armed:
            raise Refused(f"the arm is {self.words}; there is nothing to stop")
        if self.state == State.STOPPING and self.after_stop == State.DISARMED:
            return    # a disarm under way is not taken back by a later stop
        if after == State.HOLDING:
            self.needs_resume = f"{reason}; call resume to go on"
        self.after_stop, self.cause = after, cause
        self._go(State.STOPPING, reason)

    def pause(self) -> None:
        """Errors: Refused where the arm is not armed."""
        self.stop("paused by the operator", cause=Cause.REQUEST)
        self.paused = True

    def resume(self) -> None:
        """Errors: Refused."""
        if not self.armed:
            raise Refused(f"the arm is {self.words}; clear the fault and arm it first")
        if self.state == State.STOPPING:
            raise Refused("the arm is coming to rest; resume when it holds")
        self.paused, self.needs_resume, self._ran_out_at, self.cause = False, "", None, Cause.NONE
        if self.state == State.HOLDING:
            self.reason = "resumed by the operator; waiting for a chunk"

    def guide(self) -> None:
        """The arm is in a person's hand; afterwards the policy goes on only when the operator says so."""
        self.guided, self.needs_resume = True, "the arm was guided by hand; call resume to let the policy move it"
        self.cause = Cause.REQUEST
        self._go(State.HOLDING, "in a person's hand; resume, stop or disarm takes it back")

    def disarm(self) -> None:
        """At once; for an arm that is at rest."""
        self.guided, self.cause = False, Cause.REQUEST
        self._go(State.DISARMED, "not armed")

    def clear_fault(self) -> None:
        """Errors: Refused where there is no fault."""
        if self.state != State.FAULT:
            raise Refused("there is no fault to clear")
        self.fault, self.fault_text = Fault.NONE, ""
        self._go(State.DISARMED, "fault cleared by the operator; arm to go on")

    # --- controller ---------------------------------------------------------------------------------------------------
    def fail(self, fault: Fault, text: str) -> None:
        """Latches a fault; a second one does not hide the first."""
        self.guided = False
        if self.state != State.FAULT:
            self.fault, self.fault_text = fault, text
            self._go(State.FAULT, text)

    def why_not_follow(self, now: float, episode_id: str) -> str:
        """Why a sound chunk must not be followed now for want of an operator; empty where it may be."""
        if self.needs_resume:
            return self.needs_resume
        if self._ran_out_at is not None and episode_id != self._ran_out_in:
            return "ran out of waypoints in an earlier episode; call resume to go on"
        if self._ran_out_at is not None and now - self._ran_out_at > self._resume_within:
            return (
                f"ran out of waypoints {now - self._ran_out_at:.1f} s ago, longer than {self._resume_within:g} s; "
                "call resume to go on"
            )
        return ""

    def waits(self, now: float) -> bool:
        """Whether no chunk is followed until an operator resumes. now: clock time [s]."""
        late = self._ran_out_at is not None and now - self._ran_out_at > self._resume_within
        return self.armed and (bool(self.needs_resume) or late)

    def follow(self, reason: str) -> None:
        self._ran_out_at, self.cause = None, Cause.NONE
        self._go(State.FOLLOWING, reason)

    def ran_out(self, now: float, episode_id: str, reason: str) -> None:
        self._ran_out_at, self._ran_out_in, self.cause = now, episode_id, Cause.RAN_OUT
        self._go(State.HOLDING, reason)

    def reached(self, reason: str) -> None:
        """A move of the operator's is done; the policy goes on only when the operator says so."""
        self.needs_resume, self.cause = f"{reason}; call resume to let the policy move the arm", Cause.REQUEST
        self._go(State.HOLDING, reason)

    def at_rest(self) -> None:
        """The stop is complete."""
        self._go(self.after_stop, self.reason if self.after_stop == State.HOLDING else "disarmed by the operator")

    def new_policy(self) -> None:
        """Another policy process announced itself: it does not move an arm that an earlier one moved."""
        if self.armed:
            self.needs_resume = "a new policy process began; call resume to let it move the arm"

    def hear_of_peers(self, error: str) -> None:
        """What is wrong with another arm, each tick; empty where all are well. Where this one is armed then, and
        follows no chunk, it follows the next only when its operator says so."""
        if error and not self._peer_error and self.armed and not self.needs_resume:
            self.needs_resume = f"{error}; call resume when it is well again"
        self._peer_error = error

    def _go(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
