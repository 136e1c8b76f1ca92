# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The bus of the double: instructions in, status packets out, spoilt as asked. No port and no threads here."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import protocol
from ..registers import BAUD_RATES, EEPROM_SIZE, MODEL_NUMBER, OVERLOAD, RESPONSE_LEVEL
from .servo import ServoDouble

USAGE = {
    "ok": "nothing is spoilt from now on; broken servos stay so",
    "drop SHARE": "answers that never come, 0 .. 1",
    "corrupt SHARE": "answers with a flipped byte, 0 .. 1",
    "delay SECONDS": "before each answer",
    "silent ID": "the servo does not answer any more; 0: all do again",
    "duplicate ID": "a second servo has that id, and answers at the same time",
    "model ID NUMBER": "the servo says that it is of this model",
    "heat ID DEGREES": "its temperature [deg C]",
    "volts ID VOLTS": "its voltage [V]",
    "overload ID": "its protection takes its torque away",
    "limp ID": "its torque goes off by itself, as after a dip of the power",
    "power_off": "the arm's supply: servos are silent and limp",
    "power_on": "the supply again: they start anew",
}
_RANDOM_SEED = 1


class FaultError(ValueError):
    """No such fault, or not these numbers; the text lists what there is."""


@dataclass
class Spoiling:
    """What happens to answers. Shares 0 .. 1; delay [s]."""

    drop: float = 0.0
    corrupt: float = 0.0
    delay: float = 0.0
    silent: set[int] = field(default_factory=set)


