# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Completes a bag whose recorder was killed. A process of its own, started by each recorder.

It waits at the other end of a pipe: the recorder says "done" when the bag is complete; when the pipe ends without that
word, nobody else will complete it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

DONE = b"done"


class Keeper:
    """The recorder's side."""

    def __init__(self, path: Path):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "molmoact2_policy.bags.keeper", str(path.resolve())],
            stdin=subprocess.PIPE, start_new_session=True, cwd="/",    # what ends the recorder must not end it too
        )

    def dismiss(self) -> None:
        """The bag is complete."""
        try:
            self._process.communicate(DONE)
        except OSError:    # it was killed
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = b""
    while part := os.read(0, 64):
        said += part
    if said == DONE:
        return 0
    from .errors import BagError
    from .repair import repair

    path = Path(sys.argv[1])
    try:
        for line in repair(path):
            print(f"[recorder] {path}: {line}", file=sys.stderr)
    except BagError as error:
        print(f"error: recorder: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
