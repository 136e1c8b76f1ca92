# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The plots of a replay's report, each as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from molmoact2_model.picture import code_colours

from ..view.draw import REFRESHED
from .figures import RunFigures, action_difference

# Of the runs in their order; the first is broad, so that it shows below those that are equal to it.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#b7c0cc", "lw": 5},
    {"color": "#d9822b", "lw": 1.2, "marker": ".", "ms": 5},
    {"color": "#2a7f62", "lw": 1.2, "marker": ".", "ms": 5},
    {"color": "#7b4fa3", "lw": 1.2, "marker": ".", "ms": 5},
    {"color": "#c0392b", "lw": 1.2, "marker": ".", "ms": 5},
)
STAGES = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#bab0ac")
WIDTH, DPI = 12.0, 100
MOST_COLUMNS = 1500    # of inferences in a picture of cells; more are thinned out


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _figure(height: float, rows: int = 1, cols: int = 1, **options) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, cols, squeeze=False, **options)


def _times(run: RunFigures, start_ns: int) -> np.ndarray:
    return np.array([(row.stamp_ns - start_ns) / 1e9 for row in run.rows])


def _style(axis: Axes, label: str) -> None:
    axis.set_ylabel(label)
    axis.grid(color="#e3e5e8", lw=0.6)
    axis.set_axisbelow(True)


def depth_cells(run: RunFigures) -> bytes | None:
    """Cells over inferences: which were generated anew, and their codes. None without depth."""
    rows = [row for row in run.rows if len(row.codes)]
    if not rows:
        return None
    cells = max(len(row.codes) for row in rows)
    rows = [row for row in rows if len(row.codes) == cells]
    rows = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_COLUMNS)).astype(int))]
    codes, refreshed = np.stack([r.codes for r in rows], 1), np.stack([r.refreshed for r in rows], 1)
    colours = code_colours(int(codes.max()) + 1)[codes]
    marks = np.where(refreshed[..., None], np.array(REFRESHED, np.uint8), np.array((235, 238, 242), np.uint8))
    figure, axes = _figure(6.4, 2, sharex=True)
    for axis, picture, title in (
        (axes[0, 0], marks, "cells generated anew (orange), by inference"),
        (axes[1, 0], colours, "depth codes, coloured by code index (relative, not metres)"),
    ):
        axis.imshow(picture, aspect="auto", interpolation="nearest", extent=(-0.5, len(rows) - 0.5, cells, 0))
        axis.set_title(title, loc="left", fontsize=11)
        axis.set_ylabel("cell, row by row")
    axes[1, 0].set_xlabel("inference")
    return _png(figure)


def refresh_ratio(runs: Sequence[RunFigures], start_ns: int) -> bytes:
    figure, axes = _figure(2.8)
    for run, style in zip(runs, cycle(STYLES), strict=False):
        axes[0, 0].plot(_times(run, start_ns), run.refresh_ratio, label=run.name, **style)
    axes[0, 0].set_ylim(-0.03, 1.03)
    _style(axes[0, 0], "share of cells anew")
    axes[0, 0].set_xlabel("time [s]")
    axes[0, 0].legend(loc="upper right")
    return _png(figure)


def latency(runs: Sequence[RunFigures], start_ns: int) -> bytes:
    """Each run's stages, stacked."""
    figure, axes = _figure(2.4 * len(runs), len(runs), sharex=True, sharey=True)
    for axis, run in zip(axes[:, 0], runs, strict=True):
        stages = [stage for stage in run.stages if stage != "total"]
        values = [np.nan_to_num(run.seconds(stage)) for stage in stages]
        axis.stackplot(_times(run, start_ns), values, labels=stages, colors=STAGES)
        axis.plot(_times(run, start_ns), run.seconds("total"), color="black", lw=0.8, label="total")
        axis.set_title(run.name, loc="left", fontsize=11)
        _style(axis, "seconds")
    axes[0, 0].legend(loc="upper right", ncols=4, fontsize=9)
    axes[-1, 0].set_xlabel("time [s]")
    return _png(figure)


def seams(runs: Sequence[RunFigures], start_ns: int) -> bytes:
    figure, axes = _figure(2.8)
    for run, style in zip(runs, cycle(STYLES), strict=False):
        axes[0, 0].plot(_times(run, start_ns), run.seams, label=run.name, **style)
    _style(axes[0, 0], "largest step [rad, or of a gripper]")
    axes[0, 0].set_xlabel("time [s]")
    axes[0, 0].legend(loc="upper right")
    return _png(figure)


def open_loop(runs: Sequence[RunFigures]) -> bytes | None:
    """Per joint, over the step ahead. None where nothing was executed."""
    runs = [run for run in runs if run.open_loop.size and np.isfinite(run.open_loop).any()]
    if not runs:
        return None
    joints, cols = runs[0].joints, 3
    count = -(-len(joints) // cols)
    figure, axes = _figure(2.3 * count, count, cols, sharex=True)
    for index, axis in enumerate(axes.flat):
        axis.set_visible(index < len(joints))
        if index >= len(joints):
            continue
        for run, style in zip(runs, cycle(STYLES), strict=False):
            errors = run.open_loop[:, index]
            axis.plot(np.arange(1, len(errors) + 1), errors, label=run.name, **{**style, "marker": ""})
        axis.set_title(joints[index], loc="left", fontsize=11)
        axis.set_ylim(bottom=0)
        _style(axis, "")
    axes[0, 0].legend(fontsize=9)
    figure.supxlabel("step ahead", fontsize=11)
    figure.supylabel("mean |planned - measured| [rad, or of a gripper]", fontsize=10)
    return _png(figure)


def action_differences(runs: Sequence[RunFigures], start_ns: int) -> bytes:
    """Largest difference of the chunks from those of the first run, by inference."""
    base = {row.trace_id: row for row in runs[0].rows}
    figure, axes = _figure(2.8)
    for run, style in zip(runs[1:], cycle(STYLES[1:]), strict=False):
        values = [action_difference(r, base[r.trace_id]) if r.trace_id in base else np.nan for r in run.rows]
        axes[0, 0].plot(_times(run, start_ns), values, label=run.name, **style)
    _style(axes[0, 0], f"largest difference from {runs[0].name}\n[rad, or of a gripper]")
    axes[0, 0].set_xlabel("time [s]")
    axes[0, 0].legend(loc="upper right")
    return _png(figure)
