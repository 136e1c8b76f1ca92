# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 demo`: runs a simulated system for a while, records it, and makes a video, plots and a summary of it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TextIO

from molmoact2_contract import ContractError, load_system

from .demo.bag import BagError
from .demo.live import LiveLine
from .demo.recorder import BagRecorder, topics_of
from .demo.report import make_report
from .lifecycle import BringUpError
from .running import RunningSystem, SystemEnded
from .up import BAD_INPUT, FAILED, OK, with_settings

LOG_TAIL = 25


def demo(system_name: str, settings: list[str], seconds: float, out: Path) -> int:
    """Returns 0 when the run and its report are complete, 1 when the system failed, 2 for bad input."""
    try:
        system = with_settings(load_system(system_name), settings)
        if not system.simulation:
            raise ContractError(f"{system.path}: the demo moves the arm unattended and runs simulations only")
        _prepare(out)
    except ContractError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    log = out / "log.txt"
    ended: SystemEnded | None = None
    try:
        with log.open("w") as file:
            try:
                _record(RunningSystem(system, lambda line: _write(file, line)), seconds, out)
            except SystemEnded as error:    # what was recorded until then tells most about it
                ended = error
        summary = make_report(out / "bag", system.contract, out, progress=True)
    except (BringUpError, BagError) as error:
        _explain(ended or error, log)
        return FAILED
    print(f"\n{summary}\n\n{out / 'demo.mp4'}\n{out / 'index.html'}", flush=True)
    if ended:
        _explain(ended, log)
    return FAILED if ended else OK


def _explain(error: Exception, log: Path) -> None:
    print(f"error: {error}\nlast lines of {log}:", file=sys.stderr)
    print("\n".join(log.read_text().splitlines()[-LOG_TAIL:]), file=sys.stderr)


def _prepare(out: Path) -> None:
    """An empty folder; an earlier demo's is replaced, anything else is left alone and refused."""
    if out.exists():
        if not out.is_dir() or (any(out.iterdir()) and not (out / "log.txt").is_file()):
            raise ContractError(f"{out} exists and is not an earlier demo's folder; name another with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)


def _write(file: TextIO, line: str) -> None:
    file.write(line + "\n")
    file.flush()


def _record(running: RunningSystem, seconds: float, out: Path) -> None:
    """Runs the system, and records it from the moment its lifecycles are active."""
    with running:
        print(f"starting {running.system.name}; its log is {out / 'log.txt'}", flush=True)
        running.bring_up()
        with BagRecorder(running.node, out / "bag", topics_of(running.system.contract)):
            live = LiveLine(running.node, running.system.contract, seconds)
            try:
                running.wait(seconds, live.update)
            finally:
                live.end()
