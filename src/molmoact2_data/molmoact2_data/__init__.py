# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Robot data sets: LeRobot's layout read and written, with statistics. No ROS and no model here."""
