# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What one tick leaves to be told: plain values, made in the setpoint process, told by the node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .controller import ArmController
from .controller_state import Cause, Fault, State


@dataclass(frozen=True)
class Snapshot:
    """The controller after a tick. Times in seconds, angles in rad, grippers 0 .. 1; arrays float64 (J,) or None.

    announced: the episode that the policy announces.
    """

    state: State
    reason: str
    paused: bool
    guided: bool
    cause: Cause
    waits: bool
    fault: Fault
    fault_text: str
    refusal: int
    refused_id: int
    refusal_text: str
    accepted: int
    refused: int
    announced: str
    chunk_id: int
    episode_id: str
    consumed: int
    waypoints_left: int
    latency: float
    seam_jump: float
    rate: float
    lag: float
    tracking_error: float
    tracking_joint: str
    ticks: int
    missed: int
    worst_late: float
    command: np.ndarray | None
    measured: np.ndarray | None
    measured_ns: int
    at_rest: bool


LONGEST = 400    # characters; texts may quote what came from outside


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def snapshot_of(controller: ArmController, worst_late: float) -> Snapshot:
    """worst_late: the latest a tick ever was [s]."""
    state, last, scheduler, counters = controller.state, controller.last, controller.scheduler, controller.counters
    command, measured = controller.command, controller.measured
    error, joint = 0.0, ""
    if command is not None and measured is not None and state.state != State.DISARMED:
        error, joint = controller.gate.tracking(command, measured.positions)
    return Snapshot(
        state=state.state,
        reason=_short(controller.reason),
        paused=state.paused,
        guided=state.guided,
        cause=state.cause,
        waits=state.waits(controller.now),
        fault=state.fault,
        fault_text=_short(state.fault_text),
        refusal=int(last.refusal),
        refused_id=last.refused_id,
        refusal_text=_short(last.refusal_text),
        accepted=counters.accepted,
        refused=counters.refused,
        announced=_short(controller.policy.episode_id),
        chunk_id=scheduler.chunk_id,
        episode_id=_short(scheduler.episode_id),
        consumed=last.consumed,
        waypoints_left=scheduler.waypoints_left,
        latency=last.latency,
        seam_jump=last.seam_jump,
        rate=controller.rate,
        lag=controller.lag,
        tracking_error=error,
        tracking_joint=joint,
        ticks=counters.ticks,
        missed=counters.missed,
        worst_late=worst_late,
        command=command,
        measured=None if measured is None else measured.positions,
        measured_ns=0 if measured is None else measured.stamp_ns,
        at_rest=controller.at_rest,
    )
