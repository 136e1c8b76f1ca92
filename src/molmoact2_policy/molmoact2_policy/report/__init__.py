# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a recorded run tells: its figures and its video. Shared by the demo and by replay."""
