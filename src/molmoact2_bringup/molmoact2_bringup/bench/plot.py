# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Position, velocity and acceleration across chunk borders, one column for each joining rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .motion import UPSTREAM, Run

ROWS = (("position", "rad"), ("velocity", "rad/s"), ("acceleration", "rad/s²"))


def plot_borders(runs: Sequence[Run], joint: int, name: str, note: str, path: Path) -> None:
    """joint: which one to show; note: what the chunks are."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(ROWS), len(runs), figsize=(5.2 * len(runs), 8.5), sharex="col", squeeze=False
    )
    for column, run in enumerate(runs):
        seconds = np.arange(len(run.setpoints)) / run.hz
        for order, (what, unit) in enumerate(ROWS):
            axis = axes[order][column]
            for border in run.borders:
                axis.axvline(border / run.hz, color="0.85", linewidth=1, zorder=0)
            axis.plot(seconds, run.derivative(order)[:, joint], linewidth=1)
            if column == 0:
                axis.set_ylabel(f"{name} {what} [{unit}]")
        axes[0][column].set_title(
            f"{run.rule}\nlargest step at a border: {run.border_step(1):.2f} rad/s, {run.border_step(2):.1f} rad/s²",
            fontsize=10,
        )
        axes[-1][column].set_xlabel("time [s]; grey: a chunk arrives")
    for row in axes:
        # One scale for the rules; what holds and then plays would flatten them all.
        alike = [axis for axis, run in zip(row, runs, strict=True) if run.rule != UPSTREAM]
        low, high = (pick(axis.get_ylim()[end] for axis in alike) for pick, end in ((min, 0), (max, 1)))
        for axis in alike:
            axis.set_ylim(low, high)
    figure.suptitle(f"where chunks meet, L = {runs[0].latency:g} s. {note}", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
