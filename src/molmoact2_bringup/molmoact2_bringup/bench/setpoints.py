# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How late setpoints are while every core is busy: the real setpoint process, with a driver that notes the time."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass

import numpy as np

from arm_controller.core_client import CoreClient
from arm_controller.driver import ArmDriver, ArmState
from arm_controller.setpoint_process import Settings
from molmoact2_contract import Contract

MOST = 1 << 17    # setpoints that are kept


class NotingArm(ArmDriver):
    """An arm that is where it was told to be, and notes when it was told."""

    def __init__(self, start: np.ndarray):
        context = multiprocessing.get_context("spawn")
        self._where = start.copy()
        self._times, self._count = context.Array("q", MOST), context.Value("q", 0)

    def connect(self) -> None: ...

    def read(self) -> ArmState:
        return ArmState(self._where.copy(), time.time_ns())

    def write(self, positions: np.ndarray) -> None:
        self._where = positions.copy()
        count = self._count.value
        if count < MOST:
            self._times[count] = time.monotonic_ns()
            self._count.value = count + 1

    def stop(self) -> None: ...

    def close(self) -> None: ...

    @property
    def times_ns(self) -> np.ndarray:
        """When each setpoint came, int64 (N,), steady clock."""
        return np.array(self._times[: self._count.value], dtype=np.int64)


@dataclass(frozen=True)
class Lateness:
    """How much later than a period after the last one each setpoint came [s]; lost: periods without a setpoint."""

    p50: float
    p99: float
    p999: float
    worst: float
    count: int
    lost: int
    privileges: str


def busy() -> None:
    while True:
        pass


def measure(contract: Contract, arm_name: str, seconds: float) -> Lateness:
    """Holds for some seconds while one busy process runs on each core."""
    arm = contract.arm(arm_name)
    driver = NotingArm(contract.values("home", arm.joints))
    settings = Settings(contract, arm, driver, False, True, (), "splice", "hold")
    core = CoreClient(settings, lambda: None, lambda text: None)
    context = multiprocessing.get_context("spawn")
    load = [context.Process(target=busy, daemon=True) for _ in range(os.cpu_count() or 2)]
    try:
        for process in load:
            process.start()
        time.sleep(seconds)
    finally:
        for process in load:
            process.kill()
        core.close()
    return lateness(driver.times_ns, 1e9 / contract.setpoint_hz, core.privileges)


def lateness(times_ns: np.ndarray, period_ns: float, privileges: str) -> Lateness:
    """times_ns: when setpoints came, int64 (N,), N > 1."""
    late = np.maximum(np.diff(times_ns) - period_ns, 0.0)
    p50, p99, p999 = np.percentile(late, [50, 99, 99.9]) / 1e9
    lost = int(np.maximum(np.floor(np.diff(times_ns) / period_ns + 1e-3) - 1, 0).sum())
    return Lateness(p50, p99, p999, float(late.max()) / 1e9, len(times_ns), lost, privileges)
