# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where the double of an arm is that has been given no place of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

CHANNEL = "double"    # of the driver's options: the double that stands for the arm


def default_link(arm: str) -> Path:
    """The port: in the user's runtime folder, else in a private temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else Path(tempfile.gettempdir()) / f"molmoact2-{os.getuid()}"
    return folder / f"molmoact2-yam-{arm}-{os.environ.get('ROS_DOMAIN_ID', '0')}.tty"
