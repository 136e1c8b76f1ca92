# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A Franka Research 3 as an arm of the suite, through franky."""
