# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in as a process of its own."""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time

import pytest

from arm_controller.driver import DriverError

PATIENCE = 60.0    # [s]; of a busy machine


class OtherSystem:
    def __init__(self, joints, *options):
        command = [sys.executable, "-m", "ros2_control_driver.stand_in", *joints, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.heard: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        self.until("ready")

    def _listen(self):
        for line in self.process.stdout:
            self._lines.put(line.strip())

    def until(self, beginning):
        """The next line that begins so."""
        deadline = time.monotonic() + PATIENCE
        while True:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            self.heard.append(line)
            if line.startswith(beginning):
                return line

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if line != "ask":
            self.until("done")

    def positions(self):
        self.say("ask")
        return [float(word) for word in self.until("at").split()[1:]]

    def close(self):
        """It takes its leave: one that is killed is discovered for many seconds yet, also by the next test."""
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def refused(make, words, **options):
    """Connecting is refused so. What is there is discovered soon, and on a busy machine it is given more time."""
    patience, deadline = 1.0, time.monotonic() + PATIENCE
    while True:
        with pytest.raises(DriverError) as raised:
            make(patience=patience, **options).connect()
        if re.search(words, str(raised.value)) or time.monotonic() > deadline:
            break
        patience *= 2
    assert re.search(words, str(raised.value))
