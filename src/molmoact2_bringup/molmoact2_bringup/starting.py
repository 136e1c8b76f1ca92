# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How one process of a system file is started: its executable, its parameters, its command line."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from molmoact2_contract import ContractError, Process


def executable(process: Process) -> Path:
    """The file to run. Errors: ContractError where the package or the executable is not installed."""
    try:
        prefix = Path(get_package_prefix(process.package))
    except PackageNotFoundError as error:
        raise ContractError(
            f"process {process.name!r}: package {process.package!r} is not installed; "
            "build it, or source scripts/env.sh"
        ) from error
    path = prefix / "lib" / process.package / process.executable
    if not os.access(path, os.X_OK):
        there = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        raise ContractError(
            f"process {process.name!r}: package {process.package!r} has no executable {process.executable!r}; "
            f"it has: {', '.join(there) or 'none'}"
        )
    return path


def write_parameters(process: Process, folder: Path) -> Path:
    """Writes the ROS parameter file of one process; returns its path."""
    path = folder / f"{process.name}.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": process.parameters}}))
    return path


def command_of(process: Process, folder: Path) -> list[str]:
    """The command line of one process; its parameter file is written into the folder. Errors: ContractError."""
    command = [str(executable(process)), "--ros-args", "--params-file", str(write_parameters(process, folder))]
    for old, new in {"__node": process.name, **process.remap}.items():
        command += ["-r", f"{old}:={new}"]
    return command
