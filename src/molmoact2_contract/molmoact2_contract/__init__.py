# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot is, and what to start for it: embodiment contracts and system files, read once and checked.

No ROS is needed to import this package; of its modules `qos` and `messages` alone import it.
"""

from .compliance import Compliance
from .embodiment import Arm, Camera, Contract, Joint, JointFrame, Mount, NormTag, Urdf, load_contract
from .reading import ContractError
from .resources import find_resource, share_folders
from .stopping import Stopping
from .system import Process, System, load_system

__all__ = [
    "Arm",
    "Camera",
    "Compliance",
    "Contract",
    "ContractError",
    "Joint",
    "JointFrame",
    "Mount",
    "NormTag",
    "Process",
    "Stopping",
    "System",
    "Urdf",
    "find_resource",
    "share_folders",
    "load_contract",
    "load_system",
]
