# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated servo bus: how a controller process reaches the simulated world, over a unix stream socket.

It behaves like a bus of servos: positions are read for all servos at once, goals are written to named servos, and a
servo keeps its last goal when the writer goes away. A servo takes goals from one connection only, the first that wrote
to it, until that connection closes.

Frames, little-endian. Request: magic "MSB1", u8 operation, u16 length of payload, payload. Reply: magic "MSB1", u8
status (0 done, 1 refused), u16 length, payload; a refused request's payload is the reason in UTF-8.

=========  ==  ===========================================  ==========================================================
operation  id  request payload                              reply payload
=========  ==  ===========================================  ==========================================================
IDENTIFY   1   --                                           per servo: f64 lower, f64 upper [rad], u8 length, name
READ       2   --                                           i64 capture time [ns, ROS time], f64 position [rad] each
WRITE      3   per goal: u8 servo index, f64 goal [rad]     --
STATE      4   --                                           i64 capture time [ns, ROS time], i64 seed, u8 length, name
                                                            of the scene, f64 generalised position each
GUIDE      5   u8 servo index each                          --
HISTORY    6   i64 steady time [ns]                         per write since then, at most 500: i64 steady time [ns],
                                                            u8 goals, then per goal: u8 servo index, f64 goal [rad]
=========  ==  ===========================================  ==========================================================

HISTORY is for witnesses: the last 2000 writes that were taken.

STATE is for viewers: who builds the scene of that name and sets its generalised positions (MuJoCo's qpos of the whole
model: m and a quaternion for what moves freely, rad for joints) sees the world as it is. Servos named by GUIDE yield
and carry the weight of their links until their next goal, also when the connection closes.

A frame that does not fit ends the connection; the servos keep their goals.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

MAGIC = b"MSB1"
HEADER = struct.Struct("<4sBH")
IDENTIFY, READ, WRITE, STATE, GUIDE, HISTORY = 1, 2, 3, 4, 5, 6
DONE, REFUSED = 0, 1
RANGE, GOAL, STAMP = struct.Struct("<ddB"), struct.Struct("<Bd"), struct.Struct("<q")
SCENE, SERVO = struct.Struct("<qqB"), struct.Struct("<B")
WRITTEN = struct.Struct("<qB")


class BusError(RuntimeError):
    """The bus refused a request, or did not answer as its protocol says."""


@dataclass(frozen=True)
class Servo:
    """One servo: its name and range [rad]."""

    name: str
    lower: float
    upper: float


@dataclass(frozen=True)
class WorldState:
    """The whole world at one time. stamp_ns: capture, ROS time; qpos: float64, generalised positions of the model that
    the scene of that name builds; seed: of the places of what lies in it."""

    stamp_ns: int
    scene: str
    seed: int
    qpos: np.ndarray


@dataclass(frozen=True)
class Written:
    """One write that was taken. steady_ns: steady-clock time [ns]; goals [rad] by servo index."""

    steady_ns: int
    goals: dict[int, float]


class Plant(Protocol):
    """What the bus moves and shows."""

    @property
    def servos(self) -> Sequence[Servo]: ...

    def read(self) -> tuple[int, np.ndarray]:
        """Capture time [ns, ROS time] and positions [rad], one per servo."""

    def set_goal(self, index: int, goal: float) -> None: ...

    def guide(self, index: int) -> None:
        """The servo yields until its next goal."""

    def state(self) -> WorldState: ...


def default_address(name: str = "world") -> str:
    """Path of the socket where none is given: in the user's runtime folder, else in a private temporary folder."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else Path(tempfile.gettempdir()) / f"molmoact2-{os.getuid()}"
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    return str(folder / f"molmoact2-{name}-{domain}.sock")


class BusClient:
    """One connection to a bus. Every call ends within `timeout` seconds. Errors: BusError."""

    def __init__(self, address: str, timeout: float):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise BusError(f"no simulated world at {address} ({error.strerror or error}); start it first") from error

    def close(self) -> None:
        self._socket.close()

    @property
    def closed(self) -> bool:
        """Whether the connection is of no more use."""
        return self._socket.fileno() < 0

    def identify(self) -> list[Servo]:
        reply, servos = self._ask(IDENTIFY), []
        while reply:
            lower, upper, length = RANGE.unpack_from(reply)
            end = RANGE.size + length
            servos.append(Servo(reply[RANGE.size : end].decode(), lower, upper))
            reply = reply[end:]
        return servos

    def read(self) -> tuple[int, np.ndarray]:
        """Capture time [ns, ROS time] and positions [rad], float64, one per servo."""
        reply = self._ask(READ)
        return STAMP.unpack_from(reply)[0], np.frombuffer(reply, dtype="<f8", offset=STAMP.size)

    def write(self, goals: Sequence[tuple[int, float]]) -> None:
        """Goals [rad] by servo index."""
        self._ask(WRITE, b"".join(GOAL.pack(index, goal) for index, goal in goals))

    def guide(self, indices: Sequence[int]) -> None:
        """Lets servos yield until their next goal."""
        self._ask(GUIDE, bytes(indices))

    def state(self) -> WorldState:
        """The whole world."""
        reply = self._ask(STATE)
        stamp, seed, length = SCENE.unpack_from(reply)
        end = SCENE.size + length
        return WorldState(stamp, reply[SCENE.size : end].decode(), seed, np.frombuffer(reply, dtype="<f8", offset=end))

    def history(self, since_ns: int) -> list[Written]:
        """What was written after a steady-clock time [ns], the oldest first; ask again from the last one on."""
        reply, writes = self._ask(HISTORY, STAMP.pack(since_ns)), []
        while reply:
            steady_ns, count = WRITTEN.unpack_from(reply)
            end = WRITTEN.size + count * GOAL.size
            writes.append(Written(steady_ns, dict(GOAL.iter_unpack(reply[WRITTEN.size : end]))))
            reply = reply[end:]
        return writes

    def _ask(self, operation: int, payload: bytes = b"") -> bytes:
        try:
            self._socket.sendall(HEADER.pack(MAGIC, operation, len(payload)) + payload)
            header = receive(self._socket, HEADER.size)
            if header is None:
                self.close()
                raise BusError(f"the simulated world at {self.address} closed the connection; is it still running?")
            magic, status, length = HEADER.unpack(header)
            reply = receive(self._socket, length)
        except OSError as error:
            # A late reply would answer the next request: the connection is of no more use.
            self.close()
            raise BusError(f"the simulated world at {self.address} does not answer ({error})") from error
        if magic != MAGIC or reply is None:
            self.close()
            raise BusError(f"the simulated world at {self.address} answered out of protocol; the connection is closed")
        if status != DONE:
            raise BusError(f"the simulated world at {self.address} refused: {reply.decode(errors='replace')}")
        return reply


def receive(connection: socket.socket, size: int) -> bytes | None:
    """Exactly `size` bytes; None where the other side closed before them."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)
