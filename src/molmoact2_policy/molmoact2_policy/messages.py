# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Outcomes as messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from molmoact2_contract import Contract, NormTag
from molmoact2_msgs.msg import ActionChunk, InputStamp, PolicyStatus, ReasoningTrace, StageTiming

from .backend import Settings
from .runner import Outcome, Runner

DEPTH_MODES = {
    "off": ReasoningTrace.DEPTH_OFF,
    "full": ReasoningTrace.DEPTH_FULL,
    "adaptive": ReasoningTrace.DEPTH_ADAPTIVE,
    "forced": ReasoningTrace.DEPTH_FORCED,
    "verified": ReasoningTrace.DEPTH_VERIFIED,
    "adaptive_verified": ReasoningTrace.DEPTH_ADAPTIVE_VERIFIED,
}
WARN = DiagnosticStatus.WARN
RATE_WINDOW = 5.0    # [s]


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def chunk_message(outcome: Outcome, contract: Contract, tag: NormTag) -> ActionChunk:
    message = ActionChunk()
    message.header.stamp = time_message(outcome.observation.stamp_ns)
    message.chunk_id, message.episode_id = outcome.chunk_id, outcome.episode_id
    message.trace_id = trace_id(outcome)
    message.joint_names = list(contract.joint_names)
    message.dt, message.first_offset, message.first_offset_known = tag.dt, tag.first_offset, tag.first_offset_known
    message.horizon, message.frozen_count = len(outcome.actions), outcome.frozen
    message.positions = outcome.actions.ravel().tolist()
    message.state = outcome.observation.state.tolist()
    message.state_stamp = time_message(outcome.observation.state_stamp_ns)
    return message


def trace_id(outcome: Outcome) -> str:
    return f"{outcome.episode_id[:8]}-{outcome.number}"


def trace_message(outcome: Outcome, tag: NormTag, resolve: Callable[[str], str]) -> ReasoningTrace:
    """resolve: full name of a topic."""
    observation, trace = outcome.observation, outcome.inference.trace
    message = ReasoningTrace()
    message.header.stamp = time_message(observation.stamp_ns)
    message.header.frame_id = observation.inputs[0].frame_id
    message.trace_id, message.episode_id = trace_id(outcome), outcome.episode_id
    message.chunk_id = outcome.chunk_id
    message.withheld = outcome.withheld
    message.inputs = [
        InputStamp(
            kind=i.kind, topic=resolve(i.topic), frame_id=i.frame_id, stamp=time_message(i.stamp_ns),
            digest=list(i.digest),
        )
        for i in observation.inputs
    ]
    message.model_state, message.norm_tag = observation.model_state.tolist(), tag.name
    message.instruction, message.prompt = outcome.instruction, trace.prompt
    message.depth_mode, message.cause = DEPTH_MODES[trace.depth_mode], trace.cause
    cells = len(trace.depth_codes)
    if cells:
        # A checkpoint's grid is square, or one row where its number of codes is no square.
        side = int(round(cells**0.5))
        message.grid_rows, message.grid_cols = (side, side) if side * side == cells else (1, cells)
    message.codes = np.asarray(trace.depth_codes).tolist()
    message.refreshed = np.asarray(trace.refreshed, dtype=bool).tolist()
    message.cell_ages = np.asarray(trace.cell_ages).tolist()
    message.code_probs = np.asarray(trace.code_probs, dtype=np.float32).tolist()
    message.reused_runs, message.decoder_steps = trace.reused_runs, trace.decoder_steps
    message.generated_token_ids = np.asarray(trace.generated_token_ids).tolist()
    message.noise_seeded = trace.seed is not None
    message.noise_seed = trace.seed or 0
    if outcome.prefix is not None:
        message.prefix, message.prefix_frozen = outcome.prefix.actions.ravel().tolist(), outcome.prefix.frozen
        message.prefix_overlap = outcome.prefix.overlap
    if trace.clock is not None:
        message.clock_before, message.clock_after = trace.clock
    message.flow_steps = outcome.inference.flow_steps
    message.timings = [StageTiming(stage=stage, seconds=seconds) for stage, seconds in trace.timings.items()]
    message.started, message.finished = time_message(outcome.started_ns), time_message(outcome.finished_ns)
    message.observation_skew = observation.skew
    message.input_ages = [(outcome.started_ns - i.stamp_ns) / 1e9 for i in observation.inputs]
    message.warnings = list(outcome.warnings)
    return message


