# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Child processes of one system: started, watched, their lines prefixed, and ended in order. No ROS here."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1  # prctl(2)
COLOURS = ("36", "33", "35", "32", "34", "31")


@dataclass(frozen=True)
class Exit:
    """One process that ended. code: exit status; negative for a signal, as in subprocess."""

    name: str
    code: int

    def __str__(self) -> str:
        if self.code < 0:
            return f"process {self.name!r} was killed by {signal.Signals(-self.code).name}"
        return f"process {self.name!r} ended with exit code {self.code}"


def _end_with_parent() -> None:
    """In the child: be ended when the parent dies, even by SIGKILL, so that nothing is left running."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Processes:
    """Children in starting order. Each has a session of its own, so that a terminal's Ctrl-C reaches only the parent,
    which then ends them one after the other, last started first.

    Start them from the main thread: the kernel ties a child to the thread that started it.
    """

    def __init__(self, write_line: Callable[[str], None] | None = None):
        self._children: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._write_line = write_line or self._to_stdout
        self._lock = threading.Lock()
        self._colour = sys.stdout.isatty() and write_line is None

    def start(self, name: str, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        """Starts a child; its output lines come out prefixed with its name. Errors: OSError where it cannot start."""
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        self._children[name] = child
        prefix = self._prefix(name)
        reader = threading.Thread(target=self._read, args=(child, prefix), name=f"log-{name}", daemon=True)
        reader.start()
        self._readers.append(reader)

    def _prefix(self, name: str) -> str:
        if not self._colour:
            return f"[{name}] "
        return f"\033[{COLOURS[(len(self._children) - 1) % len(COLOURS)]}m[{name}]\033[0m "

    def _read(self, child: subprocess.Popen[str], prefix: str) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            self._write_line(prefix + line.rstrip("\n"))

    def _to_stdout(self, line: str) -> None:
        with self._lock:
            print(line, flush=True)

    def ended(self) -> Exit | None:
        """The first child, in starting order, that is no longer running."""
        for name, child in self._children.items():
            code = child.poll()
            if code is not None:
                return Exit(name, code)
        return None

    def all_ended(self) -> list[Exit]:
        """Every child that is no longer running, in starting order."""
        codes = {name: child.poll() for name, child in self._children.items()}
        return [Exit(name, code) for name, code in codes.items() if code is not None]

    def pid(self, name: str) -> int:
        return self._children[name].pid

    def end_all(self, grace: float = 10.0) -> list[Exit]:
        """Ends every child, last started first: SIGTERM, and after `grace` seconds SIGKILL.

        Returns those that did not end cleanly when asked (by exit code 0, or by the SIGTERM where they were just
        starting); children that had ended before are not in it.
        """
        unclean = []
        for name, child in reversed(self._children.items()):
            if child.poll() is not None:
                continue
            for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
                child.send_signal(number)
                try:
                    child.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    self._write_line(f"[up] {name} did not end on {number.name} within {patience:g} s")
            if child.returncode not in (0, -signal.SIGTERM):
                unclean.append(Exit(name, child.returncode))
        deadline = time.monotonic() + 1.0
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        return unclean
