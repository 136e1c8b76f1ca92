# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Shows a running system in rviz2, which a ROS distribution brings. Starts nothing else.

    ros2 launch molmoact2_bringup view.launch.py

Arguments:
    config       rviz configuration (default: config/rviz/molmoact2.rviz, for the SO-101)
    fixed_frame  frame that stands still (default: base_link)
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    shown = Path(get_package_share_directory("molmoact2_bringup")) / "config/rviz/molmoact2.rviz"
    config, frame = LaunchConfiguration("config"), LaunchConfiguration("fixed_frame")
    return LaunchDescription(
        [
            DeclareLaunchArgument("config", default_value=str(shown), description="rviz configuration"),
            DeclareLaunchArgument("fixed_frame", default_value="base_link", description="frame that stands still"),
            Node(package="rviz2", executable="rviz2", arguments=["-d", config, "-f", frame], output="screen"),
        ]
    )
