# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The double as a process of its own, told what to do and asked what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONTRACT = Path(__file__).resolve().parents[4] / "config" / "embodiments" / "franka_droid.yaml"
PANDA_CONTRACT = CONTRACT.with_name("panda_droid.yaml")
PATIENCE = 60.0    # [s]; of a busy machine


class RobotDouble:
    def __init__(self, host: str, *options: str):
        self.host = host
        command = [sys.executable, "-m", "franka_driver.double.server", "--host", host, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = self._line()
        assert said == f"ready {host}", said

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self._line()
        assert answer.startswith("done"), answer
        return answer.removeprefix("done").strip()

    def ask(self) -> dict:
        return json.loads(self.say("ask"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def wait_until(what: Callable[[], bool], patience: float = PATIENCE, pause: float = 0.01) -> None:
    """Errors: TimeoutError."""
    deadline = time.monotonic() + patience
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(pause)
