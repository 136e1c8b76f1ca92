# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs as datasets to train on, and back: LeRobotDataset v3.0."""
