# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How fast the engine is, stage by stage: beside itself without its optimisations, and beside what the device allows.
"""
