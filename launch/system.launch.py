# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Starts a system from its system file, as `molmoact2 up` does.

    ros2 launch molmoact2_bringup system.launch.py system:=so101_sim

Arguments:
    system     name of a file in config/systems, or a path (default: so101_sim)
    log_level  log level of every node (default: info)
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from molmoact2_bringup.launching import system_actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("system", default_value="so101_sim", description="system file: a name or a path"),
            DeclareLaunchArgument("log_level", default_value="info", description="log level of every node"),
            OpaqueFunction(
                function=system_actions, args=[LaunchConfiguration("system"), LaunchConfiguration("log_level")]
            ),
        ]
    )
