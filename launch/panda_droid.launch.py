# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A real older Franka Panda: ros2 launch molmoact2_bringup panda_droid.launch.py"""

from launch import LaunchDescription

from molmoact2_bringup.launching import include_system


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([include_system("panda_droid")])
