# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Who has a device open."""

from __future__ import annotations

import os
from pathlib import Path


def users_of(path: str | Path, root: Path = Path("/")) -> list[str]:
    """Other processes that have a file open, in words, as far as this user may see them; a link is followed. root:
    where /proc is (another in tests)."""
    found, real = [], os.path.realpath(path)
    for process in (root / "proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(os.readlink(link) == real for link in (process / "fd").iterdir()):
                found.append(f"{_name(process)} (process {process.name})")
        except OSError:    # another user's, or it ended meanwhile
            continue
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip() or "a process"
    except OSError:
        return "a process"