class BusDouble:
    """Servos on one wire."""

    def __init__(self, servos: Sequence[ServoDouble]):
        self.servos = list(servos)
        self.spoiling = Spoiling()
        self._random = random.Random(_RANDOM_SEED)
        self._rest = b""
        self.instructions: list[tuple[int, int, bytes]] = []    # id, code, parameters, of all that were heard

    def servo(self, number: int) -> ServoDouble:
        """Errors: FaultError."""
        found = next((servo for servo in self.servos if servo.id == number), None)
        if found is None:
            raise FaultError(f"there is no servo {number}; there are {', '.join(str(s.id) for s in self.servos)}")
        return found

    # --- the wire -----------------------------------------------------------------------------------------------------
    def hear(self, data: bytes, speed: int | None = None) -> bytes:
        """Bytes of the master; returns what the servos answer. speed: of the line [baud]; None: the servos' own.
        Bytes at another speed are noise to them."""
        if speed is not None:
            data = data if any(BAUD_RATES[servo.baud] == speed for servo in self.servos) else b""
        self._rest += data
        answer = b""
        while True:
            begin = self._rest.find(protocol.HEADER)
            if begin < 0:
                self._rest = self._rest[-1:] if self._rest.endswith(b"\xff") else b""
                return answer
            self._rest = self._rest[begin:]
            if len(self._rest) < 4 or len(self._rest) < 4 + self._rest[3]:
                if len(self._rest) >= 3 and self._rest[2] == 0xFF:
                    self._rest = self._rest[1:]
                    continue
                return answer
            end = 4 + self._rest[3]
            body, check = self._rest[2 : end - 1], self._rest[end - 1]
            if len(body) < 3 or protocol.checksum(body) != check:
                self._rest = self._rest[1:]
                continue
            self._rest = self._rest[end:]
            answer += self._obey(body[0], body[2], body[3:])

    def _obey(self, servo: int, code: int, parameters: bytes) -> bytes:
        self.instructions.append((servo, code, parameters))
        if code == protocol.PING:
            return self._answers(None if servo == protocol.BROADCAST else servo, lambda s: b"")
        if code == protocol.READ and len(parameters) == 2:
            return self._answers(servo, lambda s: s.read(*parameters))
        if code == protocol.WRITE and len(parameters) >= 2:
            return self._write(servo, parameters[0], parameters[1:])
        if code == protocol.SYNC_READ and len(parameters) >= 2:
            return b"".join(self._answers(s, lambda s: s.read(*parameters[:2])) for s in parameters[2:])
        if code == protocol.SYNC_WRITE and len(parameters) >= 2:
            entry = parameters[1] + 1
            for at in range(2, len(parameters), entry):
                for servo_double in self._listeners(parameters[at]):
                    servo_double.write(parameters[0], parameters[at + 1 : at + entry])
        return b""

    def _write(self, servo: int, address: int, data: bytes) -> bytes:
        listeners = self._listeners(None if servo == protocol.BROADCAST else servo)
        ids = [s.id for s in listeners]    # a write may change them; the answer comes from the old one
        for listener in listeners:
            listener.write(address, data)
        if servo == protocol.BROADCAST:
            return b""
        frames = [
            protocol.status(number, listener.error)
            for number, listener in zip(ids, listeners, strict=True) if listener.value(RESPONSE_LEVEL)
        ]
        return self._on_the_wire(frames)

    def _listeners(self, servo: int | None) -> list[ServoDouble]:
        return [
            s for s in self.servos
            if s.powered and s.id not in self.spoiling.silent and (servo is None or s.id == servo)
        ]

    def _answers(self, servo: int | None, data: Callable[[ServoDouble], bytes]) -> bytes:
        """The answers of all who are asked; those of one id at the same time, of several one after the other."""
        listeners = self._listeners(servo)
        answer = b""
        for number in dict.fromkeys(s.id for s in listeners):
            contents = [(s, data(s)) for s in listeners if s.id == number]
            answer += self._on_the_wire([protocol.status(number, s.error, content) for s, content in contents])
        return answer

    def _on_the_wire(self, frames: Sequence[bytes]) -> bytes:
        """What one id's answers are when they arrive. Two at the same time: a line that either pulls low is low."""
        if not frames or self._random.random() < self.spoiling.drop:
            return b""
        frame = bytearray(frames[0])
        for other in frames[1:]:
            frame = bytearray(a & b for a, b in zip(frame, other, strict=True))
        if self._random.random() < self.spoiling.corrupt:
            frame[self._random.randrange(2, len(frame))] ^= 0x55
        return bytes(frame)

    # --- faults -------------------------------------------------------------------------------------------------------
    def spoil(self, command: str) -> None:
        """Does one of USAGE. Errors: FaultError."""
        words = command.split()
        try:
            self._spoil(words[0] if words else "", [float(word) for word in words[1:]])
        except (ValueError, IndexError) as error:
            if isinstance(error, FaultError):
                raise
            forms = "; ".join(f"{form}: {what}" for form, what in USAGE.items())
            raise FaultError(f"{command!r} is no fault of the servo bus; there are: {forms}") from None

    def _spoil(self, name: str, numbers: list[float]) -> None:
        if name == "ok" and not numbers:
            self.spoiling = Spoiling()
        elif name in ("drop", "corrupt", "delay") and 0 <= numbers[0] <= 1 and len(numbers) == 1:
            setattr(self.spoiling, name, numbers[0])
        elif name == "silent":
            self.spoiling.silent = {self.servo(int(numbers[0])).id} if numbers[0] else set()
        elif name == "duplicate":
            self.servos.append(self.servo(int(numbers[0])).twin())
        elif name == "model":
            self.servo(int(numbers[0])).burn(MODEL_NUMBER, int(numbers[1]))
        elif name == "heat":
            self.servo(int(numbers[0])).temperature = int(numbers[1])
        elif name == "volts":
            self.servo(int(numbers[0])).voltage = numbers[1]
        elif name == "overload":
            self.servo(int(numbers[0])).protect(OVERLOAD)
        elif name == "limp":
            self.servo(int(numbers[0])).restart()
        elif name in ("power_off", "power_on") and not numbers:
            for servo in self.servos:
                servo.power(name == "power_on")
        else:
            raise ValueError

    @property
    def eeprom_writes(self) -> int:
        """How many instructions have written to EEPROM registers."""
        return sum(1 for _, code, p in self.instructions if code == protocol.WRITE and p[0] < EEPROM_SIZE)
