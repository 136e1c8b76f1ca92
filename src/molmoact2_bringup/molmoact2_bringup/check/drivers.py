# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The devices before any process runs: is their driver there, do its options and its calibration fit, does the device
open, and how long does a reading take. No ROS here."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median

from arm_controller.driver import ArmDriver, DriverError, make_driver
from molmoact2_contract import Arm, Contract, ContractError, Process, System

from ..starting import executable
from .line import Line, failed, passed, skipped, warned
from .sensors import SLOW_BUS
from .wanted import controllers_of, publishers_of

READINGS = 100
GUIDES = "docs/robots"


def process_lines(system: System) -> list[Line]:
    """Whether what the system file names is installed, and is all that the robot needs."""
    missing = []
    for process in system.processes:
        try:
            executable(process)
        except ContractError as error:
            mend = "make build, then source scripts/env.sh; of two computers check each with its own system file"
            missing.append(failed("installed", str(error), mend))
    names = ", ".join(p.name for p in system.processes)
    lines = missing or [passed("installed", f"{names}: all are there")]
    for arm in system.contract.arms:
        if arm not in controllers_of(system):
            mend = f"add an arm_controller with the parameter arm: {arm} to {system.path}"
            lines.append(failed("controllers", f"no process of the system file moves arm {arm!r}", mend))
    published = publishers_of(system)
    beside = [camera for camera in system.contract.cameras if camera not in published]
    if beside:
        text = f"no process of the system file is camera {', '.join(beside)}"
        mend = "start what publishes it beside this, or add it (docs/cameras.md)"
        lines.append(warned("camera processes", text, mend))
    return lines


def stopping_line(arm: Arm) -> Line:
    """What stopping means on the real arm, as its contract says it."""
    what = f"stopping {arm.name}"
    if arm.stopping is None:    # which is refused of a real arm
        return skipped(what, "the contract does not say what stopping means on this arm")
    return passed(what, f"{arm.stopping} No software stop is an emergency stop ({GUIDES})")


def driver_of(process: Process, contract: Contract) -> ArmDriver:
    """The driver that a controller would use, not connected. Errors: DriverError, ContractError."""
    given = process.parameters
    options = list(given.get("driver_options", []))
    arm = contract.arm(str(given.get("arm", "arm")))
    try:
        return make_driver(str(given.get("driver", "")), contract, arm, options)
    except (DriverError, ContractError):
        raise
    except Exception as error:    # a driver that fails in a way of its own has failed all the same
        raise DriverError(f"the driver failed in itself: {error!r}") from error


def driver_line(arm: str, process: Process, contract: Contract) -> tuple[Line, ArmDriver | None]:
    """Whether the driver is installed, takes its options, and reads its calibration where it has one."""
    what, options = f"calibration {arm}", " ".join(process.parameters.get("driver_options", []))
    try:
        driver = driver_of(process, contract)
    except (DriverError, ContractError) as error:
        mend = f"correct driver_options of {process.name} in the system file ({GUIDES})"
        return failed(what, str(error), mend), None
    given = f"driver {process.parameters.get('driver')}" + (f" ({options})" if options else "")
    return passed(what, f"{given}: options and what they name are sound"), driver


def bus_line(
    arm: str, driver: ArmDriver, period: float, readings: int = READINGS,
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
) -> Line:
    """Opens the device, which moves nothing, reads it in the controller's rhythm, and closes it. period: of setpoints
    [s]."""
    what, took = f"bus {arm}", []
    try:
        driver.connect()
        for _ in range(readings):
            began = clock()
            driver.read()
            took.append(clock() - began)
            sleep(max(0.0, period - took[-1]))
    except Exception as error:
        known = isinstance(error, DriverError)
        text = str(error) if known else f"the driver failed in itself: {error!r}"
        opened = "stopped answering after it was opened" if took else "cannot be opened"
        return failed(what, f"the device {opened}: {text}", f"as the message says; else the robot's guide in {GUIDES}")
    finally:
        with suppress(DriverError):
            driver.close()
    text = f"a reading takes {median(took) * 1e3:.1f} ms (median of {readings}, slowest {max(took) * 1e3:.1f} ms)"
    text += f" of the {period * 1e3:.0f} ms between setpoints"
    if median(took) > period:
        return failed(what, text, SLOW_BUS)
    if max(took) > period:
        return warned(what, text, SLOW_BUS)
    return passed(what, text)
