# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""An arm of the simulated world that goes where another arm is, so that the world's cameras see that one."""

from __future__ import annotations

import contextlib

import numpy as np

from arm_controller.driver import DriverError
from molmoact2_contract import Arm, Contract

from .driver import MujocoArmDriver


class Mirror:
    """The other arm does not feel what its image touches. address: path of the world's socket; patience: how long to
    wait for it to appear [s]. Errors: DriverError where it does not, or has no such arm.
    """

    def __init__(self, contract: Contract, arm: Arm, address: str, patience: float = 60.0):
        self._make = lambda patience: MujocoArmDriver(contract, arm, address, patience)
        self._image = self._make(patience)
        self._image.connect()

    def show(self, positions: np.ndarray) -> bool:
        """positions: (J,) in ROS units; returns whether the world took them. One that does not answer is looked for
        anew at the next call."""
        try:
            self._image.write(positions)
        except DriverError:
            self._image.close()
            self._image = self._make(0.0)
            with contextlib.suppress(DriverError):    # the next write fails, and it is looked for again
                self._image.connect()
            return False
        return True

    def close(self) -> None:
        self._image.close()
