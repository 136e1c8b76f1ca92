# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A policy without a model, for robots that have no checkpoint, and for faults and benches: a slow sway."""
