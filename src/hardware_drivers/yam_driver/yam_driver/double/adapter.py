# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A serial CAN adapter on a virtual port: the LAWICEL text protocol, as adapters like the CANable speak it."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import threading
import tty
from collections.abc import Callable, Iterable
from pathlib import Path

BELL, RETURN = b"\a", b"\r"
Frame = tuple[int, bytes]    # id and data


class Adapter:
    """link: a symbolic link that always leads to the port; hear: given a frame, says which frames are answered.

    Faults on command: drop, corrupt (share of answers), bus_off, mute (it is no such adapter), unplug and plug.
    """

    def __init__(self, link: Path, hear: Callable[[Frame], Iterable[Frame]], seed: int = 0):
        self.link, self._hear = link, hear
        self.drop = self.corrupt = 0.0
        self.bus_off = self.mute = self.open = False
        self.received: int = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._master = self._slave = -1
        self._wake_read, self._wake_write = os.pipe()
        self._ending = False
        self.plug()
        self._thread = threading.Thread(target=self._run, name="adapter", daemon=True)
        self._thread.start()

    # --- on command ---------------------------------------------------------------------------------------------------
    def plug(self) -> None:
        with self._lock:
            if self._master >= 0:
                return
            self._master, self._slave = pty.openpty()
            tty.setraw(self._master)
            tty.setraw(self._slave)
            self.link.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.link.with_name(self.link.name + ".new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(os.ttyname(self._slave))
            fresh.replace(self.link)
        os.write(self._wake_write, b"x")

    def unplug(self) -> None:
        with self._lock:
            if self._master < 0:
                return
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
            self.open = False
            self.link.unlink(missing_ok=True)
        os.write(self._wake_write, b"x")

    def say(self, frame: Frame) -> None:
        """A frame that nobody asked for, e.g. of another program on the same bus."""
        self._write(_text(frame))

    def close(self) -> None:
        self._ending = True
        os.write(self._wake_write, b"x")
        self._thread.join()
        self.unplug()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # --- the thread ---------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        buffer = b""
        while not self._ending:
            master = self._master
            try:
                ready = select.select([self._wake_read] + ([master] if master >= 0 else []), [], [])[0]
            except OSError:    # unplugged meanwhile
                buffer = b""
                continue
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
                continue
            with self._lock:
                # Unplugged meanwhile; and if plugged again, by the same number, there is nothing to read yet.
                if self._master != master or not select.select([master], [], [], 0)[0]:
                    buffer = b""
                    continue
                try:
                    buffer += os.read(master, 65536)
                except OSError:
                    buffer = b""
                    continue
            *lines, buffer = buffer.split(RETURN)
            for line in lines:
                self._line(line)

    def _line(self, line: bytes) -> None:
        if self.mute or not line:
            return
        what = line[:1]
        if what == b"t":
            self._transmit(line)
        elif what in b"OL":
            self.open = True
            self._write(RETURN)
        elif what == b"C":
            self.open = False
            self._write(RETURN)
        elif what == b"V":
            self._write(b"V1013\r")
        elif what == b"N":
            self._write(b"N0001\r")
        elif what == b"F":
            self._write(b"FA0\r" if self.bus_off else b"F00\r")
        elif what == b"S":
            self._write(RETURN)
        else:
            self._write(BELL)

    def _transmit(self, line: bytes) -> None:
        if not self.open or self.bus_off:
            self._write(BELL)
            return
        number, length = int(line[1:4], 16), int(line[4:5], 16)
        self.received += 1
        for answer in self._hear((number, bytes.fromhex(line[5 : 5 + 2 * length].decode()))):
            if self._random.random() >= self.drop:
                self._write(self._spoilt(_text(answer)))

    def _spoilt(self, text: bytes) -> bytes:
        if self._random.random() >= self.corrupt:
            return text
        place = self._random.randrange(len(text) - 1)
        return text[:place] + bytes([self._random.choice(b"\xffZ?\x00")]) + text[place + 1 :]

    def _write(self, text: bytes) -> None:
        with self._lock:
            if self._master < 0:
                return
            with contextlib.suppress(OSError):    # unplugged meanwhile
                os.write(self._master, text)


def _text(frame: Frame) -> bytes:
    number, data = frame
    return b"t%03X%d%s\r" % (number, len(data), data.hex().upper().encode())
