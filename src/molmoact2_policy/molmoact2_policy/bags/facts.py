# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a bag holds besides messages: with what it was recorded. All of it is text, by name."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from rclpy.serialization import deserialize_message

from molmoact2_contract import Contract, System
from molmoact2_msgs.msg import PolicyStatus

PACKAGES = ("torch", "transformers", "numpy", "opencv-python", "opencv-python-headless", "rosbags", "mujoco")
OUR_PACKAGES = ("molmoact2_contract", "molmoact2_model", "molmoact2_policy", "molmoact2_bringup", "arm_controller")


def facts_of(contract: Contract | None, system: System | None) -> dict[str, str]:
    """The files that describe the robot, as they are now, and the versions of the software."""
    facts = {"molmoact2_versions": json.dumps(versions())}
    if system is not None:
        facts |= {"molmoact2_system": system.name, "molmoact2_system_file": _read(system.path)}
    if contract is not None:
        facts |= {"molmoact2_contract": contract.path.stem, "molmoact2_contract_file": _read(contract.path)}
    return facts


def versions() -> dict[str, str]:
    """By name; what is not installed is left out. commit: of the source tree, where there is one."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "ros_distro": os.environ.get("ROS_DISTRO", ""),
        "rmw": os.environ.get("RMW_IMPLEMENTATION", ""),
    }
    for name in (*OUR_PACKAGES, *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit = _git("rev-parse", "HEAD")
    if commit:
        found["commit"] = commit + (" with changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return {name: version for name, version in found.items() if version}


def facts_of_policy(data: bytes) -> dict[str, str]:
    """What a policy/status (CDR) says of the checkpoint; nothing before the policy is configured."""
    status = deserialize_message(data, PolicyStatus)
    if not status.checkpoint:
        return {}
    return {
        "molmoact2_checkpoint": status.checkpoint,
        "molmoact2_checkpoint_fingerprint": status.checkpoint_fingerprint,
        "molmoact2_norm_tag": status.norm_tag,
    }


def _read(path: Path) -> str:
    return path.read_text("utf8")


def _git(*arguments: str) -> str:
    root = os.environ.get("MOLMOACT2_ROOT", "")
    if not root:
        return ""
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, timeout=10.0)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
