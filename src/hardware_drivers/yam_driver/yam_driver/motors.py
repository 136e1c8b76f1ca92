# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The motors of one arm on its bus: i2rt's codec and registers, with bounded patience and without side effects.

i2rt's own exchange takes the first frame that comes, tries fifteen times, and raises where a motor reports an error, so
that one silent or hot motor takes a third of a second of everybody's time, or ends the loop of all. Here a reply is
told by its id, its length and the motor's number in it, and an error is a reading like any other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import can
import numpy as np
from i2rt.motor_config_tool.dm_motor_registers import DMRegAddr, read_register, save_register_to_flash, write_register
from i2rt.motor_drivers.dm_driver import ControlMode, DMSingleMotorCanInterface
from i2rt.motor_drivers.utils import MotorErrorCode, ReceiveMode

from .hardware import Motor

REPLY = 0.02         # [s] for a motor to answer; it takes about 0.2 ms
TRIES = 3
BROADCAST = 0x7FF
REFRESH = 0xCC       # asks for a feedback frame and commands nothing (Damiao's own library: refresh_motor_status)
ENABLE, DISABLE, CLEAR = 0xFC, 0xFD, 0xFB

OFF, ON = MotorErrorCode.disabled, MotorErrorCode.normal
COMM_LOSS = MotorErrorCode.loss_communication
HOT = (MotorErrorCode.mosfet_over_temperature, MotorErrorCode.motor_over_temperature)


class Silent(Exception):
    """A motor did not answer."""


@dataclass(frozen=True)
class Feedback:
    """One motor's reading, as on the wire: position [rad], velocity [rad/s], torque [N m], before direction and offset.
    status: the error code, 0 off, 1 on. mos, rotor: temperatures [deg C]. stamp_ns: ROS time."""

    position: float
    velocity: float
    torque: float
    status: int
    mos: float
    rotor: float
    stamp_ns: int

    @property
    def words(self) -> str:
        return MotorErrorCode.get_error_message(self.status)


@dataclass(frozen=True)
class Measured:
    """positions: in motor order, rad as the joints of the contract; the gripper 0 closed .. 1 open. stamp_ns: ROS time
    of the oldest of them."""

    positions: np.ndarray
    stamp_ns: int


class _Asking:
    """A bus that remembers whether a frame was sent since anybody last listened."""

    def __init__(self, bus: can.BusABC):
        self.raw, self.asked = bus, False

    def send(self, message: can.Message) -> None:
        self.asked = True
        self.raw.send(message)

    def recv(self, timeout: float | None = None) -> can.Message | None:
        self.asked = False
        return self.raw.recv(timeout=timeout)

    def __getattr__(self, name: str):
        return getattr(self.raw, name)


