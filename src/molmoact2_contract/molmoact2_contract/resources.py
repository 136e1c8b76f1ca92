# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where the suite's files lie: a path as given, or a name among what molmoact2_bringup installs."""

from __future__ import annotations

import os
from pathlib import Path

from .reading import ContractError


def share_folders() -> list[Path]:
    """Folders that may hold config/ and checkpoints/: the source tree (MOLMOACT2_ROOT), then the installed one."""
    folders = []
    root = os.environ.get("MOLMOACT2_ROOT")
    if root:
        folders.append(Path(root))
    try:
        from ament_index_python.packages import get_package_share_directory

        folders.append(Path(get_package_share_directory("molmoact2_bringup")))
    except (ImportError, LookupError):
        pass
    return folders


def find_resource(kind: str, name_or_path: str | Path, suffix: str = "") -> Path:
    """Path of a file or folder: as given where it exists, else `kind`/`name``suffix` among the suite's own.

    kind: e.g. "config/embodiments". Errors: ContractError that lists the names there are.
    """
    given = Path(name_or_path).expanduser()
    if given.exists() and (given.is_file() if suffix else True):
        return given.resolve()
    folders = [folder / kind for folder in share_folders()]
    for folder in folders:
        candidate = folder / f"{name_or_path}{suffix}"
        if candidate.exists():
            return candidate.resolve()
    there = {p for folder in folders for p in folder.glob(f"*{suffix}") if suffix or p.is_dir()}
    names = sorted({p.stem if suffix else p.name for p in there})
    raise ContractError(
        f"{name_or_path}: no such file, and no such name in {kind}; "
        f"names there: {', '.join(names) or 'none (source scripts/env.sh first)'}"
    )
