# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to the controller's own objects and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import JointState

from molmoact2_contract import Arm
from molmoact2_msgs.msg import ActionChunk, ControllerStatus

from .chunk import Chunk
from .controller_state import State
from .health import Health, figure, label, summary
from .snapshot import Snapshot

NAME = 200    # characters; no name is longer
OLD = 3.0     # [s]; readings come once a second


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


def cut_off(chunk: Chunk) -> Chunk:
    """A chunk that is refused for its shape, whatever it was."""
    return replace(chunk, episode_id=chunk.episode_id[:NAME], joint_names=chunk.joint_names[:1], positions=np.empty(0))


def joint_state_message(joints: tuple[str, ...], snapshot: Snapshot) -> JointState:
    assert snapshot.measured is not None
    message = JointState(name=list(joints), position=snapshot.measured.tolist())
    message.header.stamp = time_message(snapshot.measured_ns)
    return message


def status_message(snapshot: Snapshot, arm: Arm, joining: str, shadow: bool, stamp: Time) -> ControllerStatus:
    message = ControllerStatus()
    message.header.stamp, message.header.frame_id = stamp, arm.name
    message.state, message.paused, message.shadow = int(snapshot.state), snapshot.paused, shadow
    message.guided = snapshot.guided
    message.fault_code, message.fault_text, message.reason = int(snapshot.fault), snapshot.fault_text, snapshot.reason
    message.cause, message.waits_for_resume = int(snapshot.cause), snapshot.waits
    message.last_refusal, message.last_refused_chunk_id = snapshot.refusal, snapshot.refused_id
    message.last_refusal_text = snapshot.refusal_text
    message.accepted_chunks, message.refused_chunks = snapshot.accepted, snapshot.refused
    message.joining, message.chunk_id, message.episode_id = joining, snapshot.chunk_id, snapshot.episode_id
    message.waypoints_consumed_at_acceptance = snapshot.consumed
    message.waypoints_left = snapshot.waypoints_left
    message.acceptance_latency, message.seam_jump = snapshot.latency, snapshot.seam_jump
    message.path_rate, message.path_lag = snapshot.rate, snapshot.lag
    message.ticks, message.missed_ticks = snapshot.ticks, snapshot.missed
    message.joint_names = list(arm.joints)
    message.tracking_error, message.tracking_joint = snapshot.tracking_error, snapshot.tracking_joint
    if snapshot.measured is not None:
        message.measured = snapshot.measured.tolist()
    if snapshot.command is not None:
        message.setpoint = snapshot.command.tolist()
    return message


def diagnostics_message(
    snapshot: Snapshot, arm: Arm, privileges: str, silent: float, stamp: Time
) -> DiagnosticArray:
    """silent: for how long the setpoint process has said nothing, where that is too long [s]; else 0."""
    unwell = silent > 0 or snapshot.state == State.FAULT
    text = f"{snapshot.state.name.lower()}: {snapshot.reason}"
    status = DiagnosticStatus(
        level=DiagnosticStatus.ERROR if unwell else DiagnosticStatus.OK,
        name=f"{arm.name}: arm controller",
        message=f"the setpoint process has been silent for {silent:.1f} s; it said last: {text}" if silent else text,
        hardware_id=arm.name,
        values=[
            KeyValue(key="chunks accepted", value=str(snapshot.accepted)),
            KeyValue(key="chunks refused", value=str(snapshot.refused)),
            KeyValue(key="last refusal", value=snapshot.refusal_text),
            KeyValue(key="ticks", value=str(snapshot.ticks)),
            KeyValue(key="ticks more than half a period late", value=str(snapshot.missed)),
            KeyValue(key="latest tick [s]", value=f"{snapshot.worst_late:.4f}"),
            KeyValue(key="privileges not permitted", value=privileges or "none"),
        ],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def health_status(health: Health, arm: Arm, age: float) -> DiagnosticStatus:
    """What the driver reports of its device. age: for how long nothing new has come [s]."""
    worst, text = summary(health)
    status = DiagnosticStatus(
        level=bytes([worst]), name=f"{arm.name}: health", hardware_id=arm.name, message=text,
        values=[KeyValue(key=label(r), value=figure(r.value, r.unit)) for r in health.readings],
    )
    if age > OLD:
        status.level = DiagnosticStatus.STALE
        status.message = f"no readings for {age:.1f} s; these were the last: {text}"
    elif not health.readings and not health.failed:
        status.message = "the driver reports no readings"
    return status
