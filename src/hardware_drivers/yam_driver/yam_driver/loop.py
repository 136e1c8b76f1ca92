# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The loop of one arm: a thread that exchanges a frame with every motor, 250 times a second.

Off, it only asks where the motors are. On, it sends the command, which moves towards the target within speed limits,
with the torque that carries the arm. When a motor fails the others are held; when nothing can be said or sent any more,
the motors let go by themselves after their timeout.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import can
import numpy as np

from arm_controller.driver import DriverError, Reading

from .channel import Channel, Lock, must_be_quiet, open_bus
from .checks import Survey, survey
from .exchange import Exchange
from .fallen import Fallen, keeping
from .hardware import Hardware
from .health import HealthRecord
from .motors import ON, Measured, MotorBus
from .requests import Requests
from .returning import Returning
from .switching import switch_all_off, switch_all_on
from .troubles import Troubles
from .turns import whole_turns
from .vendor import Chain, Robot

PERIOD = 1 / 250
FASTER = 1.5          # times the contract's velocities: what the command may do to keep up with the setpoints
OLD = 0.5             # [s] after which a reading is none; what is younger the controller judges by its stamp
ANSWER = 1.0          # [s] for the loop to do what it is asked
REOPEN = 0.5          # [s] between attempts to find an adapter that went away
CYCLES = 30_000       # newest exchanges whose time is kept
SINK = 2.0            # [s] in which the carrying torque fades where the arm is closed away from its rest pose
RAMP = 1.0            # [s] after something went wrong in which setpoints are taken, for a ramp to rest

logger = logging.getLogger("yam_driver")


