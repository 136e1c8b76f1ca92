# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a robot may be run: what a careful person would look at before, line by line."""
