# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""I2RT YAM arms: the driver of one arm (driver.py) and a double of its motors (double/). No ROS here."""
