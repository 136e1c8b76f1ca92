# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is asked of a check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """running: listens to a system that runs instead of starting one; offline: touches no device; joint: of --move,
    empty: chosen; yes: asks nobody; seconds: of listening."""

    out: Path
    running: bool = False
    offline: bool = False
    move: bool = False
    joint: str = ""
    yes: bool = False
    seconds: float = 5.0
