# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A double of an arm: STS3215 servos on a pseudo terminal, byte for byte, with the faults that real ones have."""
