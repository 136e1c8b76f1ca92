# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The world's side of the servo bus: a socket, a thread per connection, and who owns which servo. No ROS here."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from .bus import (
    DONE,
    GOAL,
    GUIDE,
    HEADER,
    HISTORY,
    IDENTIFY,
    MAGIC,
    RANGE,
    READ,
    REFUSED,
    SCENE,
    SERVO,
    STAMP,
    STATE,
    WRITE,
    WRITTEN,
    BusError,
    Plant,
    receive,
)
from .bus_faults import ReadingFaults

KEPT, AT_ONCE = 2000, 500    # writes


class BusServer:
    """Serves a plant on a socket until closed. Errors: BusError where another process serves there already.

    fault: what readings of servos suffer, one of bus_faults.FAULTS; it may be set at any time.
    """

    def __init__(self, plant: Plant, address: str, log: Callable[[str], None], fault: str = "ok"):
        self._plant, self.address, self._log = plant, address, log
        self._faults = ReadingFaults(fault)
        self._owners: dict[int, socket.socket] = {}
        self._written: deque[tuple[int, list[tuple]]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._socket = self._listen(address)
        threading.Thread(target=self._accept, name="bus-accept", daemon=True).start()

    def set_fault(self, fault: str) -> None:
        """Errors: ValueError for an unknown one."""
        self._faults.set(fault)

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

    @property
    def quiet(self) -> float:
        """For how long nothing has been written [s]; without end where nothing was."""
        return (time.monotonic_ns() - self._written[-1][0]) / 1e9 if self._written else math.inf

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
                header = receive(connection, HEADER.size)
                if header is None:
                    return
                magic, operation, length = HEADER.unpack(header)
                if magic != MAGIC:
                    self._log(f"bus: a connection sent {magic!r} where {MAGIC!r} begins a frame; closed it")
                    return
                payload = receive(connection, length)
                if payload is None:
                    return
                try:
                    status, reply = DONE, self._answer(connection, operation, payload)
                except BusError as error:
                    status, reply = REFUSED, str(error).encode()
                if reply is None:
                    continue
                connection.sendall(HEADER.pack(MAGIC, status, len(reply)) + reply)
        except OSError:
            return
        finally:
            with self._lock:
                self._connections.discard(connection)
                self._owners = {i: c for i, c in self._owners.items() if c is not connection}
            connection.close()

    def _answer(self, connection: socket.socket, operation: int, payload: bytes) -> bytes | None:
        """The reply; None where there is to be none. Errors: BusError for a request that is refused."""
        if operation == IDENTIFY:
            return b"".join(
                RANGE.pack(s.lower, s.upper, len(s.name.encode())) + s.name.encode() for s in self._plant.servos
            )
        if operation == READ:
            return self._read()
        if operation == STATE:
            state = self._plant.state()
            name = state.scene.encode()
            return SCENE.pack(state.stamp_ns, state.seed, len(name)) + name + state.qpos.astype("<f8").tobytes()
        if operation == WRITE:
            self._write(connection, self._entries(GOAL, payload))
            return b""
        if operation == GUIDE:
            self._guide(connection, [index for index, in self._entries(SERVO, payload)])
            return b""
        if operation == HISTORY:
            return self._history(payload)
        raise BusError(f"operation {operation} is unknown")

    def _read(self) -> bytes | None:
        reading = self._faults.spoil(*self._plant.read())
        return None if reading is None else STAMP.pack(reading[0]) + reading[1].astype("<f8").tobytes()

    def _write(self, connection: socket.socket, goals: list[tuple]) -> None:
        for index, goal in goals:
            servo = self._plant.servos[index]
            if not math.isfinite(goal) or not servo.lower - 1e-6 <= goal <= servo.upper + 1e-6:
                raise BusError(f"goal {goal} of servo {servo.name} is outside [{servo.lower:g}, {servo.upper:g}]")
        self._claim(connection, [index for index, _ in goals])
        for index, goal in goals:
            self._plant.set_goal(index, goal)
        self._written.append((time.monotonic_ns(), goals))

    def _history(self, payload: bytes) -> bytes:
        if len(payload) != STAMP.size:
            raise BusError(f"a payload of {len(payload)} bytes is no time")
        since = STAMP.unpack(payload)[0]
        later = [(at, goals) for at, goals in list(self._written) if at > since][:AT_ONCE]
        return b"".join(
            WRITTEN.pack(at, len(goals)) + b"".join(GOAL.pack(*goal) for goal in goals) for at, goals in later
        )

    def _guide(self, connection: socket.socket, indices: list[int]) -> None:
        self._claim(connection, indices)
        for index in indices:
            self._plant.guide(index)

    def _entries(self, layout: struct.Struct, payload: bytes) -> list[tuple]:
        if not payload or len(payload) % layout.size:
            raise BusError(f"a payload of {len(payload)} bytes is no whole number of entries of {layout.size}")
        entries = list(layout.iter_unpack(payload))
        for index, *_ in entries:
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