class MotorBus(DMSingleMotorCanInterface):
    """All motors of one bus. One thread uses it."""

    def __init__(self, bus: can.BusABC, name: str):
        # Not the vendor's constructor: that opens a socketcan interface, and nothing else.
        self.bus, self.busstate, self.channel, self.name = _Asking(bus), None, name, name
        self.receive_mode, self.use_buffered_reader = ReceiveMode.p16, False
        self.control_mode = ControlMode.MIT
        self.cmd_idoffset = ControlMode.get_id_offset(self.control_mode)
        self.reply, self.tries = REPLY, TRIES
        self.retries = 0    # questions that were asked again, since the start

    # --- what i2rt's methods send through -----------------------------------------------------------------------------
    def _send_message_get_response(
        self, id: int, motor_id: int, data: list[int] | bytearray, max_retry: int = 0, expected_id: int | None = None
    ) -> can.Message:
        """Errors: Silent; OSError and can.CanError where the adapter fails."""
        expected = self.receive_mode.get_receive_id(motor_id) if expected_id is None else expected_id
        message = can.Message(arbitration_id=id, data=data, is_extended_id=False)
        for attempt in range(self.tries):
            self.retries += bool(attempt)
            self._drain()
            self.bus.send(message)
            until = time.monotonic() + self.reply
            while (left := until - time.monotonic()) > 0:
                reply = self.bus.recv(timeout=left)
                if reply is not None and reply.arbitration_id == expected and _is_of(reply, motor_id):
                    return reply
        raise Silent(f"motor {motor_id}")

    def try_receive_message(self, motor_id: int | None = None, timeout: float = 0.0) -> can.Message | None:
        """Before a question: drops late answers to earlier ones. After it: waits for its answer."""
        if not self.bus.asked:
            self._drain()
            return None
        reply = self.bus.recv(timeout=self.reply)
        if reply is None and self.tries == 1:    # other motors are waiting to be commanded
            raise Silent(f"motor {motor_id}")
        return reply

    def _drain(self) -> None:
        while self.bus.recv(timeout=0) is not None:
            pass

    def parse_recv_message(self, message: can.Message, motor_type: str, ignore_error: bool = True):
        """An error is a reading too."""
        return super().parse_recv_message(message, motor_type, ignore_error=True)

    # --- the motors ---------------------------------------------------------------------------------------------------
    def command(self, motor: Motor, pos: float, vel: float, kp: float, kd: float, torque: float) -> Feedback:
        """One MIT frame. Errors: Silent, OSError, can.CanError."""
        return _feedback(self.set_control(motor.id, motor.kind, pos, vel, kp, kd, torque))

    def refresh(self, motor: Motor) -> Feedback:
        """Reads a motor without commanding it. Errors: as of command."""
        data = [motor.id & 0xFF, motor.id >> 8, REFRESH, 0, 0, 0, 0, 0]
        reply = self._send_message_get_response(BROADCAST, motor.id, data)
        return _feedback(self.parse_recv_message(reply, motor.kind))

    def enable(self, motor: Motor) -> Feedback:
        return self._special(motor, ENABLE)

    def disable(self, motor: Motor) -> Feedback:
        return self._special(motor, DISABLE)

    def clear(self, motor: Motor) -> Feedback:
        return self._special(motor, CLEAR)

    def _special(self, motor: Motor, what: int) -> Feedback:
        reply = self._send_message_get_response(motor.id, motor.id, [0xFF] * 7 + [what])
        return _feedback(self.parse_recv_message(reply, motor.kind))

    # --- registers; on a bus where nothing else is going on -----------------------------------------------------------
    def register(self, number: int, register: DMRegAddr) -> float:
        """Errors: RuntimeError where the motor does not answer; Silent at once where `tries` is 1."""
        return read_register(self, number, register)

    def write_timeout(self, number: int, value: int) -> None:
        """Sets and saves a motor's command timeout; never to 0. Errors: ValueError, RuntimeError."""
        if value <= 0:
            raise ValueError("a motor's command timeout is never switched off")
        write_register(self, number, DMRegAddr.TIMEOUT, value)
        save_register_to_flash(self, number, DMRegAddr.TIMEOUT)

    def ask_serials(self, numbers: Sequence[int], wanted: Sequence[int], patience: float) -> dict[int, list[bytes]]:
        """Asks each id for its serial number, all at once: more than one answer means that two motors have one id.
        Ends when all that are wanted have answered and nothing more comes."""
        self._drain()
        for number in numbers:
            data = [number & 0xFF, number >> 8, 0x33, int(DMRegAddr.SN), 0, 0, 0, 0]
            self.bus.send(can.Message(arbitration_id=BROADCAST, data=data, is_extended_id=False))
        found: dict[int, list[bytes]] = {number: [] for number in numbers}
        until = time.monotonic() + patience
        while (left := until - time.monotonic()) > 0:
            done = all(found[number] for number in wanted)
            reply = self.bus.recv(timeout=min(left, self.reply) if done else left)
            if reply is None and done:
                break
            if reply is not None and len(reply.data) == 8 and reply.data[3] == DMRegAddr.SN and reply.data[0] in found:
                found[reply.data[0]].append(bytes(reply.data))
        return found


def _is_of(reply: can.Message, motor_id: int) -> bool:
    return len(reply.data) == 8 and reply.data[0] & 0xF == motor_id & 0xF


def _feedback(info) -> Feedback:
    return Feedback(
        info.position, info.velocity, info.torque, int(info.error_code, 16), info.temperature_mos,
        info.temperature_rotor, time.time_ns(),
    )
