# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The CAN bus of one arm: named, locked against a second process, opened, and looked at before anything is sent.

A channel is a network interface ("can0") or a serial adapter with the LAWICEL text protocol ("slcan:/dev/ttyACM0").
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import time
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import can
from can.exceptions import error_check
from can.interfaces.slcan import slcanBus

from arm_controller.driver import DriverError

BITRATE = 1_000_000      # of every YAM motor as delivered
SETTLE = 0.05            # [s] after a serial adapter was opened
LISTEN = 0.1             # [s] of quiet before the first frame; an arm that is driven has one every millisecond
ADAPTER = 0.2            # [s] for an adapter to answer
CAN_DEVICE = "280"       # /sys/class/net/*/type of CAN interfaces
# Of the LAWICEL status flags: what makes an adapter useless.
FLAGS = {0x20: "error passive", 0x80: "bus off"}


@dataclass(frozen=True)
class Channel:
    """text: as the option gave it. port: the serial device, or the name of the network interface."""

    text: str
    port: str
    serial: bool

    @property
    def device(self) -> str:
        """What the lock is taken on: two names of one device are one."""
        return os.path.realpath(self.port) if self.serial else self.port


def parse_channel(text: str) -> Channel:
    """Errors: DriverError."""
    kind, colon, port = text.partition(":")
    if colon and kind == "slcan" and port:
        return Channel(text, port, True)
    if colon or not text or "/" in text:
        mend = f"slcan:{text}" if text.startswith("/dev/") else "can0, or slcan:/dev/ttyACM0"
        raise DriverError(f"option channel={text!r} is no CAN channel; expected {mend}")
    return Channel(text, text, False)


