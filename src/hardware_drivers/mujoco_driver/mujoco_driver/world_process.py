# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The world's own process: physics and the servo bus, without ROS and without rendering.

rclpy holds Python's lock while it publishes, and drawing keeps a core busy; servos cannot wait for either. The node
that started this process asks it over a pipe, and it ends when the node's end of the pipe closes, whatever closed it.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from molmoact2_contract import Contract


@dataclass(frozen=True)
class Settings:
    """What the process is made of. address: of the servo bus; bus_fault: one of bus_faults.FAULTS."""

    contract: Contract
    scene: str
    seed: int
    address: str
    bus_fault: str


@dataclass(frozen=True)
class Ready:
    """The bus is served. privileges: what the process did not get, in words; empty: all of it."""

    privileges: str


@dataclass(frozen=True)
class Failed:
    """The world could not be made."""

    text: str


@dataclass(frozen=True)
class Report:
    """What has become of the world. stamp_ns: capture of the state that was tested, ROS time; tests: each test of
    success in words, and whether it held; dropped_seconds: simulated time left out since the start."""

    stamp_ns: int
    seed: int
    tests: dict[str, bool]
    dropped_seconds: float


def run(settings: Settings, node: Connection) -> None:
    """The process, until the node closes its end of the pipe or physics fails."""
    # A terminal's Ctrl-C reaches the node, which closes the pipe when it is ready to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A node that exits without closing it, e.g. because it was stopped while starting, has multiprocessing send this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Nothing is drawn here. Read when mujoco is imported, which therefore is not at the top; nor does the node need it.
    os.environ["MUJOCO_GL"] = "disable"
    from .world_service import serve

    serve(settings, node)
