# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a system, spoils one thing after the other, and judges what is seen: of a simulated system chunks, sensors,
clocks and processes; of one whose devices are doubles those devices.

Every row is held to the same promises: the arm's motion stayed within limits, the cause was named, nothing armed
itself, and nothing that was recorded was lost.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from molmoact2_contract import NormTag, System
from molmoact2_policy.scripted.policy import EasedSway, ScriptedPolicy
from molmoact2_policy.scripted.sway import Sway

from ..check.alone import must_be_first
from ..running import RunningSystem, Stopped
from .clock import ShiftedClock
from .control_rows import ControlRows
from .device_rows import DeviceRows
from .devices import FAULTS, WORLDS_OWN, DeviceFault, double_of, driver_of, faults_of
from .judgement import GAP
from .pauses import PauseWatch, tried
from .policy_rows import PolicyRows
from .reasons import joined
from .recording import Recording, lost
from .relay import Relays, remap
from .scripted import swaying
from .stage import Row, S, Stage
from .witness import DoublesWitness, Witness, WorldsWitness

BEGIN_WITHIN = 180.0   # [s] for controllers to appear; a double begins first
UNNEEDED = ("cameras", "visualizer")
# Of the sway under faults of devices: share of the limits of velocity, and angular frequency [rad/s]. So fast that most
# of the time some joint would take a tenth of a second to come to rest, by which it is judged.
FAST, TURN = 0.8, 3.5
# System, log, what takes a row, folder to write: to stamps of what was heard [ns], by topic.
Run = Callable[[System, Callable[[str], None], Callable[[Row], None], Path], dict[str, list[int]]]


def campaign(
    system: System, say: Callable[[str], None], progress: Callable[[Row], None], only: Sequence[str] = ()
) -> list[Row]:
    """Every row, or the rows of single faults of devices. say: takes the log; progress: each row as it is done.
    Errors: RuntimeError where it cannot begin, another system is heard, or a process ends; Stopped; ContractError where
    a device has no fault of such a name."""
    faults, runs = faults_of(system, only), dict[str, Run](control=_control, policy=_policy)
    if faults:
        runs = {"devices": partial(_devices, faults)}
    rows: list[Row] = []

    def judge(row: Row) -> None:
        rows.append(row)
        progress(row)

    with tempfile.TemporaryDirectory(prefix="molmoact2-faults-") as folder:
        for name, run in runs.items():
            must_be_first(system, say)
            bag = Path(folder) / name
            with Recording(system.contract, bag):
                heard = run(_armed_by_hand(system), say, judge, Path(folder))
            judge(_recorded(bag, heard, system))
    return rows


def _recorded(bag: Path, heard: dict[str, list[int]], system: System) -> Row:
    """What was heard of a run is in the bag of it, whatever happened to the processes that said it."""
    seen, missing = lost(bag, heard, [f"{arm}/status" for arm in system.contract.arms if f"{arm}/status" in heard])
    name = system.name if bag.name == "devices" else bag.name
    return Row(f"the recording of the rows above ({name})", "nothing lost", seen, 0.0, missing)


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
def _staged(system: System, running: RunningSystem) -> Iterator[list[Stage]]:
    """A stage for each arm."""
    tag, contract, driver = _tag(system), system.contract, driver_of(system)

    def witness(arm: str) -> Witness:
        if driver in WORLDS_OWN:
            return WorldsWitness(contract, contract.arm(arm), bus=driver in FAULTS)
        return DoublesWitness(contract, contract.arm(arm), running.node, double_of(system, arm).name)

    stages = [Stage(running, contract, tag, arm, witness(arm)) for arm in contract.arms]
    try:
        yield stages
    finally:
        for stage in stages:
            stage.close()


def _is_there_disarmed(stage: Stage) -> bool:
    return stage.status.state == S.DISARMED and bool(stage.status.measured)


def _shows_itself(stage: Stage) -> bool:
    return _is_there_disarmed(stage) or bool(stage.running.ended)


