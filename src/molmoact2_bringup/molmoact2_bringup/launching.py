# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A system file as launch actions (needs launch and launch_ros, which a ROS distribution brings)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescriptionEntity
from launch.actions import (
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from molmoact2_contract import Process, System, load_system

from .holding import held_arms, what_next


def include_system(name: str) -> IncludeLaunchDescription:
    """The general launch file, for one system."""
    file = Path(get_package_share_directory("molmoact2_bringup")) / "launch" / "system.launch.py"
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(str(file)), launch_arguments={"system": name}.items())


def system_actions(
    context: LaunchContext, system: LaunchConfiguration, log_level: LaunchConfiguration
) -> list[LaunchDescriptionEntity]:
    """Launch actions for the system of that name: one node per process, lifecycles configured and activated.

    When one process ends, all are shut down, as with `molmoact2 up`; where real arms are moved, they are stopped, and
    their controllers run on.
    """
    arguments = ["--log-level", log_level.perform(context)]
    loaded = load_system(system.perform(context))
    actions: list[LaunchDescriptionEntity] = []
    dead: list[Process] = []
    for process in loaded.processes:
        if process.lifecycle:
            actions += _lifecycle_node(process, arguments, loaded, dead)
        else:
            actions.append(_node(process, Node, arguments, loaded, dead))
    return actions


def _failed(failure: str, system: System, dead: list[Process]) -> list[LaunchDescriptionEntity]:
    """What is done when something has failed. dead: all processes that have ended so far."""
    held = held_arms(system, dead)
    if not held:
        return [Shutdown(reason=failure)]
    stops = [
        ExecuteProcess(cmd=["ros2", "service", "call", f"/{arm}/stop", "std_srvs/srv/Trigger"], output="screen")
        for arm in held
    ]
    lost = [arm for arm in held_arms(system) if arm not in held]
    return [LogInfo(msg="\n".join(what_next(failure, system.contract, held, waits=False, dead=lost))), *stops]


def _on_exit(process: Process, system: System, dead: list[Process]) -> Callable[..., list[LaunchDescriptionEntity]]:
    """A process that ends by itself is a failure; one that ends with the system changes nothing."""

    def ended(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        if context.is_shutdown:
            return []
        dead.append(process)
        return _failed(f"process {event.process_name} ended with exit code {event.returncode}", system, dead)

    return ended


def _node(process: Process, kind: type[Node], arguments: list[str], system: System, dead: list[Process]) -> Node:
    return kind(
        package=process.package,
        executable=process.executable,
        name=process.name,
        namespace="",
        parameters=[process.parameters],
        remappings=list(process.remap.items()),
        ros_arguments=arguments,
        output="screen",
        on_exit=_on_exit(process, system, dead),
    )


def _lifecycle_node(
    process: Process, arguments: list[str], system: System, dead: list[Process]
) -> list[LaunchDescriptionEntity]:
    node = _node(process, LifecycleNode, arguments, system, dead)

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
    def not_brought_up(_: LaunchContext) -> list[LaunchDescriptionEntity]:
        return _failed(f"{process.name} could not be brought up (see its log)", system, dead)

    failed = [
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node, start_state=start, goal_state=goal,
                entities=[OpaqueFunction(function=not_brought_up)],
            )
        )
        for start, goal in (("configuring", "unconfigured"), ("activating", "inactive"))
    ]
    return [configure, activate, *failed, node]
