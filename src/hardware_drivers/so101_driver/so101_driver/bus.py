# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The servo bus: one question at a time, asked again where an answer is missing or broken. No motion logic here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from . import protocol
from .port import Port
from .protocol import Status
from .registers import Register

TIMEOUT = 0.03     # [s] for an answer to begin and end, beside the time of its bytes; USB adapters take up to 16 ms
ATTEMPTS = 3
LISTEN = 0.05       # [s]; servos answer to a call to all one after the other, by their ids


class NoAnswer(RuntimeError):
    """Servos did not answer, or not in sound frames. silent, garbled: their ids."""

    def __init__(self, silent: Sequence[int], garbled: Sequence[int]):
        self.silent, self.garbled = tuple(silent), tuple(garbled)
        parts = [f"servo {_ids(silent)} does not answer"] if silent else []
        parts += [f"servo {_ids(garbled)} answers in broken frames"] if garbled else []
        super().__init__("; ".join(parts))


def _ids(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))


class ServoBus:
    """The master of a bus. Errors of each call: NoAnswer after every attempt, PortError where the port has gone.

    retries: how many attempts had to be made again since the start; broken: bytes that were in no sound frame.
    """

    def __init__(self, port: Port, baud: int, timeout: float = TIMEOUT):
        self.port, self._baud, self._timeout = port, baud, timeout
        self.retries = self.broken = 0

    def set_baud(self, baud: int) -> None:
        self.port.set_baud(baud)
        self._baud = baud

    # --- reading ------------------------------------------------------------------------------------------------------
    def ping(self, servo: int) -> Status:
        return self._ask(protocol.instruction(servo, protocol.PING), [servo], 0)[servo]

    def read(self, servo: int, block: tuple[int, int]) -> Status:
        """A block of registers (address, size) of one servo."""
        return self._ask(protocol.read(servo, *block), [servo], block[1])[servo]

    def sync_read(self, servos: Sequence[int], block: tuple[int, int]) -> dict[int, Status]:
        """The same block (address, size) of several servos, in one question."""
        return self._ask_all(lambda missing: protocol.sync_read(missing, *block), servos, block[1])

    def find(self) -> tuple[set[int], int]:
        """Asks everybody to answer, once, and listens; returns the ids of those who did, and broken bytes.

        Servos that have one id answer at the same time, so their frame may be broken or look sound.
        """
        self.port.drain()
        self.port.send(protocol.instruction(protocol.BROADCAST, protocol.PING))
        received, until = b"", time.monotonic() + max(LISTEN, self._timeout)
        while True:
            data = self.port.receive(until)
            if not data:
                break
            received += data
        found = protocol.parse(received, [0])
        return {packet.id for packet in found.packets}, found.junk + len(found.rest)

    def echoes(self, servo: int, block: tuple[int, int]) -> list[Status | None]:
        """Asks one servo for a block once, and listens on after its answer: one entry for each answer, None for bytes
        that are no sound frame. More than one entry means that more than one servo answered."""
        self.port.drain()
        self.port.send(protocol.read(servo, *block))
        received, until = b"", time.monotonic() + self._timeout
        while True:
            data = self.port.receive(until)
            if not data:
                break
            received += data
            until = min(until, time.monotonic() + 0.005)
        found = protocol.parse(received, [block[1]])
        return [*found.packets, *([None] if found.junk or found.rest else [])]

    # --- writing ------------------------------------------------------------------------------------------------------
    def write(self, servo: int, register: Register, value: int) -> None:
        """One register of one servo; the servo says that it got it."""
        frame = protocol.write(servo, register.address, register.encode(value))
        self._ask(frame, [servo], 0)

    def sync_write(self, register: Register, values: Mapping[int, int]) -> None:
        """One register of several servos at once. Nobody answers."""
        self.port.send(protocol.sync_write(register.address, {s: register.encode(v) for s, v in values.items()}))

    # --- the questions ------------------------------------------------------------------------------------------------
    def _ask(self, frame: bytes, servos: Sequence[int], size: int) -> dict[int, Status]:
        return self._ask_all(lambda _: frame, servos, size)

    def _ask_all(self, question, servos: Sequence[int], size: int) -> dict[int, Status]:
        """Asks, and asks again those whose answer is missing. question: makes the frame for the servos it is given."""
        answers: dict[int, Status] = {}
        garbled = False
        for attempt in range(ATTEMPTS):
            missing = [servo for servo in servos if servo not in answers]
            if attempt:
                self.retries += 1
                self.port.drain()
            self.port.forget_input()
            self.port.send(question(missing))
            garbled = self._collect(answers, missing, size)
            if len(answers) == len(servos):
                return answers
        missing = [servo for servo in servos if servo not in answers]
        raise NoAnswer([] if garbled else missing, missing if garbled else [])

    def _collect(self, answers: dict[int, Status], servos: Sequence[int], size: int) -> bool:
        """Takes answers until all have come or time is over; returns whether there were broken bytes."""
        wire = len(servos) * (protocol.SHORTEST + size) * 10 / self._baud
        received, until, junk = b"", time.monotonic() + self._timeout + wire, 0
        while True:
            data = self.port.receive(until)
            found = protocol.parse(received + data, [size])
            received, junk = found.rest, junk + found.junk
            for packet in found.packets:
                if packet.id in servos and packet.id not in answers:
                    answers[packet.id] = packet
            if not data or all(servo in answers for servo in servos):
                junk += len(received)
                self.broken += junk
                return junk > 0
