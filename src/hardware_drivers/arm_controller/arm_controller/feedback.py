# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Feedback: what the arm says of itself, and whether that can be true. No ROS here."""

from __future__ import annotations

import time

import numpy as np

from molmoact2_contract import Arm, Contract

from .controller_state import Fault
from .driver import ArmDriver, ArmState, DriverError

MOMENT = 0.1    # [s] between two readings in which no joint can go farther than the contract's max_step


class Feedback:
    """Reads and writes one arm, and remembers what came of it.

    measured: the newest joint state; None before the first. device_time: how long the device was waited for since that
    was last taken [s]. driver_failed: what the device said last, empty where it answered.
    """

    def __init__(self, contract: Contract, arm: Arm, driver: ArmDriver):
        self._arm, self._driver, self._timeout = arm, driver, contract.joint_state_timeout
        self._max_step = contract.values("max_step", arm.joints)
        self.measured: ArmState | None = None
        self.driver_failed = ""
        self._device_time = 0.0
        self._leap = ""

    def read(self) -> None:
        """Errors: DriverError."""
        before, began = self.measured, time.monotonic()
        try:
            self.measured = self._driver.read()
            self.driver_failed = ""
        except DriverError as error:
            self.driver_failed = str(error)
            raise
        finally:
            self._device_time += time.monotonic() - began
        self._leap = self._leap_between(before, self.measured) if before is not None else ""

    def write(self, setpoint: np.ndarray) -> None:
        """Errors: DriverError."""
        began = time.monotonic()
        try:
            self._driver.write(setpoint)
        except DriverError as error:
            self.driver_failed = str(error)
            raise
        finally:
            self._device_time += time.monotonic() - began

    def take_device_time(self) -> float:
        """How long the device was waited for since this was last asked [s]."""
        waited, self._device_time = self._device_time, 0.0
        return waited

    def _leap_between(self, before: ArmState, after: ArmState) -> str:
        elapsed = (after.stamp_ns - before.stamp_ns) / 1e9
        leaps = np.abs(after.positions - before.positions)
        if not 0 <= elapsed <= MOMENT or not (leaps > self._max_step).any():
            return ""
        joint = int(np.argmax(leaps / self._max_step))
        return (
            f"the measured position of {self._arm.joints[joint]!r} leapt by {leaps[joint]:.3f} in {elapsed:.3f} s; "
            "check its encoder and its bus"
        )

    def error(self, now: float) -> str:
        """Why the newest joint state cannot be used at `now`, ROS time [s]; empty where it can."""
        if self.measured is None:
            return "no joint state has been read"
        bad = ~np.isfinite(self.measured.positions)
        if bad.any():
            return f"the measured position of {self._arm.joints[int(np.argmax(bad))]!r} is not a number"
        age = now - self.measured.stamp_ns / 1e9
        if age > self._timeout:
            return f"the newest joint state is {age:.3f} s old, more than {self._timeout:g} s"
        return self._leap

    def fault(self, now: float) -> tuple[Fault, str]:
        """The fault that the newest joint state is; Fault.NONE where it is sound."""
        text = self.error(now)
        if not text:
            return Fault.NONE, ""
        sound = self.measured is None or (np.isfinite(self.measured.positions).all() and not self._leap)
        return Fault.STATE_STALE if sound else Fault.STATE_INVALID, text
