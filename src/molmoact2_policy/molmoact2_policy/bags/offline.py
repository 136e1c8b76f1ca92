# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A bag written at leisure, by rosbags' own writer: what a report or a replay makes. A recorder uses BagWriter."""

from __future__ import annotations

from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer

from .errors import BagError


def open_writer(path: Path) -> Writer:
    """Errors: BagError."""
    if path.exists():
        raise BagError(f"bag {path} exists already; remove it or choose another path")
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    try:
        writer.open()
    except OSError as error:
        raise BagError(f"bag {path} cannot be created: {error}") from error
    return writer
