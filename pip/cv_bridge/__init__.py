# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Between ROS image messages and OpenCV: the Python interface of ROS 2 Jazzy's cv_bridge.

For a ROS 2 that was installed from wheels, which lack the package.
"""

from .core import CvBridge
from .encodings import CvBridgeError, getCvType

__all__ = ["CvBridge", "CvBridgeError", "getCvType"]
