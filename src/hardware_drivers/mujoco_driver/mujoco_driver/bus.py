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
=========  ==  ===========================================  ==========================================================

A frame that does not fit ends the connection; the servos keep their goals.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

MAGIC = b"MSB1"
HEADER = struct.Struct("<4sBH")
IDENTIFY, READ, WRITE = 1, 2, 3
DONE, REFUSED = 0, 1
RANGE, GOAL, STAMP = struct.Struct("<ddB"), struct.Struct("<Bd"), struct.Struct("<q")


class BusError(RuntimeError):
    """The bus refused a request, or did not answer as its protocol says."""


@dataclass(frozen=True)
class Servo:
    """One servo: its name and range [rad]."""

    name: str
    lower: float
    upper: float


class Plant(Protocol):
    """What the bus moves."""

    @property
    def servos(self) -> Sequence[Servo]: ...

    def read(self) -> tuple[int, np.ndarray]:
        """Capture time [ns, ROS time] and positions [rad], one per servo."""

    def set_goal(self, index: int, goal: float) -> None: ...


def default_address(name: str = "world") -> str:
    """Path of the socket where none is given: in the user's runtime folder, else in a private temporary folder."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else Path(tempfile.gettempdir()) / f"molmoact2-{os.getuid()}"
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    return str(folder / f"molmoact2-{name}-{domain}.sock")


class BusServer:
    """Serves a plant on a socket until closed. Errors: BusError where another process serves there already."""

    def __init__(self, plant: Plant, address: str, log: Callable[[str], None]):
        self._plant, self.address, self._log = plant, address, log
        self._owners: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._socket = self._listen(address)
        threading.Thread(target=self._accept, name="bus-accept", daemon=True).start()

    @staticmethod
    def _listen(address: str) -> socket.socket:
        path = Path(address)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BusError(f"{path.parent} cannot be made ({error}); name another with `address`") from error
        if path.parent.stat().st_uid not in (os.getuid(), 0) or not os.access(path.parent, os.W_OK):
            raise BusError(f"{path.parent} belongs to another user; name another socket with the parameter `address`")
        if path.exists():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(address) == 0:
                    raise BusError(f"another world serves {address}; end it, or name another socket")
            path.unlink()
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            server.bind(address)
        finally:
            os.umask(mask)
        server.listen()
        return server

    def close(self) -> None:
        """Ends every connection and removes the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        Path(self.address).unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="bus-connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while True:
                header = _receive(connection, HEADER.size)
                if header is None:
                    return
                magic, operation, length = HEADER.unpack(header)
                if magic != MAGIC:
                    self._log(f"bus: a connection sent {magic!r} where {MAGIC!r} begins a frame; closed it")
                    return
                payload = _receive(connection, length)
                if payload is None:
                    return
                try:
                    status, reply = DONE, self._answer(connection, operation, payload)
                except BusError as error:
                    status, reply = REFUSED, str(error).encode()
                connection.sendall(HEADER.pack(MAGIC, status, len(reply)) + reply)
        except OSError:
            return
        finally:
            with self._lock:
                self._connections.discard(connection)
                self._owners = {i: c for i, c in self._owners.items() if c is not connection}
            connection.close()

    def _answer(self, connection: socket.socket, operation: int, payload: bytes) -> bytes:
        if operation == IDENTIFY:
            return b"".join(
                RANGE.pack(s.lower, s.upper, len(s.name.encode())) + s.name.encode() for s in self._plant.servos
            )
        if operation == READ:
            stamp, positions = self._plant.read()
            return STAMP.pack(stamp) + positions.astype("<f8").tobytes()
        if operation == WRITE:
            goals = self._entries(GOAL, payload)
            for index, goal in goals:
                servo = self._plant.servos[index]
                if not math.isfinite(goal) or not servo.lower - 1e-6 <= goal <= servo.upper + 1e-6:
                    raise BusError(f"goal {goal} of servo {servo.name} is outside [{servo.lower:g}, {servo.upper:g}]")
            self._claim(connection, [index for index, _ in goals])
            for index, goal in goals:
                self._plant.set_goal(index, goal)
            return b""
        raise BusError(f"operation {operation} is unknown")

    def _entries(self, layout: struct.Struct, payload: bytes) -> list[tuple]:
        if not payload or len(payload) % layout.size:
            raise BusError(f"a payload of {len(payload)} bytes is no whole number of entries of {layout.size}")
        entries = list(layout.iter_unpack(payload))
        for index, _ in entries:
            if index >= len(self._plant.servos):
                raise BusError(f"servo {index} is not there; there are {len(self._plant.servos)}")
        return entries

    def _claim(self, connection: socket.socket, indices: Sequence[int]) -> None:
        with self._lock:
            for index in indices:
                if self._owners.get(index, connection) is not connection:
                    name = self._plant.servos[index].name
                    raise BusError(f"servo {name} takes its goals from another connection; end that controller first")
            self._owners.update(dict.fromkeys(indices, connection))


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

    def _ask(self, operation: int, payload: bytes = b"") -> bytes:
        try:
            self._socket.sendall(HEADER.pack(MAGIC, operation, len(payload)) + payload)
            header = _receive(self._socket, HEADER.size)
            if header is None:
                self.close()
                raise BusError(f"the simulated world at {self.address} closed the connection; is it still running?")
            magic, status, length = HEADER.unpack(header)
            reply = _receive(self._socket, length)
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


def _receive(connection: socket.socket, size: int) -> bytes | None:
    """Exactly `size` bytes; None where the other side closed before them."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)
