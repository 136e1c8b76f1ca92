# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A real Franka Research 3: ros2 launch molmoact2_bringup franka_droid.launch.py"""

from launch import LaunchDescription

from molmoact2_bringup.launching import include_system


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([include_system("franka_droid")])
