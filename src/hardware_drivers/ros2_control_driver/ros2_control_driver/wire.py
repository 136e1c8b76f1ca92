# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the driver and its bridge say to each other: whole packets over a socket pair that neither waits on. No ROS."""

from __future__ import annotations

import pickle
import socket
from dataclasses import dataclass
from typing import Any

PACKET = 1 << 16    # [bytes]
TOPIC, ACTION, AUTO = "topic", "action", "auto"


@dataclass(frozen=True)
class Plan:
    """What the bridge is made of. joints: the other system's names, in the arm's order; states: their topic; groups:
    name of each controller, and the places of its joints in that order; via: TOPIC, ACTION, or AUTO for the topic where
    all controllers listen on it, else the action; lead, action_lead: how far ahead of its stamp a goal lies, by either
    way [s]; patience: how long to wait for the other system, settled: how long all must be well at the start [s]."""

    joints: tuple[str, ...]
    states: str
    groups: tuple[tuple[str, tuple[int, ...]], ...]
    via: str
    lead: float
    action_lead: float
    patience: float
    settled: float


@dataclass(frozen=True)
class Ready:
    """The other system is there and well."""


@dataclass(frozen=True)
class Trouble:
    """Why the bridge cannot go on."""

    text: str


@dataclass(frozen=True)
class Goal:
    """Positions in the other system's units (J,), and when they were commanded, ROS time [ns]; 0: as soon
    as they arrive."""

    positions: tuple[float, ...]
    stamp_ns: int


@dataclass(frozen=True)
class Measured:
    """Positions in the other system's units (J,), and the stamp of the oldest of them, ROS time [ns]."""

    positions: tuple[float, ...]
    stamp_ns: int


def send(to: socket.socket, message: Any) -> bool:
    """Whether it went; the other side may be slow or gone."""
    try:
        to.send(pickle.dumps(message, pickle.HIGHEST_PROTOCOL), socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True


def receive(source: socket.socket) -> Any:
    """The next message that is there, or None. Errors: EOFError where the other side has closed."""
    try:
        packet = source.recv(PACKET, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        packet = b""
    if not packet:
        raise EOFError
    return pickle.loads(packet)
