# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The lines that a person reads beside the arm: what is asked, how depth was reasoned, how late, what the arm does."""

from __future__ import annotations

from collections.abc import Mapping

from molmoact2_msgs.msg import ControllerStatus, ReasoningTrace

from ..ingest import stamp_ns
from .overlay import how_reasoned
from .plans import ArmPlans

STATES = {
    ControllerStatus.DISARMED: "disarmed",
    ControllerStatus.HOLDING: "holding",
    ControllerStatus.FOLLOWING: "following",
    ControllerStatus.STOPPING: "stopping",
    ControllerStatus.FAULT: "FAULT",
}


def captions(
    trace: ReasoningTrace | None, statuses: Mapping[str, ControllerStatus], plans: Mapping[str, ArmPlans], source: str
) -> list[str]:
    """trace: the newest; source: by what its codes are read."""
    lines = ["no inference yet"] if trace is None else _of_trace(trace, source)
    return [*lines, *(_of_arm(arm, status, plans.get(arm)) for arm, status in statuses.items())]


def _of_trace(trace: ReasoningTrace, source: str) -> list[str]:
    finished = trace.finished.sec * 1_000_000_000 + trace.finished.nanosec
    result = f"held back: {trace.withheld}" if trace.withheld else f"chunk {trace.chunk_id}"
    lines = [f"“{trace.instruction}”", f"{result}, {(finished - stamp_ns(trace)) / 1e9:.2f} s after capture"]
    depth = f"depth {how_reasoned(trace)}"
    if len(trace.refreshed):
        depth += f", {sum(trace.refreshed)} of {len(trace.refreshed)} cells anew"
    return [*lines, depth, f"codes shown by {source}"] if len(trace.codes) else [*lines, depth]


def _of_arm(name: str, status: ControllerStatus, plans: ArmPlans | None) -> str:
    state = STATES.get(status.state, f"state {status.state}")
    text = f"{name}: {state}"
    if status.fault_text:
        return f"{text}: {status.fault_text}"
    if plans is not None and plans.refusal:
        return f"{text}; refused: {plans.refusal}"
    if plans is not None and plans.seam is not None and plans.seam.gap is not None:
        return f"{text} chunk {status.chunk_id}, {plans.seam.gap * 1000:.0f} mm off the last one where it took over"
    if status.reason.startswith(state):
        return f"{name}: {status.reason}"
    return f"{text}: {status.reason}" if status.reason else text