def _begin(*stages: Stage) -> None:
    """Until the arms follow. Errors: RuntimeError."""
    for stage in stages:
        seen = stage.wait(partial(_shows_itself, stage), BEGIN_WITHIN)
        if ended := stage.running.ended:
            raise RuntimeError(f"{ended[0]}, before any arm was armed")
        if seen is None:
            raise RuntimeError(f"the controller of {stage.arm!r} does not appear, disarmed: {stage.status.reason}")
    for act in (Stage.arm_as_operator, Stage.follow):
        for stage in stages:
            failed = act(stage)
            if failed or not stage.witness.wait(20.0):
                raise RuntimeError(f"arm {stage.arm!r} did not begin to follow: {failed or 'it was not seen'}")
    for stage in stages:
        stage.broken()
        stage.forget_heard()


def _judge_all(rows: Iterator[Callable[[], Row]], stages: Sequence[Stage], judge: Callable[[Row], None]) -> None:
    watch = PauseWatch()
    try:
        for row in rows:
            if stages[0].running.stopping.is_set():
                raise Stopped
            stages[0].must_be_alone()    # who else would follow its chunks
            judge(tried(row, watch.longest, partial(_recover, stages)))
    finally:
        watch.close()


def _recover(stages: Sequence[Stage]) -> str:
    """After a row that failed: as an operator does, to where the next one begins. Returns which promise was broken in
    the row besides, or why it cannot be gone on."""
    broken = joined(*(stage.broken() for stage in stages))
    failed = ""
    for stage in stages:
        if stage.status.state == S.FAULT:
            failed = failed or stage.clear_fault()
    time.sleep(2 * GAP)    # to arm is no motion
    for stage in stages:
        if stage.status.state == S.DISARMED:
            failed = failed or stage.operate("arm")
        stage.witness.forget_told()
    for act in (Stage.resume_where_asked, Stage.follow):
        for stage in stages:
            failed = failed or act(stage)
    return joined(broken, failed and f"it could not be gone on: {failed}")


def _control(
    system: System, say: Callable[[str], None], judge: Callable[[Row], None], folder: Path
) -> dict[str, list[int]]:
    """Rows with a scripted policy, without cameras."""
    clock = ShiftedClock(folder)
    without = replace(system, processes=tuple(p for p in system.processes if not p.lifecycle and p.name != "cameras"))
    environments = {"arm_controller": clock.environment}
    with RunningSystem(without, say, environments) as running, _staged(system, running) as (stage,):
        policy = ScriptedPolicy(running.node, stage.contract, stage.tag, swaying(stage.contract))
        _begin(stage)
        _judge_all(ControlRows(stage, policy, clock).rows(), [stage], judge)
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
    with RunningSystem(replace(system, processes=spoilt), say) as running, _staged(system, running) as (stage,):
        relays = Relays(running.node, contract)
        stage.must_be_alone()
        running.bring_up()
        _begin(stage)
        _judge_all(PolicyRows(stage, relays, main, second).rows(), [stage], judge)
    return stage.heard


def _devices(
    faults: Sequence[DeviceFault], system: System, say: Callable[[str], None], judge: Callable[[Row], None], _: Path
) -> dict[str, list[int]]:
    """Rows with doubles and a scripted policy, without cameras; where doubles tell of themselves, without a world."""
    about = system.process("policy").parameters.get("about")
    with RunningSystem(of_devices(system), say) as running, _staged(system, running) as stages:
        slow, fast = Sway(system.contract, about), Sway(system.contract, about, FAST, TURN)
        plan = EasedSway(running.node, system.contract, slow)
        ScriptedPolicy(running.node, system.contract, _tag(system), plan)
        _begin(*stages)
        rows = DeviceRows(system, faults, stages, lambda hurried: plan.change(fast if hurried else slow))
        _judge_all(rows.rows(), stages, judge)
    return {topic: stamps for stage in reversed(stages) for topic, stamps in stage.heard.items()}


def of_devices(system: System) -> System:
    """What faults of its devices need of it: no policy, no cameras, and no world that only shows where doubles are."""
    gone = ("policy", *UNNEEDED) if driver_of(system) in WORLDS_OWN else ("policy", *UNNEEDED, "world")
    unseen = {"mirror": False} if "world" in gone else {}
    return replace(
        system,
        processes=tuple(
            replace(p, parameters={**p.parameters, **unseen}) if p.executable == "double" else p
            for p in system.processes if p.name not in gone
        ),
    )
