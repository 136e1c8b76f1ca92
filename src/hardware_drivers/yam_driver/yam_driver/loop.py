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
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass

import can
import numpy as np

from arm_controller.driver import DriverError

from .channel import Channel, Lock, must_be_quiet, open_bus
from .checks import Survey, survey
from .hardware import Hardware
from .motors import ON, Feedback, MotorBus, Silent
from .switching import switch_on
from .troubles import Troubles
from .turns import whole_turns
from .vendor import Chain, Robot

PERIOD = 1 / 250
FASTER = 1.5          # times the contract's velocities: what the command may do to keep up with the setpoints
OLD = 0.5             # [s] after which a reading is none; what is younger the controller judges by its stamp
ANSWER = 1.0          # [s] for the loop to do what it is asked
REOPEN = 0.5          # [s] between attempts to find an adapter that went away
LOOK_AGAIN = 0.2      # [s] between questions to a motor that does not answer
SINK = 2.0            # [s] in which the carrying torque fades where the arm is closed away from its rest pose

logger = logging.getLogger("yam_driver")


@dataclass(frozen=True)
class Measured:
    """positions: in motor order, rad as the joints of the contract; the gripper 0 closed .. 1 open. stamp_ns: ROS time
    of the oldest of them."""

    positions: np.ndarray
    stamp_ns: int


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
        self._requests: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="yam", daemon=True)
        self._troubles = Troubles(hardware.motors, names, channel.text)
        self._bus: MotorBus | None = None
        self._lost = ""               # why there is no bus now
        self._trouble = ""            # what is wrong with the motors now
        self._driven = False          # the motors are to be on
        self._guided = False
        self._sinking = 0.0           # since when [s]; 0.0: not
        self._command = self._target = np.zeros(len(names))
        self._measured: Measured | None = None
        self._cycled = self._reopened = time.monotonic()
        self._looked = np.zeros(len(names))
        self._silent = np.zeros(len(names))
        self._readings: list[Feedback] = []

    # --- opening; in the caller's thread ------------------------------------------------------------------------------
    def open(self) -> Survey:
        """Opens and checks; moves nothing. Errors: DriverError."""
        self._exclusive = Lock(self.channel)
        try:
            surveyed = self._attach()
            offsets = whole_turns(surveyed.readings, self.hardware, self.names, self._gripper)
            self.chain = Chain(self.hardware, offsets)
            self.chain.readings = self._readings
            self.robot = Robot(self.hardware, self.chain, self._gripper)
            self._measured = self._measure()
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
        self._readings = list(surveyed.readings)
        self._silent[:] = 0.0
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
            return self._driven and not self._lost and all(reading.status == ON for reading in self._readings)

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

    @property
    def command(self) -> np.ndarray:
        """What is commanded now, (J,)."""
        with self._lock:
            return self._command.copy()

    def set_target(self, positions: np.ndarray) -> None:
        with self._lock:
            self._target, self._guided = positions.copy(), False

    def hold(self) -> None:
        """Where the arm is now."""
        self.ask(self._hold_measured)

    def guide(self) -> None:
        """No stiffness, little damping, and the torque that carries the arm."""
        self.ask(self._guide)

    def switch_on(self) -> None:
        """Motors that are off, or in an error that has passed, hold where they are. Errors: DriverError.

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
        future: Future[None] = Future()
        self._requests.append((call, future))
        try:
            future.result(ANSWER)
        except NotInTime:
            future.cancel()
            raise DriverError(f"the loop of {self.channel.text} did not answer within {ANSWER:g} s") from None

    # --- the thread ---------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        due = last = time.monotonic()
        while not self._ending.is_set():
            now = time.monotonic()
            self._serve()
            try:
                self._cycle(now, min(now - last, 5 * PERIOD))
            except (OSError, can.CanError) as error:
                self._lose(f"the CAN adapter of {self.channel.text} is gone ({error}); check its cable")
            except Exception as error:    # a defect of ours, or of i2rt: said, not hidden, and the loop goes on
                logger.exception("the loop of %s failed in itself", self.channel.text)
                self._tell(f"the driver failed in itself: {error!r}")
            last, due = now, max(due + PERIOD, time.monotonic())
            self._ending.wait(due - time.monotonic())

    def _serve(self) -> None:
        while self._requests:
            call, future = self._requests.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if self._lost:
                    raise DriverError(self._lost)
                call()
            except (Silent, OSError, can.CanError) as error:
                future.set_exception(DriverError(f"{error} does not answer on {self.channel.text}; check its cable"))
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(None)

    def _cycle(self, now: float, dt: float) -> None:
        if self._bus is None:
            self._find_again(now)
            return
        if self._driven:
            self._plan(dt, now)
        for index in range(len(self.names)):
            self._exchange(index, now)
        self.chain.readings = self._readings
        trouble = self._troubles.update(self._readings, self._silent.tolist(), self._driven, now)
        if trouble and not self._trouble and self._driven:
            self._hold_command()
        if self._driven and all(reading.status != ON for reading in self._readings) and not trouble:
            self._driven = False    # they let go by themselves; the next setpoint switches them on anew
        with self._lock:
            self._trouble, self._cycled = trouble, time.monotonic()
            self._measured = self._measure()
        if self._sinking and now - self._sinking > SINK:
            self._switch_off()

    def _plan(self, dt: float, now: float) -> None:
        """Moves the command, and has i2rt's robot make motor commands of it."""
        with self._lock:
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

    def _exchange(self, index: int, now: float) -> None:
        assert self._bus is not None
        silent = self._silent[index] > 0
        if silent and now - self._looked[index] < LOOK_AGAIN:
            return
        self._looked[index] = now
        # The others shall not wait for one that is known to be silent.
        self._bus.tries, before = (1 if silent else self._bus.tries), self._bus.tries
        try:
            motor = self.hardware.motors[index]
            if self._driven:
                sent = self.chain.sent(index)
                self._readings[index] = self._bus.command(motor, sent.pos, sent.vel, sent.kp, sent.kd, sent.torque)
            else:
                self._readings[index] = self._bus.refresh(motor)
            self._silent[index] = 0.0
        except Silent:
            self._silent[index] = self._silent[index] or now
        finally:
            self._bus.tries = before

    def _measure(self) -> Measured:
        chain = self.chain
        raw = np.array([reading.position for reading in self._readings])
        positions = (raw - chain.motor_offset) * chain.motor_direction
        closed, opened = self._gripper
        positions[-1] = (positions[-1] - closed) / (opened - closed)
        return Measured(positions, min(reading.stamp_ns for reading in self._readings))

    # --- what is asked of it; in the thread ---------------------------------------------------------------------------
    def _hold_command(self) -> None:
        with self._lock:
            if self._guided:
                assert self._measured is not None
                self._command = self._measured.positions.copy()
            self._target, self._guided = self._command.copy(), False

    def _hold_measured(self) -> None:
        with self._lock:
            assert self._measured is not None
            self._command = self._target = self._measured.positions.copy()
            self._guided = False

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
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, policy, parameters)
        switched: list[int] = []
        try:
            for index, reading in enumerate(self._readings):
                if not self._driven or reading.status != ON:
                    switched.append(index)
                    self._readings[index] = switch_on(
                        self._bus, self.hardware.motors[index], self.names[index], reading
                    )
        except BaseException:
            for index in switched if not self._driven else ():
                with contextlib.suppress(Silent, OSError, can.CanError):    # told is what came first
                    self._readings[index] = self._bus.disable(self.hardware.motors[index])
            raise
        self.chain.readings = self._readings
        self._troubles.forget()
        with self._lock:
            self._measured = self._measure()
            self._driven, self._trouble = True, ""
        self._hold_measured()

    def _switch_off(self) -> None:
        assert self._bus is not None
        self._driven, self._sinking = False, 0.0
        stuck = []
        for index, motor in enumerate(self.hardware.motors):
            try:
                self._readings[index] = self._bus.disable(motor)
                if self._readings[index].status == ON:
                    stuck.append(motor.id)
            except Silent:
                stuck.append(motor.id)
        if stuck:
            logger.error("motors %s did not say that they are off; switch the arm's power off", stuck)

    # --- an adapter that goes and comes -------------------------------------------------------------------------------
    def _tell(self, text: str) -> None:
        with self._lock:
            self._trouble = text

    def _lose(self, text: str) -> None:
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
            self.chain.motor_offset = whole_turns(surveyed.readings, self.hardware, self.names, self._gripper)
        except DriverError as error:
            self._lose(str(error))
            return
        self.chain.readings = self._readings
        self._troubles.forget()
        with self._lock:
            self._measured, self._cycled = self._measure(), time.monotonic()
            self._lost = self._trouble = ""

    def _drop_bus(self) -> None:
        bus, self._bus = self._bus, None
        if bus is None:
            return
        try:
            bus.close()
        except (OSError, can.CanError) as error:
            logger.debug("closing %s: %r", self.channel.text, error)
