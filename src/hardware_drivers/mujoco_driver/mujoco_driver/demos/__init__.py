# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of tasks in the simulated scenes, as data sets to train on."""
