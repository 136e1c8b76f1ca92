# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A double of a YAM arm: Damiao motors behind a serial CAN adapter on a virtual port, with physics behind them.

Any program that speaks to such an adapter can speak to it: the driver here, and i2rt's own.
"""

from .adapter import Adapter
from .arm import DoubleArm
from .motor import Motor, Status
from .plants import MujocoPlant, Plant, SimplePlant

__all__ = ["Adapter", "DoubleArm", "Motor", "MujocoPlant", "Plant", "SimplePlant", "Status"]
