# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Feedback: the device as the controller sees it, and whether what it says can be true. No ROS here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from molmoact2_contract import Arm, Contract

from .controller_state import Fault
from .driver import ArmDriver, ArmState, DriverError

MOMENT = 0.1    # [s] between two readings in which no joint can go farther than the contract's max_step
AHEAD = 0.05    # [s] that a reading's stamp may lie in the future; clocks of two machines may differ by this much

Value = TypeVar("Value")


class Feedback:
    """Asks one arm's driver, and remembers what came of it.

    measured: the newest joint state; None before the first. driver_failed: what the driver said last, empty where it
    did what it was asked. Every call raises DriverError where the driver fails, in whatever way. stopwatch: by it the
    device is waited for [s].
    """

    def __init__(
        self, contract: Contract, arm: Arm, driver: ArmDriver, stopwatch: Callable[[], float] = time.monotonic
    ):
        self._stopwatch = stopwatch
        self._arm, self._driver, self._timeout = arm, driver, contract.joint_state_timeout
        self._max_step = contract.values("max_step", arm.joints)
        self.measured: ArmState | None = None
        self.driver_failed = ""
        self._device_time = self._reading = 0.0
        self._leap = ""
        self._renewed = -math.inf    # steady-clock time of the last reading with a stamp of its own [s]

    # --- the device ---------------------------------------------------------------------------------------------------
    def read(self, steady: float) -> None:
        """Takes a joint state. steady: steady-clock time [s]."""
        before, began = self.measured, self._stopwatch()
        try:
            measured = self._ask(self._driver.read)
        finally:
            self._reading = self._stopwatch() - began
        if np.shape(measured.positions) != (len(self._arm.joints),):
            self.driver_failed = f"the driver gave positions {measured.positions!r} for {len(self._arm.joints)} joints"
            raise DriverError(self.driver_failed)
        self.measured = measured
        self._leap = self._leap_between(before, measured) if before is not None else ""
        if before is None or measured.stamp_ns != before.stamp_ns:
            self._renewed = steady

    def write(self, setpoint: np.ndarray) -> None:
        """Sends a setpoint (J,)."""
        self._ask(lambda: self._driver.write(setpoint))

    def guide(self) -> None:
        """Puts the arm in a person's hand."""
        self._ask(self._driver.guide)

    def hold(self) -> None:
        """Has the device hold where it is."""
        self._ask(self._driver.stop)

    def held(self) -> np.ndarray:
        """What the device holds at by itself (J,); NaN where that is not known."""
        held = self._driver.held()
        return np.full(len(self._arm.joints), np.nan) if held is None else held

    def recover(self) -> None:
        """Makes a device that has stopped itself ready again."""
        self._ask(self._driver.recover)

    def _ask(self, call: Callable[[], Value]) -> Value:
        began = self._stopwatch()
        try:
            value = call()
        except Exception as error:    # a driver that fails in a way of its own has failed all the same
            text = str(error) if isinstance(error, DriverError) else f"the driver failed in itself: {error!r}"
            self.driver_failed = text
            raise DriverError(text) from error
        finally:
            self._device_time += self._stopwatch() - began
        self.driver_failed = ""
        return value

    def take_device_time(self) -> float:
        """How long the device was waited for since this was last asked [s]."""
        waited, self._device_time = self._device_time, 0.0
        return waited

    # --- what it says -------------------------------------------------------------------------------------------------
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

    def blind(self, steady: float) -> tuple[Fault, str]:
        """Why nobody knows where the arm is, whatever ROS time says; Fault.NONE where that is known."""
        if self.measured is None:
            return Fault.STATE_STALE, "no joint state has been read"
        bad = ~np.isfinite(self.measured.positions)
        if bad.any():
            joint = self._arm.joints[int(np.argmax(bad))]
            return Fault.STATE_INVALID, f"the measured position of {joint!r} is not a number"
        old = steady - self._renewed
        if old > self._timeout:
            return Fault.STATE_STALE, f"the newest joint state has stood for {old:.3f} s, more than {self._timeout:g} s"
        return (Fault.STATE_INVALID, self._leap) if self._leap else (Fault.NONE, "")

    def fault(self, steady: float, now: float) -> tuple[Fault, str]:
        """Why the newest joint state must not be used; Fault.NONE where it may. steady, now: both clocks [s], before it
        was read."""
        fault, text = self.blind(steady)
        if fault or self.measured is None:
            return fault, text
        # What a device captured while it was waited for is no state of the future.
        age = now + self._reading - self.measured.stamp_ns / 1e9
        if age > self._timeout:
            return Fault.STATE_STALE, f"the newest joint state is {age:.3f} s old, more than {self._timeout:g} s"
        if age < -AHEAD:
            return Fault.STATE_INVALID, f"the newest joint state is stamped {-age:.3f} s in the future; check clocks"
        return Fault.NONE, ""
