# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the YAM share."""

RAISED = (0.3, 0.8, 0.9, 0.1, 0.1, 0.1, 3.0)    # away from the rest pose, shafts [rad]
