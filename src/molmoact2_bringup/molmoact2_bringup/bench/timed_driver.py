# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm driver `timed`: another driver, whose calls are timed where they are made, in the setpoint process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arm_controller.driver import ArmDriver, ArmState, DriverError, Reading, make_driver
from molmoact2_contract import Arm, Contract

KEPT = 60_000    # newest cycles


class TimedDriver(ArmDriver):
    """of: the driver. place: an .npz file to write at close, with `calls`: how long read and write of one cycle took
    together [s]; `bus`: how long the exchanges took of a driver whose bus has a loop of its own, else empty [s]."""

    def __init__(self, of: ArmDriver, place: Path):
        self._of, self._place = of, place
        self.real, self.close_within = of.real, of.close_within
        self._calls: deque[float] = deque(maxlen=KEPT)
        self._read_took = 0.0

    @property
    def falls(self) -> bool:
        return self._of.falls

    def connect(self) -> None:
        self._of.connect()

    def read(self) -> ArmState:
        began = time.perf_counter()
        state = self._of.read()
        self._read_took = time.perf_counter() - began
        return state

    def write(self, positions: np.ndarray) -> None:
        began = time.perf_counter()
        self._of.write(positions)
        self._calls.append(self._read_took + time.perf_counter() - began)

    def stop(self) -> None:
        self._of.stop()

    def held(self) -> np.ndarray | None:
        return self._of.held()

    def guide(self) -> None:
        self._of.guide()

    def recover(self) -> None:
        self._of.recover()

    def health(self) -> Sequence[Reading]:
        return self._of.health()

    def close(self) -> None:
        # Only drivers whose bus has a loop of its own know how long its turns take.
        bus = list(getattr(self._of, "cycle_times", ()))
        self._of.close()
        np.savez(self._place, calls=np.array(self._calls), bus=np.array(bus))


def create(contract: Contract, arm: Arm, options: dict[str, str]) -> TimedDriver:
    """options: `timed_driver`, its name; `timed_file`, where to write; all others are its own. Errors: DriverError."""
    own = dict(options)
    try:
        name, place = own.pop("timed_driver"), Path(own.pop("timed_file"))
    except KeyError as error:
        raise DriverError(f"driver timed needs the option {error.args[0]}; it is the bench's own") from error
    return TimedDriver(make_driver(name, contract, arm, [f"{k}={v}" for k, v in own.items()]), place)
