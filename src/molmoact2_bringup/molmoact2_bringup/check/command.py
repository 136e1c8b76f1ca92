# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 check`: looks at everything in order. Nothing moves without --move."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from molmoact2_contract import ContractError, System, load_system

from ..up import with_settings
from . import machine
from .devices import DeviceCheck
from .drivers import bus_line, driver_line, process_lines, stopping_line
from .line import FAIL, failed, skipped
from .move import MOVE
from .moving import check_move
from .no_policy import NoPolicy, absent, elsewhere_line
from .options import Options
from .report import Interrupted, Report
from .wanted import configuration_of, controllers_of, policy_of

if TYPE_CHECKING:    # of the computer with the policy
    from molmoact2_policy.parameters import Configuration

    from .checkpoint import Known
    from .policy import PolicyCheck

OK, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 130
LOG = "log.txt"


def check(system_name: str, settings: list[str], options: Options) -> int:
    """Returns 0 when nothing failed, 1 when something did, 2 for bad input, 130 after Ctrl-C."""
    try:
        system = with_settings(load_system(system_name), settings)
        if options.move and (options.running or options.offline):
            raise ContractError("--move starts the arm's controller itself: without --running and --offline")
        options.out.mkdir(parents=True, exist_ok=True)
    except (ContractError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    report = Report(options.out, system.name)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)    # as Ctrl-C
    try:
        with (options.out / LOG).open("w") as log:
            _check(system, options, report, lambda text: print(text, file=log, flush=True))
    except (Interrupted, KeyboardInterrupt):
        print(f"\nstopped; until then: {report.write()}", flush=True)
        return STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"\n{report.write()}; all of it in {options.out}", flush=True)
    return FAILED if report.failed else OK


def _check(system: System, options: Options, report: Report, log: Callable[[str], None]) -> None:
    report.add(process_lines(system))
    policy, configuration, known = _policy(system, report)
    if not options.running:    # of a policy that runs no second one is loaded beside it
        policy.load()
    devices = DeviceCheck(system, configuration, known, options, report, log)
    # A device that is opened may be another system's, so that one is looked for first.
    unfit = _drivers(system, report, may_open=not options.offline and devices.look_around())
    if options.offline:
        report.add(skipped("devices", "--offline: no device was touched"))
        policy.ask(None)
        rate = 0.0
    else:
        rate = devices.run(unfit, policy)
    policy.close()
    _machine(report, rate)
    if options.move:
        bad = list(dict.fromkeys(line.name for line in report.lines if line.outcome == FAIL))
        if bad:
            report.add(skipped(MOVE, f"nothing was armed, for what failed above: {', '.join(bad)}"))
        else:
            report.add(check_move(system, options, unfit, log))


def _policy(system: System, report: Report) -> tuple[PolicyCheck | NoPolicy, Configuration | None, Known | None]:
    package = absent()
    if package:
        report.add(elsewhere_line(package))
        return NoPolicy(), None, None
    from molmoact2_policy.node import make_backend

    from .policy import PolicyCheck

    configuration, known = _policy_files(system, report)
    return PolicyCheck(system, configuration, known, report, make_backend), configuration, known


def _policy_files(system: System, report: Report) -> tuple[Configuration | None, Known | None]:
    from .checkpoint import look, unknown

    process = policy_of(system)
    if process is None:
        report.add(unknown("the system file has no policy"))
        return None, None
    try:
        configuration = configuration_of(process)
    except ContractError as error:
        report.add(failed("policy settings", str(error), f"correct the parameters of {process.name} in {system.path}"))
        report.add(unknown("see the line above"))
        return None, None
    if configuration.remote is not None and not Path(configuration.settings.checkpoint or "-").is_dir():
        report.add(unknown(f"the server {configuration.remote.url} has the checkpoint"))
        return configuration, None
    print(f"reading {configuration.settings.checkpoint}", file=sys.stderr, flush=True)
    lines, known = look(configuration.settings, configuration.contract, configuration.tag)
    report.add(lines)
    return configuration, known


def _drivers(system: System, report: Report, may_open: bool) -> tuple[str, ...]:
    """Returns the names of controllers whose device does not open, which are not started."""
    unfit = []
    for arm, process in controllers_of(system).items():
        if arm in system.contract.arms:    # else its driver's line says that it is not
            report.add(stopping_line(system.contract.arm(arm)))
        line, driver = driver_line(arm, process, system.contract)
        report.add(line)
        if driver is None:
            unfit.append(process.name)
        # A simulated device is there only while its processes run; one that runs belongs to its controller.
        elif may_open and not system.simulation:
            line = bus_line(arm, driver, 1.0 / system.contract.setpoint_hz)
            report.add(line)
            if line.outcome == FAIL:
                unfit.append(process.name)
    return tuple(unfit)


def _machine(report: Report, rate: float) -> None:
    place = Path("out/bags")
    report.add(machine.disk_line(machine.free_disk(place), rate, place))
    report.add(machine.realtime_line(machine.missing_rights()))
    report.add(machine.ros_line())