def status_message(
    state: int, process_id: str, settings: Settings, facts: Mapping[str, str], backend: str, runner: Runner | None,
    ages: Mapping[str, float], last_error: str, stamp: Time, fingerprint: str = "",
) -> PolicyStatus:
    """facts: what else its results depend on. runner: None before it is configured. ages: by topic [s], negative where
    nothing has come. fingerprint: of the checkpoint."""
    message = PolicyStatus(state=state, process_id=process_id, backend=backend, last_error=last_error)
    message.header.stamp = stamp
    message.checkpoint = facts.get("checkpoint", settings.checkpoint)
    message.norm_tag = settings.norm_tag
    message.checkpoint_fingerprint = fingerprint
    mode = "adaptive_verified" if settings.depth == "adaptive" and settings.draft else settings.depth
    message.depth_mode = DEPTH_MODES.get(mode, ReasoningTrace.DEPTH_OFF)
    message.setting_names, message.setting_values = list(facts), list(facts.values())
    message.input_topics, message.input_ages = list(ages), list(ages.values())
    if runner is None:
        return message
    statistics = runner.statistics
    message.arms = list(runner.arms)
    message.episode_id, message.instruction = runner.episode_id, runner.instruction
    message.inferences, message.chunks = statistics.inferences, statistics.chunks
    recent = [t for t in list(statistics.chunk_times) if time.monotonic() - t < RATE_WINDOW]
    message.chunk_rate = len(recent) / RATE_WINDOW
    message.latency_p50, message.latency_p95 = statistics.percentile(0.5), statistics.percentile(0.95)
    message.drop_reasons = list(statistics.drops)
    message.drop_counts = [statistics.drops[reason] for reason in message.drop_reasons]
    message.withheld = runner.silent_because if state == PolicyStatus.ACTIVE else ""
    return message


def diagnostics_message(status: PolicyStatus, standing_share: float) -> DiagnosticArray:
    """standing_share: the least share of time in which motion cannot go on at the present latency."""
    names = {0: "unconfigured", 1: "inactive", 2: "active", 3: "finalized", 4: "error"}
    text, level = names[status.state], DiagnosticStatus.OK
    if status.state == PolicyStatus.ERROR:
        text, level = status.last_error, DiagnosticStatus.ERROR
    elif status.withheld:
        text, level = f"no chunks: {status.withheld}", WARN
    elif standing_share > 0:
        text, level = f"chunks come too late: at least {standing_share:.0%} of the time is lost for motion", WARN
    values = [
        KeyValue(key="instruction", value=status.instruction),
        KeyValue(key="inferences", value=str(status.inferences)),
        KeyValue(key="chunks", value=str(status.chunks)),
        KeyValue(key="latency p50 [s]", value=f"{status.latency_p50:.3f}"),
        KeyValue(key="latency p95 [s]", value=f"{status.latency_p95:.3f}"),
        KeyValue(key="least share of time lost to latency", value=f"{standing_share:.2f}"),
    ]
    values += [
        KeyValue(key="least latency, made on purpose [s]", value=value)
        for name, value in zip(status.setting_names, status.setting_values, strict=True)
        if name == "least_latency" and float(value)
    ]
    values += [
        KeyValue(key=f"age of {topic} [s]", value=f"{age:.3f}" if age >= 0 else "none yet")
        for topic, age in zip(status.input_topics, status.input_ages, strict=True)
    ]
    values += [
        KeyValue(key=f"dropped: {reason}", value=str(count))
        for reason, count in zip(status.drop_reasons, status.drop_counts, strict=True)
    ]
    inference = DiagnosticStatus(
        level=level, name="policy: inference", message=text, hardware_id="policy", values=values
    )
    message = DiagnosticArray(status=[inference])
    message.header.stamp = status.header.stamp
    return message
