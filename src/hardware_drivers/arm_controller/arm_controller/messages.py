# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to the controller's own objects and back."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import JointState

from molmoact2_msgs.msg import ActionChunk, ControllerStatus

from .chunk import Chunk
from .controller import ArmController
from .controller_state import State
from .driver import ArmState


def seconds(stamp: Time) -> float:
    return stamp.sec + stamp.nanosec * 1e-9


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def chunk_of(message: ActionChunk) -> Chunk:
    return Chunk(
        chunk_id=message.chunk_id,
        episode_id=message.episode_id,
        stamp=seconds(message.header.stamp),
        dt=message.dt,
        first_offset=message.first_offset,
        horizon=message.horizon,
        joint_names=tuple(message.joint_names),
        positions=np.array(message.positions, dtype=np.float64),
    )


def joint_state_message(joints: tuple[str, ...], state: ArmState) -> JointState:
    message = JointState(name=list(joints), position=state.positions.tolist())
    message.header.stamp = time_message(state.stamp_ns)
    return message


def status_message(controller: ArmController, stamp: Time) -> ControllerStatus:
    state, last, scheduler = controller.state, controller.last, controller.scheduler
    message = ControllerStatus()
    message.header.stamp, message.header.frame_id = stamp, controller.arm_spec.name
    message.state, message.paused, message.shadow = int(state.state), state.paused, controller.shadow
    message.fault_code, message.fault_text, message.reason = int(state.fault), state.fault_text, controller.reason
    message.last_refusal, message.last_refused_chunk_id = int(last.refusal), last.refused_id
    message.last_refusal_text = last.refusal_text
    message.accepted_chunks, message.refused_chunks = controller.counters.accepted, controller.counters.refused
    message.joining, message.chunk_id = scheduler.rule, scheduler.chunk_id
    message.episode_id = scheduler.episode_id
    message.waypoints_consumed_at_acceptance = last.consumed
    message.waypoints_left = scheduler.waypoints_left
    message.acceptance_latency, message.seam_jump = last.latency, last.seam_jump
    message.path_rate, message.path_lag = controller.rate, controller.lag
    message.ticks, message.missed_ticks = controller.counters.ticks, controller.counters.missed
    message.joint_names = list(controller.arm_spec.joints)
    if controller.measured is not None:
        message.measured = controller.measured.positions.tolist()
        if controller.command is not None:
            message.setpoint = controller.command.tolist()
            error, joint = controller.gate.tracking(controller.command, controller.measured.positions)
            if state.state != State.DISARMED:
                message.tracking_error, message.tracking_joint = error, joint
    return message


def diagnostics_message(controller: ArmController, stamp: Time) -> DiagnosticArray:
    state, counters = controller.state, controller.counters
    level = DiagnosticStatus.ERROR if state.state == State.FAULT else DiagnosticStatus.OK
    status = DiagnosticStatus(
        level=level,
        name=f"{controller.arm_spec.name}: arm controller",
        message=f"{state.state.name.lower()}: {controller.reason}",
        hardware_id=controller.arm_spec.name,
        values=[
            KeyValue(key="chunks accepted", value=str(counters.accepted)),
            KeyValue(key="chunks refused", value=str(counters.refused)),
            KeyValue(key="last refusal", value=controller.last.refusal_text),
            KeyValue(key="ticks", value=str(counters.ticks)),
            KeyValue(key="ticks more than half a period late", value=str(counters.missed)),
        ],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
