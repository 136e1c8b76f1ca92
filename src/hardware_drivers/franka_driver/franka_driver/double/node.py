# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `double` of a Franka Research 3: a robot with its hand on a loopback address, as a process of a system."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from arm_controller.running import run_node
from mujoco_driver.double_node import REFUSALS, DoubleNode

from . import server
from .place import default_host


class FrankaDouble(DoubleNode):
    def _of_device(self) -> tuple[list[str], str]:
        host = self._declare("host", "", "a loopback address; empty: what host=double stands for") or default_host()
        return [sys.executable, "-m", server.__name__, "--host", host], server.__doc__ or ""

    def _positions(self, told: dict[str, Any]) -> np.ndarray:
        return np.append(told["positions"], np.clip(told["width"] / server.WIDTH, 0.0, 1.0))


def main() -> int:
    return run_node("double", FrankaDouble, *REFUSALS)


if __name__ == "__main__":
    sys.exit(main())
