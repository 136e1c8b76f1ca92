# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Any arm that ros2_control moves, as an arm of the suite."""
