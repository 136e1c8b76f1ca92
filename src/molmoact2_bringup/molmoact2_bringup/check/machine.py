# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The computer: memory, disk, real-time rights, and what of ROS its environment sets. No ROS is needed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .line import Line, failed, passed, warned

MEMORY, DISK, REALTIME, ROS = "free memory", "disk", "real-time rights", "ROS"
WORKING = 1.3          # times the weights: activations and caches of an inference come on top
MIN_FREE = 256e6       # [bytes]; where the recorder stops (molmoact2 record --min-free)
RECORDING = 600.0      # [s] of recording that there should be room for
DEPLOYMENT = "docs/deployment.md"


def memory_line(needed: int, free: int, of: str, gpu: str = "") -> Line:
    """needed: bytes of the weights; gpu: one that stands idle."""
    text = f"{free / 1e9:.1f} GB of {of} are free, the weights take {needed / 1e9:.2f} GB"
    if needed > free:
        mend = "end what takes the memory, use another device, or policy.dtype=bfloat16"
        return failed(MEMORY, text, mend)
    if needed * WORKING > free:
        return warned(MEMORY, f"{text}; little is left for an inference", "end what else takes memory")
    if gpu:
        return warned(MEMORY, f"{text}; {gpu} stands idle", "set policy.device=cuda")
    return passed(MEMORY, text)


def disk_line(free: float, rate: float, folder: Path) -> Line:
    """rate: bytes per second that a recording of everything takes; 0 where nothing was heard."""
    text = f"{free / 1e9:.1f} GB are free where recordings go ({folder})"
    if free < MIN_FREE:
        return failed(DISK, text, "make room; the recorder stops below 256 MB")
    if not rate:
        return passed(DISK, text)
    lasts = (free - MIN_FREE) / rate
    text += f", room for {lasts / 60:.0f} min of recording at {rate / 1e6:.1f} MB/s"
    if lasts < RECORDING:
        return warned(DISK, text, "make room, or record with --images lossless or jpeg")
    return passed(DISK, text)


def free_disk(folder: Path) -> int:
    """Bytes that are free for a folder that need not be there yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def realtime_line(missing: str) -> Line:
    """missing: what the setpoint process would not get, in words; empty where it gets all."""
    if missing:
        return warned(
            REALTIME, f"setpoints may be late on a busy machine: {missing}",
            f"permit rtprio and memlock ({DEPLOYMENT}, Real time)",
        )
    return passed(REALTIME, "the setpoint process gets its priority, and its memory is locked")


def missing_rights() -> str:
    """Asks for the rights of a setpoint process in a process of its own; what was not permitted, in words."""
    code = "from arm_controller.setpoint_process import take_privileges; print(take_privileges())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else f"it could not be tried ({done.stderr.strip()[-200:]})"


def ros_line(environment: Mapping[str, str] | None = None) -> Line:
    """What decides who hears whom."""
    given = os.environ if environment is None else environment
    domain = given.get("ROS_DOMAIN_ID", "0")
    reach = given.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    text = f"domain {domain}, discovery {reach}, {given.get('RMW_IMPLEMENTATION', 'the default middleware')}"
    if reach.upper() not in ("LOCALHOST", "OFF"):
        return warned(
            ROS, f"{text}: everybody on this network can hear and command the robot",
            f"on one computer ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST; for two a cable of their own ({DEPLOYMENT})",
        )
    return passed(ROS, text)
