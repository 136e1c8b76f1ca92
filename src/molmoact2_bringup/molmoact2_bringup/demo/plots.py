# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The still pictures of a run: joints over time, and some moments of depth reasoning side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from molmoact2_contract import Joint
from molmoact2_policy.bags.bag import Bag, stamp_ns
from molmoact2_policy.report.run import Run, Timed, frames
from molmoact2_policy.report.summary import acceptances, state_spans
from molmoact2_policy.report.video import largest_code
from molmoact2_policy.view.draw import (
    BACKGROUND,
    CODES_TITLE,
    FAINT,
    STATE_COLOURS,
    TEXT,
    clipped,
    depth_codes,
    font,
    picture,
    refreshed_cells,
)

COMMANDED, MEASURED, PLANNED, BORDER = "#d1495b", "#1f4e79", "#e0a526", "#7a7f87"
DPI, WIDTH = 100, 16.0                          # 1600 px
LEAST_SPAN = 0.05                               # a joint's axis shows at least this much [rad, or of a gripper]
MOMENTS, CELL, GAP = 6, (400, 300), 16


def write_joints(run: Run, path: Path) -> None:
    """Draws joints.png: for each joint what was planned, commanded and measured, below the controllers' states."""
    names = list(run.contract.joints)
    arms = list(run.contract.arms)
    heights = [0.32] * len(arms) + [1.35] * len(names)
    figure = Figure(figsize=(WIDTH, 1.75 + sum(heights) * 1.1), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for arm, axis in zip(arms, axes, strict=False):
        _draw_states(axis, run, arm)
    for name, axis in zip(names, axes[len(arms):], strict=True):
        arm = next(a.name for a in run.contract.arms.values() if name in a.joints)
        _draw_joint(axis, run, run.contract.joints[name], run.controllers[arm])
    axes[-1].set_xlabel("robot time [s], from the first recorded message")
    axes[-1].xaxis.set_major_locator(MaxNLocator(16, steps=[1, 2, 5, 10]))
    axes[-1].set_xlim(0, max(run.duration, 1e-3))
    title = f"{run.contract.embodiment}: planned, commanded and measured joints"
    figure.suptitle(title, fontsize=15, x=0.01, ha="left")
    figure.legend(handles=_legend(), loc="outside upper right", ncols=5, fontsize=10, frameon=False)
    figure.supxlabel(_sources(run), fontsize=9.5, color="#555b63", x=0.01, ha="left")
    FigureCanvasAgg(figure).print_png(str(path))


def _legend() -> list[Any]:
    return [
        Line2D([], [], color=MEASURED, lw=1.6, label="measured"),
        Line2D([], [], color=COMMANDED, lw=1.4, marker=".", ms=5, label="commanded"),
        Line2D([], [], color=PLANNED, lw=1.0, alpha=0.7, label="planned (chunks)"),
        Line2D([], [], color=BORDER, lw=0.7, label="chunk accepted"),
        Patch(facecolor="#f3d5d5", label="outside position limits"),
    ]


def _sources(run: Run) -> str:
    commanded = max((len(statuses) for statuses in run.controllers.values()), default=0)
    measured = max((len(points) for points in run.measured.values()), default=0)
    seconds = max(run.duration, 1e-3)
    return (
        f"measured: joint_states ({measured / seconds:.0f}/s);  commanded: last setpoint in each ControllerStatus "
        f"({commanded / seconds:.0f}/s, so faster detail lies between the dots);  "
        f"planned: waypoints of the {len(run.chunks)} published chunks, each at its own time"
    )


def _draw_states(axis: Axes, run: Run, arm: str) -> None:
    present = []
    for state, start, end in state_spans(run, run.controllers[arm]):
        axis.axvspan(run.seconds(start), run.seconds(end), color=STATE_COLOURS.get(state, "#000000"), lw=0)
        present.append(state)
        if end - start > 0.06 * (run.end_ns - run.start_ns):
            middle = (run.seconds(start) + run.seconds(end)) / 2
            axis.text(middle, 0.5, state, color="white", fontsize=10, ha="center", va="center")
    if not present:
        axis.text(0.01, 0.5, f"no message on /{arm}/status", transform=axis.transAxes, fontsize=10, va="center")
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    axis.set_ylabel(arm, rotation=0, ha="right", va="center", fontsize=11)
    axis.tick_params(bottom=False)


def _draw_joint(axis: Axes, run: Run, joint: Joint, statuses: list[Timed]) -> None:
    planned = [line for c in run.chunks if (line := _plan(run, c.message, joint.name)) is not None]
    measured = np.array([(run.seconds(t), v) for t, v in run.measured[joint.name]]).reshape(-1, 2)
    commanded = np.array(list(_setpoints(run, statuses, joint.name))).reshape(-1, 2)
    for status in acceptances(statuses):
        axis.axvline(run.seconds(stamp_ns(status.message.header.stamp)), color=BORDER, lw=0.6, alpha=0.55, zorder=1)
    axis.add_collection(LineCollection(planned, colors=PLANNED, linewidths=1.0, alpha=0.55, zorder=2), autolim=False)
    axis.plot(*measured.T, color=MEASURED, lw=1.6, zorder=3)
    axis.plot(*commanded.T, color=COMMANDED, lw=1.0, marker=".", ms=4, zorder=4)
    _scale(axis, joint, [measured[:, 1], commanded[:, 1], *(line[:, 1] for line in planned)])
    unit = "0 closed … 1 open" if joint.is_gripper else "rad"
    axis.set_ylabel(f"{joint.name}\n[{unit}]", fontsize=10)
    axis.grid(axis="y", color="#e3e5e8", lw=0.6, zorder=0)
    axis.text(
        1.004, 0.5, f"limits\n{joint.upper:.2f}\n{joint.lower:.2f}", transform=axis.transAxes,
        fontsize=9, color="#8a4b4b", va="center",
    )
    if not len(measured) and not len(commanded):
        axis.text(0.01, 0.5, "neither measured nor commanded values recorded", transform=axis.transAxes, va="center")


def _plan(run: Run, chunk: Any, joint: str) -> np.ndarray | None:
    """(robot time, target) of each waypoint of a chunk for one joint: (horizon, 2)."""
    names = list(chunk.joint_names)
    if joint not in names or len(chunk.positions) != chunk.horizon * len(names):
        return None
    targets = np.asarray(chunk.positions).reshape(chunk.horizon, len(names))[:, names.index(joint)]
    times = run.seconds(stamp_ns(chunk.header.stamp)) + (np.arange(chunk.horizon) + chunk.first_offset) * chunk.dt
    return np.column_stack([times, targets])


def _setpoints(run: Run, statuses: list[Timed], joint: str):
    for status in statuses:
        names, setpoint = list(status.message.joint_names), status.message.setpoint
        if joint in names and len(setpoint) == len(names):
            yield run.seconds(stamp_ns(status.message.header.stamp)), float(setpoint[names.index(joint)])


def _scale(axis: Axes, joint: Joint, values: list[np.ndarray]) -> None:
    """Shows where the joint was, at least LEAST_SPAN of it, and shades what lies outside its limits."""
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    low, high = (known.min(), known.max()) if len(known) else (joint.lower, joint.upper)
    room = max(0.12 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    axis.set_ylim(low - room, high + room)
    for start, end in ((joint.upper, max(high + room, joint.upper)), (min(low - room, joint.lower), joint.lower)):
        if end > start:
            axis.axhspan(start, end, color="#f3d5d5", lw=0, zorder=0)


def write_depth(bag: Bag, run: Run, path: Path) -> str | None:
    """Draws depth.png: about six moments, each as main image, refreshed cells and codes. Returns why not, else None."""
    with_codes = [t.message for t in run.traces if len(t.message.codes)]
    if not with_codes:
        return "no recorded trace carries depth codes"
    picks = np.unique(np.linspace(0, len(with_codes) - 1, MOMENTS).round().astype(int))
    moments = [with_codes[i] for i in picks]
    images = _main_images(bag, run, {stamp_ns(m.header.stamp) for m in moments})
    row_height, top = CELL[1] + 38, largest_code(run)
    sheet = Image.new("RGB", (3 * CELL[0] + 4 * GAP, 52 + len(moments) * row_height + 4), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    titles = (f"main image ({run.cameras[0].name})", "cells generated anew, age of others", CODES_TITLE)
    for index, title in enumerate(titles):
        draw.text((GAP + index * (CELL[0] + GAP), 26), title, TEXT, font(16, bold=True), anchor="ls")
    for row, message in enumerate(moments):
        image = images.get(stamp_ns(message.header.stamp))
        y = 62 + row * row_height
        panels = (
            picture(image, CELL, "the image of this inference was not recorded"),
            refreshed_cells(image, message, CELL),
            depth_codes(message, CELL, top),
        )
        text = clipped(_moment(run, message), font(15), sheet.width - 2 * GAP)
        draw.text((GAP, y - 7), text, FAINT, font(15), anchor="ls")
        for index, panel in enumerate(panels):
            sheet.paste(panel, (GAP + index * (CELL[0] + GAP), y))
    sheet.save(path)
    return None


def _moment(run: Run, message: Any) -> str:
    mode = run.names.depth_mode[message.depth_mode]
    cause = f" ({message.cause})" if message.cause else ""
    refreshed = f"{int(np.sum(message.refreshed))} of {len(message.refreshed)} cells generated anew"
    seconds = run.seconds(stamp_ns(message.header.stamp))
    return f"{seconds:.2f} s   chunk {message.chunk_id}   depth {mode}{cause}   {refreshed}"


def _main_images(bag: Bag, run: Run, stamps: set[int]) -> dict[int, np.ndarray]:
    main = run.cameras[0].name
    return {f.stamp_ns: f.image for f in frames(bag, run.contract) if f.camera == main and f.stamp_ns in stamps}
