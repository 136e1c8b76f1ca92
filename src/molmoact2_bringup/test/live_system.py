# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2` as a process, in a ROS domain of its own."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class Molmoact2:
    """A running `molmoact2`, its lines as they come."""

    def __init__(self, domain: int, *arguments: str):
        env = {**os.environ, "ROS_DOMAIN_ID": str(domain), "MOLMOACT2_ROOT": str(ROOT), "PYTHONFAULTHANDLER": "1"}
        self.process = subprocess.Popen(
            ["molmoact2", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip())
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def wait_for(self, pattern: str, seconds: float = 90) -> str:
        def found():
            return next((line for line in self.lines if re.search(pattern, line)), None)

        with self._more:
            self._more.wait_for(lambda: found() or not self._reader.is_alive(), timeout=seconds)
            assert found(), f"{pattern!r} did not come; the lines were:\n" + "\n".join(self.lines)
            return found()

    def child(self, node_name: str) -> int:
        """Process id of the child that runs a node."""
        return next(pid for pid, command in self._children() if f"__node:={node_name}" in command)

    def _children(self) -> list[tuple[int, str]]:
        """Process ids and command lines."""
        command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.process.pid)]
        out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return [(int(pid), rest) for pid, rest in (line.split(None, 1) for line in out.splitlines())]

    def end(self, seconds: float = 120) -> int:
        """Waits for it and returns its exit code. One that does not end says where it stands, and is no more."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            children = [pid for pid, _ in self._children()]
            self.process.send_signal(signal.SIGABRT)    # its faulthandler prints the stacks, its children end with it
            self.process.wait()
            self._reader.join(10)
            _until_gone(children, 30)    # what comes next has the domain for itself
            raise AssertionError(f"no end within {seconds:g} s; the lines were:\n" + "\n".join(self.lines)) from None
        self._reader.join(10)
        return code

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ends it where it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.end(60)


def _until_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Up(Molmoact2):
    """A running system."""

    def __init__(self, domain: int, *arguments: str):
        super().__init__(domain, "up", *arguments)
