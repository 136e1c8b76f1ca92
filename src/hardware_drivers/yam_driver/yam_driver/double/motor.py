# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One Damiao motor as it is seen on the bus. Not a line of it is shared with the driver's codec.

Frames: id: a MIT command, or seven 0xFF and what to do. 0x7FF: registers, and 0xCC for a feedback frame alone. Answers
come with the id in register MST_ID.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

KP_MAX, KD_MAX = 500.0, 5.0
TIMEOUT_TICK = 50e-6    # [s] of register TIMEOUT
INTEGERS = (7, 8, 9, 10, 13, 14, 15, 16, 35, 36)    # registers that hold an integer; the others a float
READ_ONLY = (*range(11, 21), 36, *range(50, 56), 80, 81)
HOT_MOS, HOT_ROTOR = 100.0, 100.0    # [deg C] at which a motor protects itself


class Status(IntEnum):
    OFF = 0x0
    ON = 0x1
    OVER_VOLTAGE = 0x8
    UNDER_VOLTAGE = 0x9
    OVER_CURRENT = 0xA
    MOS_HOT = 0xB
    ROTOR_HOT = 0xC
    COMM_LOSS = 0xD
    OVERLOAD = 0xE


@dataclass(frozen=True)
class Kind:
    """A model of motor: gear ratio and the ends of its scales [rad], [rad/s], [N m]."""

    gear: float
    pmax: float
    vmax: float
    tmax: float


KINDS = {
    "DM4310": Kind(10, 12.5, 30, 10),
    "DM4340": Kind(40, 12.5, 10, 28),
    "DM3507": Kind(7, 12.5, 50, 5),
    "DM6248": Kind(48, 12.5, 20, 120),
}


@dataclass(frozen=True)
class Command:
    """What a motor does between frames."""

    pos: float = 0.0
    vel: float = 0.0
    kp: float = 0.0
    kd: float = 0.0
    torque: float = 0.0


