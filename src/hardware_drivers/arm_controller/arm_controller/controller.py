# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""ArmController: one arm's motion, tick by tick. No ROS; the caller gives both clocks.

Not thread-safe: the caller holds one lock around every call.
"""

from __future__ import annotations

import numpy as np

from molmoact2_contract import Arm, Contract

from .arrivals import Arrivals
from .chunk import Chunk, ChunkRefused, Refusal
from .clock import ClockMap
from .controller_state import ControllerState, Fault, Refused, State
from .driver import ArmDriver, ArmState, DriverError
from .feedback import Feedback
from .moves import slow_move
from .pace import Pace
from .path import Path
from .peers import Peers
from .records import Announced, Counters, LastChunk
from .safety_gate import SafetyGate, Step
from .scheduler import ChunkScheduler

WHEN_LATE = ("hold", "slow")
POLICY_SILENT = 1.5    # [s]; the policy states itself at least twice a second
PAUSE = 0.1            # [s] without setpoints in which an arm at speed has stopped
TIMER_LATE = 0.5       # [s]; a pause of the setpoints that is a fault; shorter ones are counted
RATE_TOLERANCE = 0.02  # of the rate at which a new path is entered
# After these nobody knows where the arm is, so nothing is sent until an operator arms it anew.
BLIND = (Fault.DRIVER, Fault.STATE_STALE, Fault.STATE_INVALID, Fault.STATE_FROZEN)


class ArmController:
    """Ties scheduler, gate and state machine to one driver.

    shadow: compute everything, send nothing. peers: names of the other arms of the robot that must be well.
    joining: how chunks join, one of joining.RULES. when_late: "hold" comes to rest at the last waypoint, "slow" runs
    the path slower, so that it lasts until the next chunk is due.
    """

    def __init__(
        self, contract: Contract, arm: Arm, driver: ArmDriver, *, shadow: bool, peers: tuple[str, ...] = (),
        joining: str = "splice", when_late: str = "hold",
    ):
        self.contract, self.arm_spec, self.shadow = contract, arm, shadow
        self._driver = driver
        self.period = 1.0 / contract.setpoint_hz
        self.gate = SafetyGate(contract, arm)
        bounds = (self.gate.lower, self.gate.upper)
        self.scheduler = ChunkScheduler(contract.max_observation_age, contract.blend_window, bounds, joining)
        self.state = ControllerState(contract.resume_within)
        self.clock = ClockMap()
        self.counters, self.last, self.policy = Counters(), LastChunk(), Announced()
        self.peers = Peers(peers)
        self._feedback = Feedback(contract, arm, driver)
        self.command: np.ndarray | None = None
        self._arrivals = Arrivals() if when_late == "slow" else None
        self.rate = self._rate_change = 0.0
        self._pace: Pace | None = None
        self._now = self._steady = 0.0
        self._last_tick: float | None = None
        self._dt = self.period

    @property
    def measured(self) -> ArmState | None:
        return self._feedback.measured

    # --- what comes in ------------------------------------------------------------------------------------------------
    def accept(self, chunk: Chunk, steady: float, now: float) -> str:
        """Takes a chunk; returns why it was refused, or an empty text. steady, now: both clocks [s]."""
        try:
            self._accept(chunk, now)
        except ChunkRefused as refused:
            self.counters.refused += 1
            self.last.refusal, self.last.refused_id = refused.refusal, chunk.chunk_id
            self.last.refusal_text = f"chunk {chunk.chunk_id}: {refused}"
            return self.last.refusal_text
        self.counters.accepted += 1
        return ""

    def _accept(self, chunk: Chunk, now: float) -> None:
        if not self.state.armed or self.command is None or self.measured is None:
            raise ChunkRefused(Refusal.STATE, f"the controller takes no chunks now ({self.state.reason})")
        if not chunk.episode_id or chunk.episode_id != self.policy.episode_id:
            announced = repr(self.policy.episode_id) if self.policy.episode_id else "none"
            raise ChunkRefused(
                Refusal.EPISODE, f"its episode {chunk.episode_id!r} is not the one the policy announces ({announced})"
            )
        waypoints = self.gate.waypoints(chunk, self.measured.positions, now)
        if self.state.state == State.STOPPING or self.state.paused or self.state.guided or self._moves_by_itself:
            doing = "paused" if self.state.paused else self.state.reason
            raise ChunkRefused(Refusal.STATE, f"the controller follows no chunks now ({doing})")
        why_not = self.state.why_not_follow(now, chunk.episode_id)
        if why_not:
            raise ChunkRefused(Refusal.RESUME, why_not)
        joined = self.scheduler.join(chunk, waypoints, self.command, now, self._can_enter, self._check_path)
        self._set_pace()
        if self._arrivals is not None:
            self._arrivals.add(now, joined.latency)
        self.last.consumed, self.last.seam_jump, self.last.latency = joined.consumed, joined.seam_jump, joined.latency
        self.state.follow(f"following chunk {chunk.chunk_id}")

    def _can_enter(self, path: Path) -> bool:
        """Whether a path may be run at its start as fast as the arm is going."""
        return self.gate.pace(path).ceiling(path.start) >= self.rate - RATE_TOLERANCE

    def _check_path(self, path: Path) -> None:
        """Errors: ChunkRefused."""
        outside = self.gate.path_error(path)
        if outside:
            raise ChunkRefused(Refusal.WORKSPACE, outside)

    def _set_pace(self) -> None:
        assert self.scheduler.path is not None
        self._pace = self.gate.pace(self.scheduler.path)

    @property
    def _moves_by_itself(self) -> bool:
        """A home or park move is under way."""
        return self.state.state == State.FOLLOWING and self.scheduler.chunk_id == 0

    def hear_policy(self, process_id: str, episode_id: str, steady: float) -> None:
        """What policy/status announces."""
        if self.policy.process_id and process_id != self.policy.process_id:
            self.state.new_policy()
        self.policy = Announced(process_id, episode_id, steady)

    def hear_peer(self, arm: str, state: State, fault_text: str, refused: int, steady: float) -> None:
        """What another arm's controller says: its state, its fault, and how many chunks it has refused."""
        refused_more = self.peers.hear(arm, state, fault_text, refused, steady)
        if refused_more and self.state.state == State.FOLLOWING:
            self.state.stop(f"arm {arm!r} refused a chunk; both stop")

    # --- operator -----------------------------------------------------------------------------------------------------
    def arm(self) -> None:
        """Holds the measured position from now on. Errors: Refused."""
        unwell = self._feedback.driver_failed or self._feedback.error(self._now) or self.peers.error(self._steady)
        if unwell and not self.state.armed and self.state.state != State.FAULT:
            raise Refused(unwell)
        self.state.arm()
        try:
            self._hold_here()
        except Refused:
            self.state.disarm()
            raise

    def _hold_here(self) -> None:
        """Commands the measured position. Errors: Refused where that is outside the limits."""
        assert self.measured is not None
        try:
            start = self.gate.start(self.measured.positions)
        except ValueError as error:
            raise Refused(str(error)) from None
        self._let_go()
        self.command = start

    def stop(self, reason: str = "stopped by the operator") -> None:
        """Comes to rest and holds. Errors: Refused."""
        self._take_back()
        self.state.stop(reason)

    def pause(self) -> None:
        """Errors: Refused."""
        self._take_back()
        self.state.pause()

    def resume(self) -> None:
        """Lets the policy move the arm; an arm in a person's hand is held where it is. Errors: Refused."""
        self._take_back()
        self.state.resume()

    def disarm(self) -> None:
        """Comes to rest, then sends no more setpoints; an arm in a person's hand is left to its device. Errors:
        Refused."""
        if not self.state.guided:
            self.state.stop("disarmed by the operator", State.DISARMED)
            return
        try:
            self._driver.stop()
        except DriverError as error:
            self.fail(Fault.DRIVER, str(error))
            return
        self._let_go()
        self.state.disarm()

    def hand_guide(self) -> None:
        """Puts the arm into a person's hand, until resume, stop, pause or disarm. Errors: Refused."""
        if self.shadow:
            raise Refused("the arm is shadowed: it is not ours to put into a hand")
        if self.state.state != State.HOLDING or not self.at_rest:
            raise Refused(f"the arm is {self.state.words}; it must be holding")
        try:
            self._driver.guide()
        except DriverError as error:
            raise Refused(str(error)) from error
        self.state.guide()

    def _leave_the_hand(self) -> None:
        """After a fault: held where it is, or left as it is where that cannot be."""
        try:
            self._take_back()
        except Refused:
            self._let_go()

    def _take_back(self) -> None:
        """An arm in a person's hand is held where it is. Errors: Refused where it is outside its limits."""
        if self.state.guided:
            self._hold_here()
            self.state.guided = False

    def _let_go(self) -> None:
        """Forgets what was commanded; nothing is sent until the arm is armed anew."""
        self.command, self.rate, self._rate_change = None, 0.0, 0.0
        self.scheduler.clear()
        self.gate.forget()

    def move_to(self, pose: str) -> None:
        """A slow straight move in joint space to the contract's `home` or `rest`. Errors: Refused."""
        if self.state.state != State.HOLDING or self.command is None or self.state.guided:
            raise Refused(f"the arm is {self.state.words}; it must be holding")
        target, velocity = (self.contract.values(field, self.arm_spec.joints) for field in (pose, "velocity"))
        path = slow_move(self.command, target, velocity, self._now)
        outside = self.gate.path_error(path)
        if outside:
            raise Refused(f"on the straight way to {pose} {outside}; guide the arm by hand, or move it nearer first")
        self.scheduler.follow(path, self._now)
        self._set_pace()
        self.state.follow(f"moving to {pose}")

    def clear_fault(self) -> None:
        """Clears a fault whose cause is gone. Errors: Refused."""
        cause = self._feedback.driver_failed or self._feedback.error(self._now)
        if self.state.state == State.FAULT and cause:
            raise Refused(f"the cause is still there: {cause}")
        self.state.clear_fault()
        self._let_go()
        self.scheduler.forget_stamps()

    # --- the setpoint loop --------------------------------------------------------------------------------------------
    def tick(self, steady_ns: int, ros_ns: int) -> None:
        """One setpoint: reads the arm, advances along the path, sends. Never raises for what device or input did."""
        self._steady, self._now = steady_ns / 1e9, ros_ns / 1e9
        self._dt = self._elapsed()
        jump = self.clock.update(steady_ns, ros_ns)
        if jump:
            self.scheduler.shift(jump)
            if self.scheduler.path is not None:
                self._set_pace()
            text = f"ROS time jumped by {jump:+.3f} s against the steady clock; check time synchronisation"
            self.fail(Fault.CLOCK_JUMP, text)
        self._read()
        if self.state.state == State.DISARMED or self.command is None:
            return
        self._check_feedback()
        if self.state.guided and self.measured is not None:
            self.command = self.gate.inside(self.measured.positions)
            return
        self._advance(self._dt)
        self._send()

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
        # What the device took is its driver's to answer for.
        if elapsed - self._feedback.take_device_time() > TIMER_LATE and self.state.armed:
            self.fail(Fault.TIMER, f"the setpoint timer was {elapsed - self.period:.3f} s late; free the processor")
        return min(elapsed, 1.5 * self.period)

    def _read(self) -> None:
        try:
            self._feedback.read()
        except DriverError as error:
            self.fail(Fault.DRIVER, str(error))
            return
        fault, text = self._feedback.fault(self._now)
        if fault and self.state.armed:
            self.fail(fault, text)

    def _check_feedback(self) -> None:
        if self.state.armed:
            peer_error = self.peers.error(self._steady)
            if peer_error:
                self.fail(Fault.PEER, peer_error)
        if self.shadow or self.measured is None or self.command is None or not self.state.armed or self.state.guided:
            return
        frozen = self.gate.frozen(self.command, self.measured.positions)
        if frozen:
            self.fail(Fault.STATE_FROZEN, frozen)
            return
        off = self.gate.off_track(self.command, self.measured.positions, self._steady)
        if off:
            self.fail(Fault.TRACKING, off)

    def _advance(self, dt: float) -> None:
        """Moves the command along the path; at rest, leaves the states that wait for it."""
        path, state = self.scheduler.path, self.state.state
        if path is not None and self._pace is not None and self.command is not None:
            wanted = self._wanted_rate(path) if state == State.FOLLOWING else 0.0
            last = Step(self.command, self.scheduler.path_time, self.rate, self._rate_change)
            step = self.gate.advance(path, self._pace, last, dt, wanted)
            self.command, self.scheduler.path_time = step.setpoint, step.path_time
            self.rate, self._rate_change = step.rate, step.change
        if state == State.FOLLOWING:
            self._leave_following()
        elif path is None or self.rate <= 1e-3:
            self.rate = self._rate_change = 0.0
            self.scheduler.clear()
            if state == State.STOPPING:
                self.state.at_rest()
                if self.state.state == State.DISARMED:
                    self._let_go()

    def _wanted_rate(self, path: Path) -> float:
        if self._arrivals is None or self._moves_by_itself:
            return 1.0
        return self._arrivals.rate(path.end - self.scheduler.path_time, self._now)

    def _leave_following(self) -> None:
        by_itself = self._moves_by_itself
        if not by_itself and self.lag > self.contract.max_path_lag:
            self.state.stop(
                f"the path fell {self.lag:.2f} s behind the clock, more than {self.contract.max_path_lag:g} s: "
                "the chunks ask for more speed than the limits allow"
            )
        elif self._path_is_done():
            chunk = self.scheduler.chunk_id
            self.rate = self._rate_change = 0.0
            moved = self.state.reason
            self.scheduler.clear()
            if self._arrivals is not None:
                self._arrivals.pause()
            if by_itself:
                self.state.reached(moved.replace("moving to", "reached"))
            else:
                self.state.ran_out(self._now, self.policy.episode_id, f"ran out of waypoints of chunk {chunk}")

    def _path_is_done(self) -> bool:
        """At the path's end, or so near before it that coming to rest in time left less than a step to go."""
        path = self.scheduler.path
        return path is not None and path.end - self.scheduler.path_time <= max(1e-3 * self.period, self.rate * 1e-3)

    def _send(self) -> None:
        if self.command is None or self.state.state == State.DISARMED:
            return
        error = self.gate.setpoint_error(self.command, self._dt)
        if error:
            self.fail(Fault.SETPOINT_INVALID, error)
            return
        if self.shadow:
            return
        try:
            self._feedback.write(self.command)
        except DriverError as failure:
            self.fail(Fault.DRIVER, str(failure))

    def fail(self, fault: Fault, text: str) -> None:
        """Latches a fault. What is sent then: a ramp to rest while the arm can be seen; nothing where it cannot; and
        where it does not follow, the place where it is, so that it does not spring when freed."""
        was_armed = self.state.armed
        if self.state.guided:
            self._leave_the_hand()
        self.state.fail(fault, text)
        if fault in BLIND or fault == Fault.SETPOINT_INVALID:
            self._let_go()
        elif fault == Fault.TRACKING and was_armed and self.measured is not None:
            yielded = self.gate.yielded(self.measured.positions, self.command)
            self._let_go()
            self.command = yielded

    # --- what goes out ------------------------------------------------------------------------------------------------
    @property
    def lag(self) -> float:
        """How far path time is behind the clock [s]."""
        if self.scheduler.path is None or self.state.state != State.FOLLOWING:
            return 0.0
        return max(self._now - self.scheduler.path_time, 0.0)

    @property
    def reason(self) -> str:
        """Why the controller is in its state, in words."""
        silent = self._steady - self.policy.steady
        if self.state.state == State.HOLDING and self.policy.process_id and silent > POLICY_SILENT:
            return f"{self.state.reason}; the policy has been silent for {silent:.1f} s"
        return self.state.reason

    @property
    def at_rest(self) -> bool:
        return self.rate == 0.0 and self.state.state not in (State.FOLLOWING, State.STOPPING)
