# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A double of a Franka Research 3 with its hand: it speaks libfranka's network protocol, also in the older Panda's
version, and fails on command."""
