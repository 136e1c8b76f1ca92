# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""ArmController: one arm's motion, tick by tick. No ROS; the caller gives both clocks, from one thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from molmoact2_contract import Arm, Contract

from .arrivals import Arrivals
from .chunk import Chunk, ChunkRefused, Refusal
from .clock import ClockMap
from .controller_state import ControllerState, Fault, Refused, State
from .driver import ArmDriver, ArmState, DriverError
from .feedback import Feedback
from .pace import Entry, Pace
from .path import Path
from .peers import Peers, PeerStatus
from .records import Announced, Counters, LastChunk
from .safety_gate import SafetyGate, Step
from .scheduler import ChunkScheduler
from .yielding import Yielding

WHEN_LATE = ("hold", "slow")
POLICY_SILENT = 1.5    # [s]; the policy states itself at least twice a second
PAUSE = 0.1            # [s] without setpoints in which an arm at speed has stopped
TIMER_LATE = 0.5       # [s]; a pause of the setpoints that is a fault; shorter ones are counted
SHORTEST_LATENCY = 0.01    # [s]; stamps of a clock slightly ahead would make it negative
# After these nobody knows where the arm is: what moves ramps down, and then nothing is sent until it is armed anew.
BLIND = (Fault.DRIVER, Fault.STATE_STALE, Fault.STATE_INVALID, Fault.STATE_FROZEN)


