# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The figures of one run of a policy over a bag, the recorded one or another: what the report compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..bags.bag import stamp_ns
from ..messages import DEPTH_MODES

MODES = {number: name for name, number in DEPTH_MODES.items()}


@dataclass(frozen=True)
class Row:
    """One inference.

    seconds: of each stage. seam: largest step over all joints from the chunk before to this one at the time this one
    was ready, before any joining; NaN where there was nothing to step from. actions float32 (H, J).
    """

    trace_id: str
    stamp_ns: int
    mode: str
    seconds: Mapping[str, float]
    decoder_steps: int
    codes: np.ndarray
    refreshed: np.ndarray
    actions: np.ndarray
    seam: float


@dataclass
class RunFigures:
    """One run, about 2 kB for each inference. open_loop: float64 (H, J), see OpenLoop; joints: its columns."""

    name: str
    joints: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    open_loop: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    _last: tuple[str, np.ndarray, np.ndarray] | None = None

    def add(self, trace: Any, chunk: Any | None, ready_ns: int) -> None:
        """trace, chunk: messages; ready_ns: when the result was ready, ROS time."""
        actions, seam = np.zeros((0, len(self.joints)), np.float32), float("nan")
        if chunk is not None:
            plan = np.asarray(chunk.positions, np.float64).reshape(int(chunk.horizon), -1)
            stamp = stamp_ns(chunk.header.stamp) / 1e9
            times = stamp + (np.arange(len(plan)) + float(chunk.first_offset)) * float(chunk.dt)
            seam = self._seam(trace.episode_id, times, plan, ready_ns / 1e9)
            self._last, actions = (trace.episode_id, times, plan), plan.astype(np.float32)
        self.rows.append(
            Row(
                str(trace.trace_id), stamp_ns(trace.header.stamp), MODES.get(int(trace.depth_mode), "?"),
                {str(t.stage): float(t.seconds) for t in trace.timings}, int(trace.decoder_steps),
                np.array(trace.codes, np.uint16), np.array(trace.refreshed, bool), actions, seam,
            )
        )

    def _seam(self, episode: str, times: np.ndarray, plan: np.ndarray, ready: float) -> float:
        if self._last is None or self._last[0] != episode or self._last[2].shape[1] != plan.shape[1]:
            return float("nan")
        _, old_times, old = self._last
        at = max(ready, times[0])
        if at > old_times[-1] or at > times[-1]:
            return float("nan")
        steps = [
            np.interp(at, times, new) - np.interp(at, old_times, before)
            for new, before in zip(plan.T, old.T, strict=True)
        ]
        return float(np.abs(steps).max())

    # --- figures ------------------------------------------------------------------------------------------------------
    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(stage for row in self.rows for stage in row.seconds))

    def seconds(self, stage: str) -> np.ndarray:
        return np.array([row.seconds.get(stage, np.nan) for row in self.rows])

    @property
    def refresh_ratio(self) -> np.ndarray:
        """Share of cells generated anew, by inference; NaN without depth."""
        return np.array([row.refreshed.mean() if len(row.refreshed) else np.nan for row in self.rows])

    @property
    def seams(self) -> np.ndarray:
        return np.array([row.seam for row in self.rows])

    def summary(self) -> dict[str, Any]:
        """Figures for summary.json; None where there is nothing to count."""
        return {
            "inferences": len(self.rows),
            "refresh_ratio": _mean(self.refresh_ratio),
            "decoder_steps": _mean(np.array([row.decoder_steps for row in self.rows], float)),
            "seconds": {stage: _spread(self.seconds(stage)) for stage in self.stages},
            "seams": _spread(self.seams),
            "open_loop_error": {
                joint: _mean(column) for joint, column in zip(self.joints, self.open_loop.T, strict=False)
            },
            "open_loop_error_by_step_ahead": [_mean(row) for row in self.open_loop],
        }

    def against(self, other: RunFigures) -> dict[str, Any]:
        """How this run differs from another over the same inferences."""
        rows = {row.trace_id: row for row in other.rows}
        pairs = [(row, rows[row.trace_id]) for row in self.rows if row.trace_id in rows]
        codes = [np.mean(a.codes == b.codes) for a, b in pairs if len(a.codes) and len(a.codes) == len(b.codes)]
        steps = np.array([action_difference(a, b) for a, b in pairs])
        return {
            "inferences_of_both": len(pairs),
            "codes_equal": _mean(np.array(codes)),
            "largest_action_difference": _spread(steps),
        }


def action_difference(a: Row, b: Row) -> float:
    """Largest |difference| over the waypoints of two chunks; NaN where one has none."""
    horizon = min(len(a.actions), len(b.actions))
    if not horizon or a.actions.shape[1] != b.actions.shape[1]:
        return float("nan")
    return float(np.abs(a.actions[:horizon] - b.actions[:horizon]).max())


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]


def _mean(values: np.ndarray) -> float | None:
    finite = _finite(values)
    return _short(finite.mean()) if len(finite) else None


def _spread(values: np.ndarray) -> dict[str, float] | None:
    finite = _finite(values)
    if not len(finite):
        return None
    p50, p95 = np.percentile(finite, [50, 95])
    return {"p50": _short(p50), "p95": _short(p95), "max": _short(finite.max())}


def _short(value: float) -> float:
    return float(f"{value:.4g}")
