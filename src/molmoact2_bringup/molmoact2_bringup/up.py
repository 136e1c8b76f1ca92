# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 up`: starts a system and keeps it running until Ctrl-C or until one of its processes ends."""

from __future__ import annotations

import sys
from dataclasses import replace

import yaml

from molmoact2_contract import ContractError, Process, System, load_system
from molmoact2_contract.reading import parse

from .lifecycle import BringUpError
from .running import RunningSystem, Stopped, SystemEnded

BAD_INPUT, FAILED, OK = 2, 1, 0


def with_settings(system: System, settings: list[str]) -> System:
    """The system with single parameters changed.

    settings: texts "process.parameter=value", the value in YAML. Errors: ContractError for an unknown process,
    a parameter that the system file does not set, or a text of another form.
    """
    processes = {p.name: p for p in system.processes}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, parameter = target.partition(".")
        if not (equals and dot and parameter):
            raise ContractError(f"--set {setting!r}: expected process.parameter=value")
        process: Process = system.process(name)
        if parameter not in process.parameters:
            raise ContractError(
                f"--set {setting!r}: {system.path} sets no such parameter for {name}; "
                f"it sets: {', '.join(sorted(process.parameters))}"
            )
        try:
            changed = {**processes[name].parameters, parameter: parse(value)}
        except yaml.YAMLError as error:
            raise ContractError(f"--set {setting!r}: the value is not YAML ({error})") from error
        if changed[parameter] is None:
            raise ContractError(f"--set {setting!r}: the value is empty; an empty text is written as ''")
        processes[name] = replace(processes[name], parameters=changed)
    return replace(system, processes=tuple(processes[p.name] for p in system.processes))


def double_of(system_name: str) -> str:
    """The system with a double in place of its device: a name, or a path beside the given one."""
    return system_name.removesuffix(".yaml") + "_double" + (".yaml" if system_name.endswith(".yaml") else "")


def up(system_name: str, settings: list[str], seconds: float | None) -> int:
    """Runs a system. Returns 0 after Ctrl-C or when the time is over, 1 when it failed, 2 for a bad system file."""
    try:
        system = with_settings(load_system(system_name), settings)
        with RunningSystem(system) as running:
            running.bring_up()
            print(f"[up] {system.name} is running; Ctrl-C ends it", flush=True)
            running.wait(seconds)
    except ContractError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except (BringUpError, SystemEnded) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except Stopped:
        print("[up] stopped while starting", flush=True)
    for exit_ in running.unclean:
        print(f"error: on stopping, {exit_}", file=sys.stderr)
    return FAILED if running.unclean or running.died else OK