class ArmController:
    """Ties scheduler, gate and state machine to one device.

    shadow: compute everything, send nothing. peers: names of the other arms of the robot that must be well.
    joining: how chunks join, one of joining.RULES. when_late: "hold" comes to rest at the last waypoint, "slow" runs
    the path slower, so that it lasts until the next chunk is due. stopwatch: by which the device's answers are timed
    [s]; another where the steady clock is a simulation's.
    """

    def __init__(
        self, contract: Contract, arm: Arm, driver: ArmDriver, *, shadow: bool, peers: tuple[str, ...] = (),
        joining: str = "splice", when_late: str = "hold", stopwatch: Callable[[], float] = time.monotonic,
    ):
        self.contract, self.arm_spec, self.shadow = contract, arm, shadow
        self.period = 1.0 / contract.setpoint_hz
        self.gate = SafetyGate(contract, arm)
        bounds = (self.gate.lower, self.gate.upper)
        self.scheduler = ChunkScheduler(contract.max_observation_age, contract.blend_window, bounds, joining)
        self.state = ControllerState(contract.resume_within)
        self.feedback = Feedback(contract, arm, driver, stopwatch)
        self.counters, self.last, self.policy = Counters(), LastChunk(), Announced()
        self.now = self._steady = 0.0
        self.command: np.ndarray | None = None
        self.rate = self._rate_change = 0.0
        self._peers = Peers(peers)
        self._clock = ClockMap()
        self._arrivals = Arrivals() if when_late == "slow" else None
        self._pace: Pace | None = None
        self._pace_share = 1.0
        self._yielding: Yielding | None = None
        self._velocity = self._acceleration = np.zeros(len(arm.joints))    # of the command
        self._unseen = False    # it ramps down blindly
        self._last_tick: float | None = None
        self._last_dt = self.period

    # --- what comes in ------------------------------------------------------------------------------------------------
    def accept(self, chunk: Chunk, steady: float, now: float) -> str:
        """Takes a chunk; returns why it was refused, or an empty text. steady, now: both clocks [s]."""
        try:
            self._accept(chunk, steady, now)
        except ChunkRefused as refused:
            self.counters.refused += 1
            self.last.refusal, self.last.refused_id = refused.refusal, chunk.chunk_id
            self.last.refusal_text = f"chunk {chunk.chunk_id}: {refused}"
            return self.last.refusal_text
        self.counters.accepted += 1
        return ""

    def _accept(self, chunk: Chunk, steady: float, now: float) -> None:
        measured = self.feedback.measured
        if not self.state.armed or self.command is None or measured is None:
            raise ChunkRefused(Refusal.STATE, f"the controller takes no chunks now ({self.state.reason})")
        if not chunk.episode_id or chunk.episode_id != self.policy.episode_id:
            announced = repr(self.policy.episode_id) if self.policy.episode_id else "none"
            raise ChunkRefused(
                Refusal.EPISODE, f"its episode {chunk.episode_id!r} is not the one the policy announces ({announced})"
            )
        waypoints = self.gate.waypoints(chunk, measured.positions, now)
        if self.state.state == State.STOPPING or self.state.paused or self.state.guided or self._moves_by_itself:
            doing = "paused" if self.state.paused else self.state.reason
            raise ChunkRefused(Refusal.STATE, f"the controller follows no chunks now ({doing})")
        against = self._peers.against(chunk.chunk_id, steady)
        if against:
            raise ChunkRefused(Refusal.PEER, against)
        why_not = self.state.why_not_follow(now, chunk.episode_id)
        if why_not:
            raise ChunkRefused(Refusal.RESUME, why_not)
        joined = self.scheduler.join(chunk, waypoints, self.command, now, self._excess, self.gate.path_error)
        self._set_pace(joined.share)
        if self._arrivals is not None:
            self._arrivals.add(steady, max(joined.latency, SHORTEST_LATENCY))
        self.last.consumed, self.last.seam_jump, self.last.latency = joined.consumed, joined.seam_jump, joined.latency
        self.state.follow(f"following chunk {chunk.chunk_id}")

    def _excess(self, path: Path, share: float) -> float:
        """What a path asks for that is run at a share of the pace, from the speed the arm has now on."""
        entry = Entry(self.rate, self._rate_change, self._velocity, self._acceleration)
        return self.gate.pace(path, share).excess(entry, self.period)

    def _set_pace(self, share: float = 1.0) -> None:
        assert self.scheduler.path is not None
        self._pace, self._pace_share = self.gate.pace(self.scheduler.path, share), share

    @property
    def _moves_by_itself(self) -> bool:
        """A home or park move is under way."""
        return self.state.state == State.FOLLOWING and self.scheduler.own_move

    def hear_policy(self, process_id: str, episode_id: str, steady: float) -> None:
        """What policy/status announces."""
        if self.policy.process_id and process_id != self.policy.process_id:
            self.state.new_policy()
        self.policy = Announced(process_id, episode_id, steady)

    def hear_peer(self, arm: str, status: PeerStatus, steady: float) -> None:
        """What another arm's controller says of itself."""
        text = self._peers.hear(arm, status, steady)
        if text and self.state.state == State.FOLLOWING and not self.scheduler.own_move:
            self.state.stop(text)

    # --- what an operator's requests are made of ----------------------------------------------------------------------
    def look(self, steady_ns: int, ros_ns: int) -> None:
        """Reads the arm, outside a tick."""
        self._steady, self.now = steady_ns / 1e9, ros_ns / 1e9
        self._read()

    def feedback_error(self) -> str:
        """Why the newest joint state must not be used; empty where it may."""
        return self.feedback.fault(self._steady, self.now)[1]

    def peer_error(self) -> str:
        """Which other arm is not well, and why; empty where all are."""
        return self._peers.error(self._steady)

    def hold_here(self) -> None:
        """Commands the measured position, of grippers what they hold at. Errors: Refused where it is outside the
        limits."""
        assert self.feedback.measured is not None
        try:
            start = self.gate.start(self.feedback.measured.positions)
        except ValueError as error:
            raise Refused(str(error)) from None
        self.let_go()
        self.command = self.gate.gripping(start, self.feedback.held())
        self.forget_observations()

    def let_go(self) -> None:
        """Forgets what was commanded; nothing is sent until something is commanded anew."""
        self.command, self._yielding, self._unseen = None, None, False
        self._velocity = self._acceleration = np.zeros(len(self.arm_spec.joints))
        self.rate = self._rate_change = 0.0
        self.scheduler.clear()
        self.gate.forget()

    def forget_observations(self) -> None:
        """What was observed until now is no ground to move by."""
        self.scheduler.refuse_until(self.now)

    def follow_own(self, path: Path, reason: str) -> None:
        """Follows a path of the operator's own."""
        self.scheduler.follow(path, self.now)
        self._set_pace()
        self.state.follow(reason)

    # --- the setpoint loop --------------------------------------------------------------------------------------------
    def tick(self, steady_ns: int, ros_ns: int) -> None:
        """One setpoint: reads the arm, advances along the path, sends. Never raises for what device or input did."""
        # First of all: whatever is found wrong after this is answered by where the arm is now.
        self.look(steady_ns, ros_ns)
        dt = self._elapsed()
        self._check_clock(steady_ns, ros_ns)
        self._check_feedback()
        if self._arrivals is not None and self.state.state != State.FOLLOWING:
            self._arrivals.pause()
        if self.command is None:
            return
        if self.state.guided and self.feedback.measured is not None:
            self.command = self.gate.inside(self.feedback.measured.positions)
            return
        self._advance(dt)
        self._send(dt)

    def _elapsed(self) -> float:
        """Time since the last tick [s], bounded: after a late tick the path goes on where it was, without a leap."""
        elapsed = self.period if self._last_tick is None else self._steady - self._last_tick
        self._last_tick = self._steady
        self.counters.ticks += 1
        if elapsed > 1.5 * self.period:
            self.counters.missed += 1
        if elapsed > PAUSE:
            # The arm has come to rest at its last setpoint meanwhile: it starts from rest.
            self.rate = self._rate_change = 0.0
            self._velocity = self._acceleration = np.zeros_like(self._velocity)
        waited, most = self.feedback.take_device_time(), self.contract.joint_state_timeout
        if self.state.armed and waited > most:
            self.fail(Fault.DRIVER, f"the device took {waited:.3f} s to answer, more than {most:g} s")
        elif self.state.armed and elapsed - waited > TIMER_LATE:
            self.fail(Fault.TIMER, f"the setpoint timer was {elapsed - self.period:.3f} s late; free the processor")
        return min(elapsed, 1.5 * self.period)

    def _check_clock(self, steady_ns: int, ros_ns: int) -> None:
        jump = self._clock.update(steady_ns, ros_ns)
        if not jump:
            return
        self.scheduler.shift(jump)
        if self.scheduler.path is not None:
            self._set_pace(self._pace_share)
        text = f"ROS time jumped by {jump:+.3f} s against the steady clock; check time synchronisation"
        self.fail(Fault.CLOCK_JUMP, text)

    def _read(self) -> None:
        try:
            self.feedback.read(self._steady)
        except DriverError as error:
            self.fail(Fault.DRIVER, str(error))

    def _check_feedback(self) -> None:
        """While anything is sent, in fault as well."""
        if self.state.armed:
            fault, text = self.feedback.fault(self._steady, self.now)
            if fault:
                self.fail(fault, text)
        peer_error = self.peer_error()
        if peer_error and self.state.state == State.FOLLOWING and not self.scheduler.own_move:
            self.fail(Fault.PEER, peer_error)
        self.state.hear_of_peers(peer_error)
        if self.command is None or self.feedback.measured is None:
            return
        fault, text = self.feedback.blind(self._steady)
        if fault:
            self.fail(fault, text)
            return
        if self.shadow or self.state.guided:
            return
        measured = self.feedback.measured.positions
        frozen = self.gate.frozen(self.command, measured, self._steady)
        off = "" if frozen else self.gate.off_track(self.command, measured, self._steady)
        if frozen:
            self.fail(Fault.STATE_FROZEN, frozen)
        elif off:
            self.fail(Fault.TRACKING, off)

    def _advance(self, dt: float) -> None:
        """Moves the command along the path; at rest, leaves the states that wait for it."""
        path, state, before = self.scheduler.path, self.state.state, self.command
        if self._yielding is not None:
            self.command = self._yielding.step(dt)
        elif path is not None and self._pace is not None and self.command is not None:
            wanted = self._wanted_rate(path) if state == State.FOLLOWING else 0.0
            last = Step(self.command, self.scheduler.path_time, self.rate, self._rate_change)
            step = self.gate.advance(path, self._pace, last, dt, wanted)
            self.command, self.scheduler.path_time = step.setpoint, step.path_time
            self.rate, self._rate_change = step.rate, step.change
        if before is not None and self.command is not None:
            velocity = (self.command - before) / dt
            # Each velocity is that of the middle of its tick; after a late tick the next is short.
            self._acceleration = (velocity - self._velocity) / ((dt + self._last_dt) / 2)
            self._velocity, self._last_dt = velocity, dt
        if state == State.FOLLOWING:
            self._leave_following()
        elif path is None or self.rate <= 1e-3:
            self.rate = self._rate_change = 0.0
            self.scheduler.clear()
            if self._unseen:
                self.let_go()
            if state == State.STOPPING:
                self.state.at_rest()
                if self.state.state == State.DISARMED:
                    self.let_go()

    def _wanted_rate(self, path: Path) -> float:
        if self._arrivals is None or self._moves_by_itself:
            return 1.0
        return self._arrivals.rate(path.end - self.scheduler.path_time, self._steady)

    def _leave_following(self) -> None:
        if not self._moves_by_itself and self.lag > self.contract.max_path_lag:
            self._end_late()
        elif self._path_is_done():
            chunk, episode, own = self.scheduler.chunk_id, self.scheduler.episode_id, self.scheduler.own_move
            self.rate = self._rate_change = 0.0
            self.scheduler.clear()
            if own:
                self.state.reached(self.state.reason.replace("moving to", "reached"))
            else:
                self.state.ran_out(self.now, episode, f"ran out of waypoints of chunk {chunk}")

    def _end_late(self) -> None:
        """The path has fallen too far behind the clock: for want of a chunk, or because the limits slow it."""
        path, most = self.scheduler.path, self.contract.max_path_lag
        if path is not None and self._wanted_rate(path) < 1.0:
            text = f"no chunk came in time to follow chunk {self.scheduler.chunk_id}"
            # What is left of its motion, already slow, ramps down.
            self.state.ran_out(self.now, self.scheduler.episode_id, text)
        else:
            self.state.stop(
                f"the path fell {self.lag:.2f} s behind the clock, more than {most:g} s: "
                "the chunks ask for more speed than the limits allow"
            )

    def _path_is_done(self) -> bool:
        """At the path's end, or so near before it that coming to rest in time left less than a step to go."""
        path = self.scheduler.path
        return path is not None and path.end - self.scheduler.path_time <= max(1e-3 * self.period, self.rate * 1e-3)

    def _send(self, dt: float) -> None:
        if self.command is None:
            return
        error = self.gate.setpoint_error(self.command, dt, yields=self._yielding is not None)
        if error:
            self.fail(Fault.SETPOINT_INVALID, error)
        elif not self.shadow:
            try:
                self.feedback.write(self.command)
            except DriverError as failure:
                self.fail(Fault.DRIVER, str(failure))
                self.let_go()

    def fail(self, fault: Fault, text: str) -> None:
        """Latches a fault; an earlier one keeps its name. What is sent then: the ramp to rest, and where the arm cannot
        be seen any more, nothing after it; nothing where a setpoint is unsound, or where the arm is disarmed; where it
        does not follow, the way to where it is, so that it does not spring when freed; and an arm in a person's hand is
        held where it is now: by its device, where we cannot."""
        was_guided = self.state.guided
        self.state.fail(fault, text)
        elsewhere = was_guided or self._yielding is not None    # the device does not hold at what it was sent last
        if fault == Fault.SETPOINT_INVALID or (fault in (*BLIND, Fault.INTERNAL) and elsewhere):
            self._hand_over()
        elif fault in BLIND and self.rate > 0 and self.scheduler.path is not None:
            self._unseen = True
        elif fault in BLIND:
            self.let_go()
        elif was_guided:
            try:
                self.hold_here()
            except Refused:    # outside its limits
                self._hand_over()
        elif fault == Fault.TRACKING and self.command is not None and self.feedback.measured is not None:
            self._yield(self.feedback.measured.positions)

    def _yield(self, measured: np.ndarray) -> None:
        assert self.command is not None
        self.rate = self._rate_change = 0.0
        self.scheduler.clear()
        if self._yielding is None:
            self._yielding = self.gate.yielding(self.command, self._velocity, measured)
        else:
            self._yielding.target = self.gate.yielded(measured, self.command)

    def _hand_over(self) -> None:
        """Nothing more is sent, and the device is to hold where the arm is: its last goal may lie elsewhere."""
        self.let_go()
        if self.shadow:
            return
        try:
            self.feedback.hold()
        except DriverError as error:
            self.state.fault_text += f"; and the device does not say that it holds: {error}"

    # --- what goes out ------------------------------------------------------------------------------------------------
    @property
    def measured(self) -> ArmState | None:
        return self.feedback.measured

    @property
    def lag(self) -> float:
        """How far path time is behind the clock [s]."""
        if self.scheduler.path is None or self.state.state != State.FOLLOWING:
            return 0.0
        return max(self.now - self.scheduler.path_time, 0.0)

    @property
    def reason(self) -> str:
        """Why the controller is in its state, in words."""
        silent = self._steady - self.policy.steady
        if self.state.state == State.HOLDING and self.policy.process_id and silent > POLICY_SILENT:
            return f"{self.state.reason}; the policy has been silent for {silent:.1f} s"
        return self.state.reason

    @property
    def at_rest(self) -> bool:
        resting = self.rate == 0.0 and (self._yielding is None or self._yielding.slow)
        return resting and self.state.state not in (State.FOLLOWING, State.STOPPING)
