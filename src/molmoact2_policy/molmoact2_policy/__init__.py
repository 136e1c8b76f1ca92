# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes around the MolmoAct2 engine."""
