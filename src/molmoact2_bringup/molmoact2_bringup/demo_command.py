# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 demo`: runs a simulated system for a while, records it, and makes a video, plots and a summary of it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from molmoact2_contract import ContractError, load_system
from molmoact2_policy.bags.bag import BagError
from molmoact2_policy.bags.facts import facts_of
from molmoact2_policy.bags.recorder import BagRecorder
from molmoact2_policy.bags.topics import topics_of

from .demo.live import LiveLine
from .demo.report import make_report
from .demo.tasks import Task, Tasks, Unanswered, tasks_for
from .lifecycle import BringUpError
from .running import RunningSystem, Stopped, SystemEnded
from .up import BAD_INPUT, FAILED, OK, with_settings

LOG_TAIL = 25
HEARD_WITHIN = 10.0    # [s]
MARK = ".molmoact2_demo"    # says of a folder that a demo made it, and may make it anew


def demo(system_name: str, settings: list[str], seconds: float, out: Path, instructions: list[str]) -> int:
    """Returns 0 when run and report are complete and the arm moved, 1 when something failed, 2 for bad input. The
    policy may fail at a task: that is told, and no failure of the demo."""
    said: list[str] = []
    try:
        system = load_system(system_name)
        tasks = tasks_for(system, instructions, seconds)
        # Nothing is done before the first task is given.
        given = ["policy.instruction=''"] if tasks else []
        system = with_settings(system, [*given, *settings])
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
            running = RunningSystem(system, lambda line: _write(file, line))
            try:
                said = _record(running, seconds, out, tasks)
            except SystemEnded as error:    # what was recorded until then tells most about it
                ended = error
        summary = make_report(out / "bag", system.contract, out, progress=True)
    except ContractError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except Stopped:
        print("stopped while starting", flush=True)
        return FAILED
    except (BringUpError, BagError, Unanswered) as error:
        _explain([str(ended or error)], log)
        return FAILED
    print("\n".join(["", str(summary), "", *said]))
    print(f"\n{out / 'demo.mp4'}\n{out / 'index.html'}", flush=True)
    failures = [str(ended)] if ended else shortcomings(summary.figures, running, seconds)
    if failures:
        _explain(failures, log)
    return FAILED if failures else OK


def shortcomings(figures: dict[str, Any], running: RunningSystem, seconds: float) -> list[str]:
    """What keeps a run that came to its end from being a whole one, in words."""
    failures = [f"on stopping, {exit_}" for exit_ in running.unclean]
    if running.stopping.is_set() and figures["time_covered"] < seconds:
        failures.append(f"stopped after {figures['time_covered']:.0f} of {seconds:.0f} s")
    for arm, parts in figures["controllers"].items():
        if not (parts["chunks"] and parts["chunks"]["accepted"]):
            failures.append(f"arm {arm!r} accepted no chunk")
        failures += [f"arm {arm!r} faulted: {fault['text']}" for fault in parts["faults"] or []]
    return failures


def _explain(errors: list[str], log: Path) -> None:
    print("\n".join(f"error: {error}" for error in errors), f"\nlast lines of {log}:", file=sys.stderr)
    print("\n".join(log.read_text().splitlines()[-LOG_TAIL:]), file=sys.stderr)


def _prepare(out: Path) -> None:
    """An empty folder; an earlier demo's is replaced, anything else is left alone and refused."""
    if out.exists():
        if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file()):
            raise ContractError(f"{out} exists and is not an earlier demo's folder; name another with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARK).touch()


def _write(file: TextIO, line: str) -> None:
    file.write(line + "\n")
    file.flush()


def _wait_until_heard(running: RunningSystem, recorder: BagRecorder) -> None:
    """Until what is published before the policy is active reaches the recorder, the policy's own status among it."""
    contract = running.system.contract
    names = ["joint_states", "policy/status", *(camera.topic for camera in contract.cameras.values())]
    topics = [running.node.resolve_topic_name(name) for name in names]
    deadline = time.monotonic() + HEARD_WITHIN
    while not all(recorder.received[topic] for topic in topics) and not running.stopping.is_set():
        if time.monotonic() > deadline:
            return    # the report says what is missing
        running.wait(0.05)


def _record(running: RunningSystem, seconds: float, out: Path, tasks: Sequence[Task]) -> list[str]:
    """Runs the system, gives it tasks until the time is over, and records it from just before its lifecycles are
    active: the first full depth pass is what a replay begins with. Returns how the tasks ended."""
    with running:
        print(f"starting {running.system.name}; its log is {out / 'log.txt'}", flush=True)
        running.configure()
        facts = facts_of(running.system.contract, running.system)
        with BagRecorder(running.node, out / "bag", topics_of(running.system.contract), facts=facts) as recorder:
            _wait_until_heard(running, recorder)
            running.activate()
            live, given = LiveLine(running.node, running.system.contract, seconds), Tasks(running, tasks)

            def update() -> None:
                live.update()
                given.update()

            try:
                running.wait(seconds, update)
            finally:
                live.end()
            return given.told()
