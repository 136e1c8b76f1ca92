# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2` as a process, in a ROS domain of its own."""

import os
import re
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class Molmoact2:
    """A running `molmoact2`, its lines as they come."""

    def __init__(self, domain: int, *arguments: str):
        env = {**os.environ, "ROS_DOMAIN_ID": str(domain), "MOLMOACT2_ROOT": str(ROOT)}
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
        command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.process.pid)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return next(int(line.split(None, 1)[0]) for line in out.splitlines() if f"__node:={node_name}" in line)

    def end(self) -> int:
        code = self.process.wait(240)
        self._reader.join(10)
        return code


class Up(Molmoact2):
    """A running system."""

    def __init__(self, domain: int, *arguments: str):
        super().__init__(domain, "up", *arguments)
