# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Training: batches, objectives, recipes and the loop that runs them. No ROS."""