class ArmLoop:
    """names: joints in motor order. gripper: what its motor reads closed and open [rad]. velocity: limits in ROS units
    a second, (J,)."""

    def __init__(
        self, channel: Channel, hardware: Hardware, names: tuple[str, ...], gripper: tuple[float, float],
        velocity: np.ndarray,
    ):
        self.channel, self.hardware, self.names = channel, hardware, names
        self._gripper, self._velocity = gripper, velocity * FASTER
        self._lock = threading.Lock()
        self._requests = Requests(channel.text)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="yam", daemon=True)
        self._troubles = Troubles(hardware.motors, names, channel.text)
        self._fallen = Fallen(hardware.motors, names)
        self._bus: MotorBus | None = None
        self.cycle_times: deque[float] = deque(maxlen=CYCLES)    # of exchanges with all motors [s]
        self._lost = ""               # why there is no bus now
        self._trouble = ""            # what is wrong with the motors now
        self._troubled_at = 0.0       # when that began [s]
        self._driven = False          # the motors are to be on
        self._guided = False
        self._sinking = 0.0           # since when [s]; 0.0: not
        self._command = self._target = np.zeros(len(names))
        self._measured: Measured | None = None
        self._cycled = self._reopened = time.monotonic()
        self._health = HealthRecord()
        self._exchange = Exchange(hardware, self._health)
        self._returning = Returning(hardware, names, channel, gripper)

    # --- opening; in the caller's thread ------------------------------------------------------------------------------
    def open(self) -> Survey:
        """Opens and checks; moves nothing. Errors: DriverError."""
        self._exclusive = Lock(self.channel)
        try:
            surveyed = self._attach()
            offsets = whole_turns(surveyed.readings, self.hardware, self.names, self._gripper)
            self.chain = Chain(self.hardware, offsets)
            self.chain.readings = self._exchange.readings
            self.robot = Robot(self.hardware, self.chain, self._gripper)
            self._measured = self.chain.measured(self._gripper)
        except BaseException:
            self._drop_bus()
            self._exclusive.release()
            raise
        self._cycled = time.monotonic()
        self._thread.start()
        return surveyed

    def _attach(self) -> Survey:
        bus = open_bus(self.channel)
        self._bus = MotorBus(bus, self.channel.text)
        try:
            must_be_quiet(bus, self.channel)
            surveyed = survey(self._bus, self.hardware, self.names, self.channel)
        except BaseException:
            self._drop_bus()
            raise
        self._exchange.begin(surveyed.readings)
        self._returning.forget()
        return surveyed

    # --- what the driver asks; from its one thread --------------------------------------------------------------------
    def read(self) -> Measured:
        """Errors: DriverError with what is wrong now."""
        with self._lock:
            trouble, measured, age = self._lost or self._trouble, self._measured, time.monotonic() - self._cycled
        if trouble:
            raise DriverError(trouble)
        if measured is None or age > OLD:
            where = self.channel.text
            raise DriverError(f"the motors on {where} have not been heard for {age:.2f} s; free the processor")
        return measured

    @property
    def all_on(self) -> bool:
        with self._lock:
            return self._driven and not self._lost and all(reading.status == ON for reading in self._exchange.readings)

    @property
    def ramps_down(self) -> bool:
        """Whether something is wrong and what moves may still be brought to rest: for RAMP since it began, while motors
        answer and hold. A motor that has let go hears nothing of it."""
        with self._lock:
            fresh = time.monotonic() - self._troubled_at < RAMP
            held = any(reading.status == ON for reading in self._exchange.readings)
            there = held and not self._lost and not self._exchange.silent.all()
            return bool(self._trouble) and self._driven and fresh and there

    @property
    def driven(self) -> bool:
        """Whether the motors are meant to be on."""
        return self._driven

    @property
    def last_positions(self) -> np.ndarray:
        """As last measured, however long ago: (J,)."""
        with self._lock:
            assert self._measured is not None
            return self._measured.positions.copy()

    def health(self) -> Sequence[Reading]:
        """What the motors answered last, and how the bus does; waits for nothing."""
        turns = self._returning.doubt.fitting(float(self.chain.shafts()[-1]))
        return self._health.readings(self.names, list(self._exchange.readings), self._bus, self.cycle_times, turns)

    @property
    def command(self) -> np.ndarray:
        """What is commanded now, (J,); in a hand, where that has led it."""
        with self._lock:
            led = self._guided and self._measured is not None
            return (self._measured.positions if led and self._measured else self._command).copy()

    @property
    def held(self) -> np.ndarray | None:
        """What the motors are to hold at, (J,), NaN for one that is not on; None while all are off or in a hand."""
        with self._lock:
            if not self._driven or self._lost or self._guided:
                return None
            return np.where([reading.status == ON for reading in self._exchange.readings], self._target, np.nan)

    def set_target(self, positions: np.ndarray) -> None:
        with self._lock:
            if self._guided and self._measured is not None:    # it is taken back where it is
                self._command = self._measured.positions.copy()
            self._target, self._guided = positions.copy(), False

    def hold(self) -> None:
        """Where the arm is now; the gripper keeps what it holds."""
        self.ask(lambda: self._hold_measured(self.held))

    def grant(self) -> None:
        """An operator clears a fault: a hot arm may move for a time. Errors: DriverError."""
        self.ask(self._grant)

    def guide(self) -> None:
        """No stiffness, little damping, and the torque that carries the arm."""
        self.ask(self._guide)

    def switch_on(self) -> None:
        """Motors that are off, or in an error that an operator has cleared, hold where they are. Errors: DriverError.

        From then on the loop has the priority of the thread that asks: an arm that is on must not wait for others.
        """
        policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
        self.ask(lambda: self._switch_on(policy, parameters))

    def switch_off(self) -> None:
        """At once; the arm falls where nothing carries it."""
        self.ask(self._switch_off)

    def sink(self) -> None:
        """Lets the arm sink, damped, then switches it off."""
        self.ask(self._start_sinking)
        until = time.monotonic() + SINK + ANSWER
        while self._driven and time.monotonic() < until:
            self._ending.wait(PERIOD)

    def close(self) -> None:
        """Ends the loop and releases the bus; sends nothing."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._drop_bus()
        self._exclusive.release()

    def ask(self, call: Callable[[], None]) -> None:
        """Has the loop call it between two exchanges. Errors: DriverError."""
        if not self._thread.is_alive():
            raise DriverError(f"the loop of {self.channel.text} has ended")
        self._requests.ask(call, ANSWER)

    # --- the thread ---------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        due = last = time.monotonic()
        while not self._ending.is_set():
            now = time.monotonic()
            self._requests.serve(self._lost)
            try:
                self._cycle(now, min(now - last, 5 * PERIOD))
            except (OSError, can.CanError) as error:
                self._lose(f"the CAN adapter of {self.channel.text} is gone ({error}); check its cable")
            except Exception as error:    # a defect of ours, or of i2rt: said, not hidden, and the loop goes on
                logger.exception("the loop of %s failed in itself", self.channel.text)
                self._tell(f"the driver failed in itself: {error!r}")
            last, due = now, max(due + PERIOD, time.monotonic())
            self._ending.wait(due - time.monotonic())

    def _cycle(self, now: float, dt: float) -> None:
        if self._bus is None:
            self._find_again(now)
            return
        if self._driven:
            self._plan_or_repeat(dt, now)
        self._exchange.turn(self._bus, self.chain, self._driven, now)
        self.cycle_times.append(time.monotonic() - now)
        self.chain.readings = self._exchange.readings
        self._returning.look(self._bus, self._exchange, self.chain, now)
        self.chain.readings = self._exchange.readings
        trouble = self._troubled(now)
        if trouble and not self._trouble:
            self._troubled_at = now
            self._take_from_hand()
        if self._driven and all(reading.status != ON for reading in self._exchange.readings) and not trouble:
            self._driven = False    # they let go by themselves; the next setpoint switches them on anew
        with self._lock:
            self._trouble, self._cycled = trouble, time.monotonic()
            self._measured = self.chain.measured(self._gripper)
        if self._sinking and now - self._sinking > SINK:
            self._switch_off()

    def _troubled(self, now: float) -> str:
        exchange = self._exchange
        self._fallen.look(exchange.readings, self._driven)
        found = self._troubles.update(exchange.readings, exchange.silent.tolist(), self._driven, now)
        return self._returning.unfit or found

    def _plan_or_repeat(self, dt: float, now: float) -> None:
        """Where that fails, what was sent last is sent again: without commands all motors would let go."""
        last, before = self.chain.commands, self._command
        try:
            self._plan(dt, now)
        except Exception as error:    # a defect of ours, or i2rt, which cannot carry an arm that lies as this one does
            self.chain.commands = last
            with self._lock:    # what the motors are held at: they must not leap when commands can be made again
                self._command, self._target = before, before.copy()
            if not self._trouble:
                logger.exception("no command can be made for %s", self.channel.text)
            self._troubles.note(f"no command can be made ({error}); the motors are held as they were", now)

    def _plan(self, dt: float, now: float) -> None:
        """Moves the command, and has i2rt's robot make motor commands of it."""
        with self._lock:
            if self._guided and self._measured is not None:    # it is taken back where it is
                self._command = self._target = self._measured.positions.copy()
            most = self._velocity * dt
            self._command = self._command + np.clip(self._target - self._command, -most, most)
            command, guided = self._command.copy(), self._guided
        if guided or self._sinking:
            self.robot.enter_gravity_comp_idle()
        else:
            self.robot.command_joint_pos(command)
        self.robot.update()
        if self._sinking:
            share = max(1.0 - (now - self._sinking) / SINK, 0.0)
            self.robot.sink(share, self.hardware.gains[1])

    # --- what is asked of it; in the thread ---------------------------------------------------------------------------
    def _take_from_hand(self) -> None:
        """What a hand has led is held where it is."""
        with self._lock:
            if self._guided:
                assert self._measured is not None
                self._command = self._measured.positions.copy()
                self._target, self._guided = self._command.copy(), False

    def _hold_measured(self, held: np.ndarray | None) -> None:
        """held: whose last, the gripper's, is kept."""
        with self._lock:
            assert self._measured is not None
            self._command = keeping(self._measured.positions, held)
            self._target, self._guided = self._command.copy(), False

    def _grant(self) -> None:
        now = time.monotonic()
        self._troubles.grant(now)
        self._tell(self._troubled(now))
        if not self._trouble:
            self._fallen.clear(self._exchange.readings)

    def _guide(self) -> None:
        if self._trouble:
            raise DriverError(self._trouble)
        if not self._driven:
            raise DriverError("the motors are off; arm the arm first")
        with self._lock:
            self._guided = True

    def _start_sinking(self) -> None:
        self._sinking = time.monotonic()

    def _switch_on(self, policy: int, parameters: os.sched_param) -> None:
        assert self._bus is not None
        self._fallen.begin(self._troubled(time.monotonic()), self._exchange.returned)
        held = self.held
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, policy, parameters)
        self.robot.prepare(keeping(self.chain.measured(self._gripper).positions, held))
        switch_all_on(self._bus, self.hardware, self.names, self._exchange.readings, self._driven)
        self.chain.readings = self._exchange.readings
        self._troubles.forget()
        self._fallen.forget()
        with self._lock:
            self._measured = self.chain.measured(self._gripper)
            self._driven, self._trouble = True, ""
        self._hold_measured(held)

    def _switch_off(self) -> None:
        assert self._bus is not None
        self._driven, self._sinking = False, 0.0
        stuck = switch_all_off(self._bus, self.hardware, self._exchange.readings)
        if stuck:
            logger.error("motors %s did not say that they are off; switch the arm's power off", stuck)

    # --- an adapter that goes and comes -------------------------------------------------------------------------------
    def _tell(self, text: str) -> None:
        with self._lock:
            self._trouble = text

    def _lose(self, text: str) -> None:
        if self._bus is not None:
            self._health.losses += 1
        self._fallen.lose(self._driven)
        with self._lock:
            self._lost, self._driven, self._guided = text, False, False
        self._sinking = 0.0
        self._drop_bus()

    def _find_again(self, now: float) -> None:
        if now - self._reopened < REOPEN:
            return
        self._reopened = now
        try:
            self._exclusive.release()
            self._exclusive = Lock(self.channel)
            surveyed = self._attach()
            self.chain.motor_offset = whole_turns(
                surveyed.readings, self.hardware, self.names, self._gripper, self._returning.shafts
            )
        except DriverError as error:
            self._lose(str(error))
            return
        self.chain.readings = self._exchange.readings
        self._troubles.forget()
        with self._lock:
            self._measured, self._cycled = self.chain.measured(self._gripper), time.monotonic()
            self._lost = self._trouble = ""

    def _drop_bus(self) -> None:
        bus, self._bus = self._bus, None
        if bus is None:
            return
        self._health.leave(bus)
        try:
            bus.close()
        except (OSError, can.CanError) as error:
            logger.debug("closing %s: %r", self.channel.text, error)
