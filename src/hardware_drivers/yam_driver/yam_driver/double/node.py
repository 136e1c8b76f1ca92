# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `double` of a YAM: the motors of one arm on a virtual port, as a process of a system."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from arm_controller.running import run_node
from mujoco_driver.double_node import REFUSALS, DoubleNode

from .command import HELP
from .place import default_link
from .plants import STROKE


class YamDouble(DoubleNode):
    def _of_device(self) -> tuple[list[str], str]:
        link = self._declare("link", "", "name of the port; empty: what channel=double stands for")
        plain = self._declare("plain", False, "joints without weight, in place of the arm's model")
        port = Path(link) if link else default_link(self._arm.name)
        port.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "yam_driver.double", "--link", str(port)]
        return command + (["--plain"] if plain else []), HELP

    def _positions(self, told: dict[str, Any]) -> np.ndarray:
        shafts = np.array(told["positions"])
        return np.append(shafts[:-1], np.clip(1.0 - shafts[-1] / STROKE, 0.0, 1.0))


def main() -> int:
    return run_node("double", YamDouble, *REFUSALS)


if __name__ == "__main__":
    sys.exit(main())
