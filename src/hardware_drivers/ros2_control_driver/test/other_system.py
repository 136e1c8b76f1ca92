# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in as a process of its own."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time

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
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
