# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras as ROS 2 topics: sources of frames, what watches them, and the node."""
