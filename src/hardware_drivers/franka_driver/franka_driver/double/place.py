# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where the double of a system is: an address of this machine's own, another one in each ROS domain."""

from __future__ import annotations

import os

HOST = "double"    # of the driver's options: the double that stands for the robot


def default_host() -> str:
    return f"127.0.8.{1 + int(os.environ.get('ROS_DOMAIN_ID', '0')) % 250}"
