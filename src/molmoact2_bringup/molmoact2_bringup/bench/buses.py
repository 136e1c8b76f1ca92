# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the drivers cost and hold, with everything of a system running: doubles stand for the devices."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from molmoact2_contract import Process, System, load_system
from molmoact2_msgs.msg import ControllerStatus

from ..faults.devices import double_of
from ..running import RunningSystem
from .recorder import cpu_seconds

SYSTEMS = ("so101_double", "yam_bimanual_double", "franka_droid_double")
FOLLOWS_WITHIN = 90.0    # [s] of the start


@dataclass(frozen=True)
class BusCost:
    """One arm of a running system.

    calls: median and 99th percentile of read and write together, as the setpoint process makes them [s]; turns:
    likewise of an exchange with every motor, of drivers whose bus has a loop of its own, else None; rate: setpoints a
    second; wanted: as many as the contract says; late: share of the ticks that were late; driver, double: shares of one
    core of the setpoint process with the driver in it, and of the double; faults: of the arm in that time.
    """

    system: str
    arm: str
    driver_name: str
    calls: tuple[float, float]
    turns: tuple[float, float] | None
    rate: float
    wanted: float
    late: float
    driver: float
    double: float
    faults: tuple[str, ...]


def bus_costs(names: Sequence[str], folder: Path, seconds: float, progress: Callable[[], None]) -> list[BusCost]:
    """Each system for some seconds, one after the other. Errors: ContractError, RuntimeError, of RunningSystem."""
    found = []
    for name in names:
        found += _of_system(load_system(name), folder / name, seconds)
        progress()
    return found


def _of_system(system: System, place: Path, seconds: float) -> list[BusCost]:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    controllers = {str(p.parameters["arm"]): p for p in system.processes if "driver" in p.parameters}
    timed = replace(system, processes=tuple(_timed(p, place) for p in system.processes))
    with (place / "log.txt").open("w") as log:
        running = RunningSystem(timed, lambda line: print(line, file=log, flush=True))
        with running:
            running.bring_up()
            _wait_until_all_follow(running, list(controllers))
            counted = _Count(running, system, controllers)
            faults: dict[str, dict[str, None]] = {arm: {} for arm in controllers}

            def look() -> None:
                for arm in controllers:
                    status = running.statuses[arm]
                    if status.state == ControllerStatus.FAULT:
                        faults[arm][status.fault_text] = None

            running.wait(seconds, look)
            shares = counted.ended()
    return [_cost(system, process, arm, place, shares[arm], tuple(faults[arm])) for arm, process in controllers.items()]


def _timed(process: Process, place: Path) -> Process:
    parameters = process.parameters
    if "driver" not in parameters:
        return process
    own = [option for option in parameters.get("driver_options", []) if option]
    options = [*own, f"timed_driver={parameters['driver']}", f"timed_file={place / str(parameters['arm'])}.npz"]
    return replace(process, parameters={**parameters, "driver": "timed", "driver_options": options})


def _wait_until_all_follow(running: RunningSystem, arms: Sequence[str]) -> None:
    def follows(arm: str) -> bool:
        return arm in running.statuses and running.statuses[arm].state == ControllerStatus.FOLLOWING

    deadline = time.monotonic() + FOLLOWS_WITHIN
    while not all(map(follows, arms)):
        if time.monotonic() > deadline:
            texts = "; ".join(f"{arm}: {s.fault_text or s.reason}" for arm, s in running.statuses.items())
            raise RuntimeError(f"{running.system.name} does not follow chunks: {texts or 'nothing is heard'}")
        running.wait(0.05)


@dataclass(frozen=True)
class Shares:
    """rate: setpoints a second; late: share of the ticks; driver, double: of one core."""

    rate: float
    late: float
    driver: float
    double: float


class _Count:
    """Ticks and processor time from when it is made until it is ended."""

    def __init__(self, running: RunningSystem, system: System, controllers: Mapping[str, Process]):
        self._running = running
        doubles = {arm: running.pid(double_of(system, arm).name) for arm in controllers}
        self._pids = {arm: (children(running.pid(p.name)), family(doubles[arm])) for arm, p in controllers.items()}
        self._began = self._now()

    def _now(self) -> dict[str, tuple[float, int, int, float, float]]:
        return {
            arm: (
                time.monotonic(), self._running.statuses[arm].ticks, self._running.statuses[arm].missed_ticks,
                sum(map(cpu_seconds, driver)), sum(map(cpu_seconds, double)),
            )
            for arm, (driver, double) in self._pids.items()
        }

    def ended(self) -> dict[str, Shares]:
        shares = {}
        for arm, now in self._now().items():
            took, ticks, missed, driver, double = (b - a for a, b in zip(self._began[arm], now, strict=True))
            shares[arm] = Shares(ticks / took, missed / max(ticks, 1), driver / took, double / took)
        return shares


def children(pid: int) -> list[int]:
    """Processes that a process has started and that run; those of multiprocessing's own tracker take no time."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family(pid: int) -> list[int]:
    """A process and those that any of its threads has started."""
    started = [int(c) for task in os.listdir(f"/proc/{pid}/task") for c in _children_of(pid, task)]
    return [pid, *started]


def _children_of(pid: int, task: str) -> list[str]:
    return Path(f"/proc/{pid}/task/{task}/children").read_text().split()


def _cost(
    system: System, process: Process, arm: str, place: Path, shares: Shares, faults: tuple[str, ...]
) -> BusCost:
    with np.load(place / f"{arm}.npz") as times:
        calls, turns = times["calls"], times["bus"]
    if not len(calls):
        raise RuntimeError(f"{system.name}: no setpoint was sent to arm {arm!r}")
    return BusCost(
        system.name, arm, str(process.parameters["driver"]), spread(calls), spread(turns) if len(turns) else None,
        shares.rate, system.contract.setpoint_hz, shares.late, shares.driver, shares.double, faults,
    )


def spread(times: np.ndarray) -> tuple[float, float]:
    """Median and 99th percentile."""
    median, p99 = np.percentile(times, [50, 99])
    return float(median), float(p99)