class Lock:
    """One process per channel. Released when the process ends, however it ends."""

    def __init__(self, channel: Channel):
        """Errors: DriverError where another process has it."""
        self._file: int | None = None
        self._socket: socket.socket | None = None
        taken = DriverError(
            f"{channel.text} is in use by another process that drives an arm; end it, or give each arm its own channel"
        )
        if channel.serial:
            self._file = _open_port(channel)
            try:
                # The lock that pyserial's `exclusive` takes too.
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._file)
                raise taken from error
        else:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self._socket.bind(f"\0molmoact2.yam.{channel.device}")
            except OSError as error:
                self._socket.close()
                raise taken from error

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _open_port(channel: Channel) -> int:
    try:
        return os.open(channel.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        there = sorted(glob("/dev/serial/by-id/*")) or sorted(glob("/dev/ttyACM*") + glob("/dev/ttyUSB*"))
        raise DriverError(
            f"there is no CAN adapter at {channel.port}; plugged in are: {', '.join(there) or 'none'}; check its cable"
        ) from error
    except PermissionError as error:
        raise DriverError(
            f"no permission to open {channel.port}; add yourself to its group: sudo usermod -aG dialout $USER, and log "
            "in anew"
        ) from error
    except OSError as error:
        raise DriverError(
            f"{channel.port} cannot be opened: {error.strerror}; unplug the adapter and plug it in again"
        ) from error


class SlcanBus(slcanBus):
    """python-can's bus, but for two things. That one raises on a line that is no frame, and from then on at every call;
    this one drops it. That one reads byte by byte, and waits a millisecond to find that nothing has come, more than a
    turn of seven motors has; this one takes what is there at once, and at the end of its time looks once more."""

    bad_lines = 0

    def _read(self, timeout: float | None) -> str | None:
        """The next line; None where none is whole in time [s]."""
        until = None if timeout is None else time.monotonic() + timeout
        while (end := _end_of_line(self._buffer)) < 0:
            left = None if until is None else max(0.0, until - time.monotonic())
            with error_check("Could not read from serial device"):
                port = self.serialPortOrig.fileno()
                if not select.select([port], [], [], left)[0]:
                    return None
                data = os.read(port, 4096)
            if not data:
                raise can.CanOperationError("the serial device has gone")
            self._buffer += data
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line.decode()

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        try:
            return super()._recv_internal(timeout)
        except (ValueError, IndexError):    # among them UnicodeDecodeError
            self.bad_lines += 1
            return None, False


def _end_of_line(received: bytearray) -> int:
    """Where the first line ends, well or with an error; -1 where none does."""
    return min((at for at in (received.find(b"\r"), received.find(b"\a")) if at >= 0), default=-1)


def open_bus(channel: Channel) -> can.BusABC:
    """The bus, open at 1 Mbit/s. Errors: DriverError that names what is wrong with the interface."""
    try:
        if channel.serial:
            return SlcanBus(channel.port, bitrate=BITRATE, sleep_after_open=SETTLE)
        _check_interface(channel.port)
        return can.Bus(interface="socketcan", channel=channel.port)
    except (can.CanError, OSError) as error:
        raise DriverError(f"{channel.text} cannot be opened: {error}; check the adapter and its cable") from error


def _check_interface(name: str) -> None:
    if not Path("/sys/class/net", name).exists():
        types = {path.parent.name: path.read_text().strip() for path in Path("/sys/class/net").glob("*/type")}
        there = sorted(found for found, kind in types.items() if kind == CAN_DEVICE)
        raise DriverError(
            f"there is no CAN interface {name!r}; there are: {', '.join(there) or 'none'}; check the adapter's cable "
            "and the name in option channel"
        )
    try:
        said = subprocess.run(
            ["ip", "-details", "-json", "link", "show", name], capture_output=True, text=True, timeout=2.0, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return    # no iproute2: what is wrong then shows when frames are sent
    error = interface_error(json.loads(said), name)
    if error:
        raise DriverError(error)


def interface_error(links: list[dict[str, Any]], name: str) -> str:
    """Why a CAN interface cannot be used; empty where it can. links: as `ip -details -json link show` gives them."""
    setup = f"sudo ip link set {name} down; sudo ip link set {name} up type can bitrate {BITRATE}"
    link = links[0] if links else {}
    info = link.get("linkinfo", {})
    data = info.get("info_data", {})
    if info.get("info_kind") not in ("can", "vcan"):
        return f"{name} is no CAN interface; name one in option channel"
    if "UP" not in link.get("flags", []):
        return f"CAN interface {name} is down; bring it up: {setup}"
    if data.get("state") in ("BUS-OFF", "STOPPED"):
        return (
            f"CAN interface {name} is in state {data['state']}: its frames are not acknowledged, or disturbed; check "
            f"the motors' power, both termination resistors and the bit rate, then: {setup}"
        )
    rate = data.get("bittiming", {}).get("bitrate", BITRATE)
    if rate != BITRATE:
        return f"CAN interface {name} runs at {rate} bit/s and the motors at {BITRATE}; set it: {setup}"
    return ""


def must_be_quiet(bus: can.BusABC, channel: Channel) -> None:
    """Nobody else may talk on the bus: motors only ever answer. Errors: DriverError."""
    until, heard = time.monotonic() + LISTEN, set()
    while time.monotonic() < until:
        message = bus.recv(timeout=max(until - time.monotonic(), 0.0))
        if message is not None:
            heard.add(message.arbitration_id)
    if heard:
        raise DriverError(
            f"another program is driving motors on {channel.text} (frames with id "
            f"{', '.join(f'0x{number:03X}' for number in sorted(heard))} were heard before anything was sent); end it: "
            "one process per arm"
        )


def diagnosis(bus: can.BusABC, channel: Channel) -> str:
    """Why nothing may be answering, as far as the adapter knows; empty where it knows nothing."""
    if not isinstance(bus, SlcanBus):
        try:
            _check_interface(channel.port)
        except DriverError as error:
            return str(error)
        return ""
    try:
        version, _ = bus.get_version(ADAPTER)
        flags = _status_flags(bus)
    except (can.CanError, OSError, ValueError) as error:
        return f"the adapter at {channel.port} fails: {error}"
    named = [text for bit, text in FLAGS.items() if flags & bit]
    if named:
        return (
            f"the adapter reports {' and '.join(named)}: its frames are not acknowledged, or disturbed; check the "
            "motors' power, both termination resistors and the bit rate, then plug the adapter in again"
        )
    if version is None:
        return f"nothing at {channel.port} answers as a LAWICEL (slcan) adapter; is it another device?"
    return ""


def _status_flags(bus: SlcanBus) -> int:
    """The adapter's status flags; 0 where it has none, as many have not."""
    bus.serialPortOrig.write(b"F\r")
    until = time.monotonic() + ADAPTER
    while time.monotonic() < until:
        line = bus._read(until - time.monotonic())
        if line is not None and line.startswith("F") and len(line) >= 3:
            return int(line[1:3], 16)
    return 0
