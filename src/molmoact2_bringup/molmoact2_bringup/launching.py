# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A system file as launch actions (needs launch and launch_ros, which a ROS distribution brings)."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescriptionEntity
from launch.actions import EmitEvent, IncludeLaunchDescription, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from molmoact2_contract import Process, load_system


def include_system(name: str) -> IncludeLaunchDescription:
    """The general launch file, for one system."""
    file = Path(get_package_share_directory("molmoact2_bringup")) / "launch" / "system.launch.py"
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(str(file)), launch_arguments={"system": name}.items())


def system_actions(
    context: LaunchContext, system: LaunchConfiguration, log_level: LaunchConfiguration
) -> list[LaunchDescriptionEntity]:
    """Launch actions for the system of that name: one node per process, lifecycles configured and activated.

    When one process ends, all are shut down, as with `molmoact2 up`.
    """
    arguments = ["--log-level", log_level.perform(context)]
    actions: list[LaunchDescriptionEntity] = []
    for process in load_system(system.perform(context)).processes:
        actions += _lifecycle_node(process, arguments) if process.lifecycle else [_node(process, Node, arguments)]
    return actions


def _end_all(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """A process that ends by itself ends the system; one that ends with the system changes nothing."""
    if context.is_shutdown:
        return []
    return [Shutdown(reason=f"process {event.process_name} ended with exit code {event.returncode}")]


def _node(process: Process, kind: type[Node], arguments: list[str]) -> Node:
    return kind(
        package=process.package,
        executable=process.executable,
        name=process.name,
        namespace="",
        parameters=[process.parameters],
        remappings=list(process.remap.items()),
        ros_arguments=arguments,
        output="screen",
        on_exit=_end_all,
    )


def _lifecycle_node(process: Process, arguments: list[str]) -> list[LaunchDescriptionEntity]:
    node = _node(process, LifecycleNode, arguments)

    def change(transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    # Registered before the node starts, so that no event is missed.
    configure = RegisterEventHandler(
        OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node, start_state="configuring", goal_state="inactive",
            entities=[change(Transition.TRANSITION_ACTIVATE)],
        )
    )
    failed = [
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node, start_state=start, goal_state=goal,
                entities=[Shutdown(reason=f"{process.name} could not be brought up (see its log)")],
            )
        )
        for start, goal in (("configuring", "unconfigured"), ("activating", "inactive"))
    ]
    return [configure, activate, *failed, node]
