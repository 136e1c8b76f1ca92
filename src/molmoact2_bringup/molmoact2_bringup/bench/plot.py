# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Position, velocity and acceleration across chunk borders by joining rule; reactions to a changed scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .motion import UPSTREAM
from .reaction import Reaction
from .trace import Run

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
        steps = f"{run.border_step(1):.2f} rad/s, {run.border_step(2):.1f} rad/s²"
        axes[0][column].set_title(f"{run.case.rule}\nlargest step at a border: {steps}", fontsize=10)
        axes[-1][column].set_xlabel("time [s]; grey: a chunk arrives")
    for row in axes:
        # One scale for the rules; what holds and then plays would flatten them all.
        alike = [axis for axis, run in zip(row, runs, strict=True) if run.case.rule != UPSTREAM]
        low, high = (pick(axis.get_ylim()[end] for axis in alike) for pick, end in ((min, 0), (max, 1)))
        for axis in alike:
            axis.set_ylim(low, high)
    figure.suptitle(f"where chunks meet, L = {runs[0].case.latency:g} s. {note}", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plot_reactions(by_rule: Mapping[str, Sequence[Reaction]], latency: float, path: Path) -> None:
    """The slowest reaction of each rule, from a change of the scene just after an observation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 4.5))
    for rule, found in by_rule.items():
        slowest = max(found, key=lambda reaction: reaction.between + reaction.half)
        axis.plot(np.arange(len(slowest.difference)) / slowest.hz, slowest.difference, label=rule)
    ours = [r.between for rule, found in by_rule.items() if rule != UPSTREAM for r in found]
    axis.set_xlim(0, latency + max(r.between for found in by_rule.values() for r in found) + 1.0)
    axis.axvline(max(ours) + latency, color="0.85", zorder=0, label="2 L")
    axis.set_xlabel("time since the scene changed, just after an observation [s]")
    axis.set_ylabel("share of the new displacement that is reached")
    axis.set_title(f"reaction to a changed scene, L = {latency:g} s; its effect on the plan is scripted", fontsize=10)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
