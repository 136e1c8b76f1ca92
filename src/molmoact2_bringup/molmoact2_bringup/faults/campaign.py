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

from molmoact2_contract import NormTag, System

from ..running import RunningSystem
from .clock import ShiftedClock
from .control_rows import ControlRows
from .policy_rows import PolicyRows
from .recording import Recording, lost
from .relay import Relays, remap
from .scripted import ScriptedPolicy
from .stage import Row, S, Stage


def campaign(system: System, say: Callable[[str], None], progress: Callable[[Row], None]) -> list[Row]:
    """Every row. say: takes the log; progress: each row as it is done. Errors: RuntimeError where it cannot begin."""
    rows: list[Row] = []

    def judge(row: Row) -> None:
        rows.append(row)
        progress(row)

    with tempfile.TemporaryDirectory(prefix="molmoact2-faults-") as folder:
        for run in (_control, _policy):
            bag = Path(folder) / run.__name__.strip("_")
            with Recording(system.contract, bag):
                heard = run(_armed_by_hand(system), say, judge, Path(folder))
            judge(_recorded(bag, heard, system))
    return rows


def _recorded(bag: Path, heard: dict[str, list[int]], system: System) -> Row:
    """What was heard of a run is in the bag of it, whatever happened to the processes that said it."""
    seen, missing = lost(bag, heard, [f"{arm}/status" for arm in system.contract.arms if f"{arm}/status" in heard])
    return Row(f"the recording of the rows above ({bag.name})", "nothing lost", seen, 0.0, missing)


def _armed_by_hand(system: System) -> System:
    """The system with nothing that arms itself."""
    processes = tuple(
        replace(p, parameters={**p.parameters, "auto_arm": False}) if "auto_arm" in p.parameters else p
        for p in system.processes
    )
    return replace(system, processes=processes)


def _tag(system: System) -> NormTag:
    return system.contract.norm_tag(system.process("policy").parameters["norm_tag"])


@contextmanager
def _staged(system: System, running: RunningSystem) -> Iterator[Stage]:
    stage = Stage(running, system.contract, _tag(system), next(iter(system.contract.arms)))
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


def _control(
    system: System, say: Callable[[str], None], judge: Callable[[Row], None], folder: Path
) -> dict[str, list[int]]:
    """Rows with a scripted policy, without cameras."""
    clock = ShiftedClock(folder)
    without = replace(system, processes=tuple(p for p in system.processes if not p.lifecycle and p.name != "cameras"))
    environments = {"arm_controller": clock.environment}
    with RunningSystem(without, say, environments) as running, _staged(system, running) as stage:
        policy = ScriptedPolicy(running.node, stage.contract, stage.tag)
        _begin(stage)
        for row in ControlRows(stage, policy, clock).rows():
            judge(row())
    return stage.heard


def _policy(
    system: System, say: Callable[[str], None], judge: Callable[[Row], None], folder: Path
) -> dict[str, list[int]]:
    """Rows with the real policy, which reads relays instead of the sensors."""
    contract = system.contract
    main, second = (contract.cameras[name].topic for name in _tag(system).cameras[:2])
    spoilt = tuple(
        replace(p, remap=remap(contract), parameters={**p.parameters, "check_frozen": "on"}) if p.lifecycle else p
        for p in system.processes
    )
    with RunningSystem(replace(system, processes=spoilt), say) as running, _staged(system, running) as stage:
        relays = Relays(running.node, contract)
        running.bring_up()
        _begin(stage)
        for row in PolicyRows(stage, relays, main, second).rows():
            judge(row())
    return stage.heard
