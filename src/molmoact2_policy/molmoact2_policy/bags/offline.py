# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A bag written at leisure, by rosbags' own writer: what a report or a replay makes. A recorder uses BagWriter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from .definitions import typename_of
from .errors import BagError


def cdr(message: Any, store: Typestore) -> bytes:
    """A message of rclpy's own class as a bag holds it; rclpy leaves spare bytes behind it."""
    data = memoryview(serialize_message(message))
    definition = store.get_msgdef(typename_of(type(message)))
    _, length = definition.deserialize_cdr_le(data[4:], 0, definition.cls, store)
    return bytes(data[: 4 + length])


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
