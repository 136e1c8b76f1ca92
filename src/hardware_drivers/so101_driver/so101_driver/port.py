# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The serial port of a servo bus: opened for this process alone, each refusal with its mend."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import termios
import time
from pathlib import Path

import serial

from molmoact2_contract.users import users_of

QUIET = 0.002      # [s] without a byte in which a line counts as silent
MOST_DRAIN = 0.02  # [s]


class PortError(RuntimeError):
    """The port cannot be opened or has gone; the text names it and the mend."""


class Port:
    """An open serial port, 8N1, that no other process has. Errors: PortError."""

    def __init__(self, path: str, baud: int):
        self.path = path
        users = users_of(path)    # a program that takes no lock is found too
        if users:
            named = ", ".join(users)
            raise PortError(f"{path} is in use by {named}; two programs on one bus garble each other: end that one")
        try:
            self._serial = serial.Serial(path, baud, timeout=0, write_timeout=1.0, exclusive=True)
        except (OSError, ValueError) as error:    # SerialException is an OSError
            raise PortError(_refusal(path, error)) from error
        with contextlib.suppress(OSError):    # a lock that also programs keep out which do not ask for one
            fcntl.ioctl(self._serial.fileno(), termios.TIOCEXCL)

    def set_baud(self, baud: int) -> None:
        try:
            self._serial.baudrate = baud
        except (OSError, ValueError) as error:
            raise self._lost(error) from error

    def send(self, frame: bytes) -> None:
        try:
            self._serial.write(frame)
        except (OSError, serial.SerialTimeoutException) as error:
            raise self._lost(error) from error

    def receive(self, until: float) -> bytes:
        """What has come, at least a byte; empty where nothing came until then (steady clock [s])."""
        try:
            if not select.select([self._serial.fileno()], [], [], max(0.0, until - time.monotonic()))[0]:
                return b""
            data = os.read(self._serial.fileno(), 4096)
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            raise self._lost(OSError(errno.EIO, "it is ready and gives nothing"))
        return data

    def forget_input(self) -> None:
        """Drops what has come: an answer that came too late must not answer the next question."""
        try:
            self._serial.reset_input_buffer()
        except (OSError, termios.error) as error:
            raise self._lost(error) from error

    def drain(self) -> int:
        """Waits until the line is silent, and drops what comes; returns how many bytes did."""
        dropped, most = 0, time.monotonic() + MOST_DRAIN
        while time.monotonic() < most:
            data = self.receive(time.monotonic() + QUIET)
            if not data:
                break
            dropped += len(data)
        return dropped

    def close(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            fcntl.ioctl(self._serial.fileno(), termios.TIOCNXCL)
        with contextlib.suppress(OSError, termios.error):
            self._serial.close()

    def _lost(self, error: Exception) -> PortError:
        self.close()
        return PortError(f"{self.path} has gone ({error}): the USB cable or its adapter; plug it in again")


def _refusal(path: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return f"there is no port {path}; {_ports_in_words()}"
    if number in (errno.EACCES, errno.EPERM):
        return f"no permission to open {path}; add yourself to its group (sudo usermod -aG dialout $USER), log in anew"
    if number in (errno.EAGAIN, errno.EBUSY):
        return f"{path} is in use by another program; two programs on one bus garble each other: end that one"
    return f"{path} cannot be opened as a serial port ({error}); {_ports_in_words()}"


def _ports_in_words() -> str:
    ports = sorted([*Path("/dev").glob("ttyACM*"), *Path("/dev").glob("ttyUSB*")])
    if not ports:
        return "no USB serial port is there at all: plug the adapter in, and look at the cable"
    return f"USB serial ports that are there: {', '.join(map(str, ports))}"