class Motor:
    """number: its id. now: the steady clock [s]. position, velocity: of its shaft, as the plant behind it says."""

    def __init__(self, number: int, kind: str, now: Callable[[], float] = time.monotonic):
        scale = KINDS[kind]
        self.id, self.kind, self._now = number, kind, now
        self.registers: dict[int, float] = {
            7: number + 16, 8: number, 9: 8000, 10: 1, 13: 1, 14: 5013, 15: 70000 + number, 20: scale.gear,
            21: scale.pmax, 22: scale.vmax, 23: scale.tmax,
        }
        self.saved = dict(self.registers)
        self.status = Status.OFF
        self.command = Command()
        self.position = self.velocity = self.torque = 0.0
        self.mos = self.rotor = 30.0
        self.plugged = True       # its cable is in
        self.sticky = False       # an error that clearing does not end
        self.turns = 0.0          # [rad] that it counts from its zero otherwise than its shaft: whole turns
        self.jump = 0.0           # [rad] by which its reading changes when it is switched on
        self.enabled_times = 0
        self._heard = now()

    # --- on command of a test -----------------------------------------------------------------------------------------
    def fail(self, status: Status, sticky: bool = False) -> None:
        """An error of its own: it lets go."""
        self.status, self.sticky = status, sticky

    def power_cycle(self) -> None:
        """Off and on again: what was not saved is gone, and it counts from within half a turn of its zero."""
        self.status, self.command, self.registers = Status.OFF, Command(), dict(self.saved)
        self.turns = -math.tau * round(self.position / math.tau)

    # --- physics ------------------------------------------------------------------------------------------------------
    def drive(self, position: float, velocity: float) -> float:
        """The torque at its shaft now [N m]; called by the plant, often."""
        self.position, self.velocity = position, velocity
        self._protect()
        if self.status != Status.ON:
            self.torque = 0.0
        else:
            c, most = self.command, KINDS[self.kind].tmax
            wanted = c.kp * (c.pos - position - self.turns) + c.kd * (c.vel - velocity) + c.torque
            self.torque = max(-most, min(most, wanted))
        return self.torque

    def _protect(self) -> None:
        if self.status != Status.ON:
            return
        timeout = self.registers[9] * TIMEOUT_TICK
        if timeout and self._now() - self._heard > timeout:
            self.status = Status.COMM_LOSS
        elif self.mos >= HOT_MOS:
            self.status = Status.MOS_HOT
        elif self.rotor >= HOT_ROTOR:
            self.status = Status.ROTOR_HOT

    # --- the wire -----------------------------------------------------------------------------------------------------
    def hear(self, number: int, data: bytes) -> tuple[int, bytes] | None:
        """A frame on the bus; the answer, id and data, or None."""
        if not self.plugged or len(data) != 8:
            return None
        if number == 0x7FF:
            return self._register(data) if data[0] | data[1] << 8 == self.registers[8] else None
        if number != self.registers[8]:
            return None
        self._protect()
        self._heard = self._now()
        if data[:7] == b"\xff" * 7 and data[7] in (0xFB, 0xFC, 0xFD, 0xFE):
            self._special(data[7])
        elif self.registers[10] == 1:
            self.command = self.meant(data)
        else:
            return None    # another mode answers no MIT frame
        return self._feedback()

    def _special(self, what: int) -> None:
        if what == 0xFC and self.status in (Status.OFF, Status.ON):
            if self.status == Status.OFF:
                self.command = Command()    # no torque until it is told one
                self.enabled_times += 1
            self.status = Status.ON
            return
        in_error = self.status not in (Status.OFF, Status.ON)
        if (what == 0xFD and self.status == Status.ON) or (what == 0xFB and in_error and not self.sticky):
            self.status = Status.OFF

    def _register(self, data: bytes) -> tuple[int, bytes] | None:
        what, number = data[2], data[3]
        answer = int(self.registers[7])
        if what == 0xCC:
            return self._feedback()
        if what == 0xAA:
            self.saved = dict(self.registers)
            return answer, bytes([data[0], data[1], 0xAA, 1])
        form = "<I" if number in INTEGERS else "<f"
        if what == 0x55 and number not in READ_ONLY:
            self.registers[number] = struct.unpack(form, data[4:])[0]
        elif what != 0x33:
            return None
        value = self.registers.get(number, 0)
        return answer, data[:4] + struct.pack(form, int(value) if form == "<I" else value)

    def meant(self, data: bytes) -> Command:
        """What a MIT frame says."""
        word = int.from_bytes(data, "big")
        p, v, kp, kd, t = word >> 48, word >> 36 & 0xFFF, word >> 24 & 0xFFF, word >> 12 & 0xFFF, word & 0xFFF
        pmax, vmax, tmax = self.registers[21], self.registers[22], self.registers[23]
        return Command(
            p / 65535 * 2 * pmax - pmax, v / 4095 * 2 * vmax - vmax, kp / 4095 * KP_MAX, kd / 4095 * KD_MAX,
            t / 4095 * 2 * tmax - tmax,
        )

    def _feedback(self) -> tuple[int, bytes]:
        pmax, vmax, tmax = self.registers[21], self.registers[22], self.registers[23]
        shown = self.position + self.turns + (self.jump if self.status == Status.ON else 0.0)
        p, v, t = _scaled(shown, pmax, 16), _scaled(self.velocity, vmax, 12), _scaled(self.torque, tmax, 12)
        word = p << 24 | v << 12 | t
        head = bytes([self.status << 4 | int(self.registers[8]) & 0xF])
        return int(self.registers[7]), head + word.to_bytes(5, "big") + bytes([int(self.mos), int(self.rotor)])


def _scaled(value: float, most: float, bits: int) -> int:
    return round((max(-most, min(most, value)) + most) / (2 * most) * ((1 << bits) - 1))
