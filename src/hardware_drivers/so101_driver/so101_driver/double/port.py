# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The double's port: a pseudo terminal behind a link of a fixed name, that can be unplugged and plugged in again."""

from __future__ import annotations

import contextlib
import heapq
import os
import pty
import select
import stat
import termios
import threading
import time
import tty
from pathlib import Path

from ..port import PortError
from .bus import BusDouble

POLL = 0.005      # [s] while nobody has the port open
SPEEDS = {getattr(termios, f"B{speed}"): speed for speed in (38_400, 57_600, 115_200, 500_000, 1_000_000)}
UNKNOWN_SPEED = -1


class PortDouble:
    """Serves a bus on `link` until closed, in a thread of its own, or where `threaded` is false only when serve() is
    called. Errors: PortError where the link cannot be made.

    error: why the thread ended by itself; None while it runs.
    """

    def __init__(self, bus: BusDouble, link: str, threaded: bool = True):
        self.bus, self.link = bus, Path(link)
        self.lock = threading.RLock()    # held while the servos obey; whoever looks at them from outside takes it too
        self.error: Exception | None = None
        self._master: int | None = None
        self._due: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._stop = threading.Event()
        self._changed_r, self._changed_w = os.pipe()
        self.plug()
        self._thread = threading.Thread(target=self._guarded, name="servo-bus", daemon=True) if threaded else None
        if self._thread is not None:
            self._thread.start()

    # --- the cable ----------------------------------------------------------------------------------------------------
    def plug(self) -> None:
        """Plugs the cable in: a new terminal, under the same link."""
        with self.lock:
            if self._master is not None:
                return
            master, slave = pty.openpty()
            tty.setraw(slave)
            os.set_blocking(master, False)
            name = os.ttyname(slave)
            # Not kept open here, so that whoever has the terminal open is the one that talks to the servos.
            os.close(slave)
            try:
                self.link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self.link.is_symlink() or self.link.exists():
                    if not stat.S_ISLNK(self.link.lstat().st_mode):
                        raise PortError(f"{self.link} is there and is no link of a double; name another")
                    self.link.unlink()
                self.link.symlink_to(name)
            except OSError as error:
                os.close(master)
                raise PortError(f"the link {self.link} cannot be made: {error}") from error
            self._master = master
        self._wake()

    def unplug(self) -> None:
        """Pulls the USB cable: the port goes; the servos keep their power and their goals."""
        with self.lock:
            if self._master is None:
                return
            self.link.unlink(missing_ok=True)
            os.close(self._master)
            self._master, self._due = None, []
        self._wake()

    def spoil(self, command: str) -> None:
        """A fault of the bus, or `unplug` or `replug`. Errors: FaultError."""
        if command == "unplug":
            self.unplug()
        elif command == "replug":
            self.plug()
        else:
            with self.lock:
                self.bus.spoil(command)

    def close(self) -> None:
        self._stop.set()
        self._wake()
        if self._thread is not None:
            self._thread.join()
        self.unplug()
        os.close(self._changed_r)
        os.close(self._changed_w)

    def serve(self) -> None:
        """Answers what has been asked until now."""
        with self.lock:
            if self._master is None:
                return
            while select.select([self._master], [], [], 0)[0] and self._take(self._master):
                pass
            self._say(self._master)

    # --- the thread ---------------------------------------------------------------------------------------------------
    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._changed_w, b"!")

    def _guarded(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
        except Exception as error:    # whoever runs the double watches for it
            self.error = error

    def _turn(self) -> None:
        master = self._master
        waiting = [self._changed_r] + ([master] if master is not None else [])
        timeout = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
        try:
            ready = select.select(waiting, [], [], timeout)[0]
        except (OSError, ValueError):    # unplugged meanwhile
            return
        if self._changed_r in ready:
            os.read(self._changed_r, 64)
        with self.lock:
            if self._master is None or self._master != master:
                return
            if master in ready and not self._take(master):
                self._stop.wait(POLL)
                return
            self._say(master)

    def _take(self, master: int) -> bool:
        """Returns whether somebody has the port open."""
        try:
            data = os.read(master, 4096)
        except BlockingIOError:
            return True
        except OSError:    # nobody has it open
            return False
        speed = SPEEDS.get(termios.tcgetattr(master)[5], UNKNOWN_SPEED)
        answer = self.bus.hear(data, speed)
        if answer:
            self._count += 1
            heapq.heappush(self._due, (time.monotonic() + self.bus.spoiling.delay, self._count, answer))
        return True

    def _say(self, master: int) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            answer = heapq.heappop(self._due)[2]
            with contextlib.suppress(OSError):    # closed meanwhile
                os.write(master, answer)
