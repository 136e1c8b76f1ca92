# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of the Feetech bus (protocol 0): instructions out, status packets in. No port here.

A frame is FF FF, id, length (of what follows), instruction or error byte, parameters, and a checksum: the complement of
the sum of all after the two FF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
BROADCAST = 0xFE
MOST_ID = 0xFC
HEADER = b"\xff\xff"
SHORTEST = 6    # bytes of a status packet without data


@dataclass(frozen=True)
class Status:
    """A servo's answer. error: its error byte (registers.ERRORS); data: the registers that were read."""

    id: int
    error: int
    data: bytes


@dataclass
class Received:
    """What a stretch of bytes held: status packets in order, bytes that belong to none, and an unfinished rest."""

    packets: list[Status] = field(default_factory=list)
    junk: int = 0
    rest: bytes = b""


def checksum(body: bytes) -> int:
    """Of all between the header and the checksum."""
    return ~sum(body) & 0xFF


def instruction(servo: int, code: int, parameters: bytes = b"") -> bytes:
    body = bytes([servo, len(parameters) + 2, code]) + parameters
    return HEADER + body + bytes([checksum(body)])


def status(servo: int, error: int, data: bytes = b"") -> bytes:
    """A status packet, as servos send it; instructions have the same form."""
    return instruction(servo, error, data)


def read(servo: int, address: int, size: int) -> bytes:
    return instruction(servo, READ, bytes([address, size]))


def write(servo: int, address: int, data: bytes) -> bytes:
    return instruction(servo, WRITE, bytes([address]) + data)


def sync_read(servos: Sequence[int], address: int, size: int) -> bytes:
    return instruction(BROADCAST, SYNC_READ, bytes([address, size, *servos]))


def sync_write(address: int, values: Mapping[int, bytes]) -> bytes:
    """values: by servo, all of one size. No servo answers."""
    size = len(next(iter(values.values())))
    entries = b"".join(bytes([servo]) + data for servo, data in values.items())
    return instruction(BROADCAST, SYNC_WRITE, bytes([address, size]) + entries)


def parse(received: bytes, sizes: Sequence[int]) -> Received:
    """Takes status packets out of bytes. sizes: of the data that may come; a packet of another size is junk, so that a
    broken length byte does not swallow the packets behind it."""
    result, at = Received(), 0
    while at < len(received):
        begin = received.find(HEADER, at)
        if begin < 0:
            # A last FF may be the first half of a header.
            kept = 1 if received.endswith(b"\xff") else 0
            result.junk += len(received) - at - kept
            result.rest = received[len(received) - kept :]
            break
        result.junk += begin - at
        at = begin
        if len(received) - at < 4:
            result.rest = received[at:]
            break
        servo, length = received[at + 2], received[at + 3]
        if servo > MOST_ID or length - 2 not in sizes:
            result.junk, at = result.junk + 1, at + 1
            continue
        end = at + 4 + length
        if end > len(received):
            result.rest = received[at:]
            break
        body = received[at + 2 : end - 1]
        if checksum(body) != received[end - 1]:
            result.junk, at = result.junk + 1, at + 1
            continue
        result.packets.append(Status(servo, body[2], body[3:]))
        at = end
    return result
