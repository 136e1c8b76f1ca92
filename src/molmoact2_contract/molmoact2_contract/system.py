# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The system file: which processes to start for one robot, with which parameters.

`molmoact2 up` and `ros2 launch molmoact2_bringup system.launch.py` both read it, so both start the same.
The format is described in docs/system_file.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .embodiment import Contract, load_contract
from .reading import TOPIC, ContractError, Section, read_file
from .resources import find_resource

FORMAT = "molmoact2_system.v1"
PARAMETER_TYPES = (bool, int, float, str)


@dataclass(frozen=True)
class Process:
    """One process: an executable of a package, its node name, its ROS parameters, and topics and services that have
    other names for it."""

    name: str
    package: str
    executable: str
    lifecycle: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    remap: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """What to start for one robot. `processes` in starting order; lifecycles are brought up in that order too."""

    path: Path
    name: str
    simulation: bool
    contract: Contract
    processes: tuple[Process, ...]

    @property
    def controllers(self) -> dict[str, Process]:
        """The processes that move arms, by arm."""
        return {str(p.parameters.get("arm", "arm")): p for p in self.processes if p.executable == "arm_controller"}

    def process(self, name: str) -> Process:
        for process in self.processes:
            if process.name == name:
                return process
        raise ContractError(
            f"{self.path}: process {name!r} is not there; there are: {', '.join(p.name for p in self.processes)}"
        )


def load_system(name_or_path: str | Path) -> System:
    """Reads and checks a system file.

    name_or_path: a file, or the name of one in config/systems. Every process gets two parameters besides its own:
    `contract` (path of the contract) and `simulation`. Errors: ContractError naming file and line, also where the
    contract does not say what stopping means on a real arm that the system moves.
    """
    path = find_resource("config/systems", name_or_path, ".yaml")
    with read_file(path, FORMAT) as top:
        top.text("description", "-")
        simulation = top.flag("simulation", False)
        contract = _contract(top)
        shared = {"contract": str(contract.path), "simulation": simulation}
        processes = tuple(_process(name, section, shared) for name, section in top.sections("processes", ros=True))
    system = System(path, path.stem, simulation, contract, processes)
    _check_what_stopping_means_is_said(system)
    return system


def _check_what_stopping_means_is_said(system: System) -> None:
    """Of real arms, for whoever stands beside them."""
    for arm in () if system.simulation else system.controllers:
        if arm in system.contract.arms and system.contract.arm(arm).stopping is None:
            raise ContractError(
                f"{system.contract.path}: arms.{arm}.stopping is missing, which {system.path} needs because it moves a "
                "real arm; expected what disarm, fault, lost_state, process_death and close do to it, in a sentence "
                "each (docs/contract.md)"
            )


def _contract(top: Section) -> Contract:
    name = top.text("contract")
    try:
        return load_contract(name)
    except ContractError as error:
        raise top.error("contract", f"cannot be used: {error}") from error


def _process(name: str, section: Section, shared: dict[str, Any]) -> Process:
    with section as s:
        parameters = s.raw("parameters", {})
        if not isinstance(parameters, dict):
            raise s.error("parameters", "must be a mapping of parameter names to values")
        for key, value in parameters.items():
            values = value if isinstance(value, list) else [value]
            if key in shared or not values or not all(isinstance(v, PARAMETER_TYPES) for v in values):
                unfit = f"has a value ROS parameters cannot hold: {value!r}"
                what = "is set for every process" if key in shared else unfit
                raise s.error("parameters", f"key {key!r} {what}")
        package, executable, lifecycle = s.text("package"), s.text("executable"), s.flag("lifecycle", False)
        return Process(name, package, executable, lifecycle, {**shared, **parameters}, _remap(s))


def _remap(process: Section) -> dict[str, str]:
    if "remap" not in process:
        return {}
    with process.section("remap") as s:
        names = {name: s.text(name) for name in s.given}
        for old, new in names.items():
            if not TOPIC.fullmatch(old) or not TOPIC.fullmatch(new):
                raise s.error(old, f"must be the name of a topic or service, for another such name, not {new!r}")
        return names
