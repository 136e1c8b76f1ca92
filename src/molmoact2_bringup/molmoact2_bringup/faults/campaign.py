# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a simulated system, spoils one thing after the other, and judges what is seen.

Every row is held to the same promises: the arm's motion stayed within limits, the cause was named, nothing armed
itself, and nothing that was recorded was lost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from molmoact2_contract import System

from ..running import RunningSystem
from .clock import ShiftedClock
from .control_rows import ControlRows
from .scripted import ScriptedPolicy
from .stage import Row, S, Stage


def campaign(system: System, say: Callable[[str], None], progress: Callable[[Row], None]) -> list[Row]:
    """Every row. say: takes the log; progress: each row as it is done. Errors: RuntimeError where it cannot begin."""
    rows: list[Row] = []

    def judge(row: Row) -> None:
        rows.append(row)
        progress(row)

    with tempfile.TemporaryDirectory(prefix="molmoact2-faults-") as folder:
        _control(system, say, judge, Path(folder))
    return rows


def _armed_by_hand(system: System) -> System:
    """The system with nothing that arms itself."""
    processes = tuple(
        replace(p, parameters={**p.parameters, "auto_arm": False}) if "auto_arm" in p.parameters else p
        for p in system.processes
    )
    return replace(system, processes=processes)


@contextmanager
def _staged(system: System, running: RunningSystem) -> Iterator[Stage]:
    tag = system.contract.norm_tag(system.process("policy").parameters["norm_tag"])
    stage = Stage(running, system.contract, tag, next(iter(system.contract.arms)))
    try:
        yield stage
    finally:
        stage.close()


def _begin(stage: Stage) -> None:
    """Until the arm follows. Errors: RuntimeError."""
    if stage.wait(lambda: stage.status.state == S.DISARMED and bool(stage.status.measured)) is None:
        raise RuntimeError(f"the controller does not appear, disarmed: {stage.status.reason}")
    failed = stage.operate("arm") or stage.follow()
    if failed or not stage.witness.wait(20.0):
        raise RuntimeError(f"the arm did not begin to follow: {failed or 'it was not seen'}")
    stage.broken()


def _control(system: System, say: Callable[[str], None], judge: Callable[[Row], None], folder: Path) -> None:
    clock = ShiftedClock(folder)
    system = _armed_by_hand(system)
    without = replace(system, processes=tuple(p for p in system.processes if not p.lifecycle and p.name != "cameras"))
    environments = {"arm_controller": clock.environment}
    with RunningSystem(without, say, environments) as running, _staged(system, running) as stage:
        policy = ScriptedPolicy(running.node, stage.contract, stage.tag)
        _begin(stage)
        for row in ControlRows(stage, policy, clock).rows():
            judge(row())
