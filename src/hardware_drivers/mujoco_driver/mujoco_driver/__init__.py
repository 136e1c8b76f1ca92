# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated robots in MuJoCo: a world in a process of its own, and the driver that reaches its arms."""
