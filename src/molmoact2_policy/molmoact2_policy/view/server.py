# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Rerun's server and web viewer as a child process, reachable from this machine only. No ROS here."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

LOOPBACK = "127.0.0.1"    # the server has no way to ask for a token, so nobody else is let in
BEGIN_WITHIN, END_WITHIN = 30.0, 5.0    # [s]


class ServerError(RuntimeError):
    """The server cannot be started, or has ended; the text says why and how to mend it."""


def program() -> Path:
    """Rerun's program beside this interpreter, or on the path. Errors: ServerError."""
    beside = Path(sys.executable).with_name("rerun")
    found = str(beside) if beside.is_file() else shutil.which("rerun")
    if not found:
        raise ServerError("the Rerun viewer is not installed; pip install rerun-sdk (it needs numpy 2)")
    return Path(found)


class ViewerServer:
    """Runs while the context is open. Errors on entering: ServerError.

    port: where data is taken, web_port: where the browser goes; memory: of what is kept for a browser that comes later,
    e.g. "500MB": the oldest goes first.
    """

    def __init__(self, port: int, web_port: int, memory: str):
        self._port, self._web_port, self._memory = port, web_port, memory
        self._process: subprocess.Popen | None = None

    @property
    def data_url(self) -> str:
        return f"rerun+http://{LOOPBACK}:{self._port}/proxy"

    @property
    def page(self) -> str:
        """What to open in a browser."""
        return f"http://{LOOPBACK}:{self._web_port}/?url={quote(self.data_url, safe='')}"

    def __enter__(self) -> ViewerServer:
        for port in (self._port, self._web_port):
            if _answers(port):
                raise ServerError(f"port {port} is taken; end what uses it, or choose others: --port, --web-port")
        command = [
            str(program()), "--serve-web", "--bind", LOOPBACK, "--port", str(self._port),
            "--web-viewer-port", str(self._web_port), "--server-memory-limit", self._memory,
        ]
        environment = {**os.environ, "RERUN_ANALYTICS": "off"}    # nothing is told to anybody
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,    # a terminal's Ctrl-C is ours to hear; it ends after us
        )
        deadline = time.monotonic() + BEGIN_WITHIN
        while not (_answers(self._port) and _answers(self._web_port)):
            if self.ended or time.monotonic() > deadline:
                why = self.ended or f"it does not answer within {BEGIN_WITHIN:g} s"
                self.close()
                raise ServerError(f"the Rerun viewer did not begin: {why}")
            time.sleep(0.05)
        return self

    @property
    def ended(self) -> str:
        """How the server has ended, in words; empty while it runs."""
        if self._process is None or self._process.poll() is None:
            return ""
        said = self._process.stderr.read().decode(errors="replace").strip() if self._process.stderr else ""
        return f"exit code {self._process.returncode}" + (f": {said.splitlines()[-1]}" if said else "")

    def close(self) -> None:
        if self._process is None:
            return
        # The program is a script that starts another.
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_WITHIN)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((LOOPBACK, port)) == 0
