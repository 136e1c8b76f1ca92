# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""SO-100 and SO-101 arms: six STS3215 servos on one serial bus."""
