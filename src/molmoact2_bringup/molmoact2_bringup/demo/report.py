# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the report of a run from its bag alone: video, plots, summary, and a page that shows them."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molmoact2_contract import Contract
from molmoact2_policy.bags.bag import Bag
from molmoact2_policy.report.run import read_run
from molmoact2_policy.report.summary import Summary, summarise
from molmoact2_policy.report.video import write_video

from .plots import write_depth, write_joints

SPREAD = {"count", "p50", "p95", "max"}
UNITS = (
    "Times in s, rates in Hz, ratios 0 to 1; joints in rad, grippers 0 (closed) to 1 (open). "
    "Latency runs from the capture of the main image to the reception of the chunk."
)


def make_report(bag: Path, contract: Contract, out: Path, progress: bool = False) -> Summary:
    """Writes demo.mp4, joints.png, depth.png, summary.json, summary.md and index.html into a folder.

    bag: a rosbag2 folder or .mcap file. out: made where it is missing; files of these names are replaced.
    progress: show a bar on stderr. Errors: BagError for a bag that cannot be read or is empty. What a readable bag
    lacks is a null in the summary, with the reason, and no error.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with Bag(bag) as opened:
        run = read_run(opened, contract)
        summary = summarise(run)
        write_joints(run, out / "joints.png")
        (out / "depth.png").unlink(missing_ok=True)
        absent = write_depth(opened, run, out / "depth.png")
        write_video(opened, run, out / "demo.mp4", progress)
    summary.files = {"video": out / "demo.mp4", "joints": out / "joints.png"}
    if absent:
        summary.missing["depth.png"] = absent
    else:
        summary.files["depth"] = out / "depth.png"
    _write_texts(summary, out)
    return summary


def _write_texts(summary: Summary, out: Path) -> None:
    for kind, name, text in (
        ("summary", "summary.json", summary.as_json()),
        ("summary_text", "summary.md", _markdown(summary)),
        ("page", "index.html", _page(summary)),
    ):
        (out / name).write_text(text, encoding="utf-8")
        summary.files[kind] = out / name


def _rows(figures: dict[str, Any], missing: dict[str, str], path: str = "") -> Iterator[tuple[str, str]]:
    """(name, value as text) of every figure, nested names joined by dots."""
    for key, value in figures.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict) and set(value) == SPREAD:
            yield name, f"p50 {value['p50']:g}, p95 {value['p95']:g}, max {value['max']:g} (of {value['count']})"
        elif isinstance(value, dict) and value:
            yield from _rows(value, missing, name)
        elif value is None:
            yield name, f"not known: {missing[name]}"
        elif value in ({}, []):
            yield name, "none"
        elif isinstance(value, float):
            yield name, f"{value:.4g}"
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)


def _markdown(summary: Summary) -> str:
    lines = ["# Summary of the run", "", *(f"* {line}" for line in summary.headline()), "", UNITS, ""]
    lines += ["| figure | value |", "|---|---|"]
    for name, value in _rows(summary.figures, summary.missing):
        escaped = value.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {name} | {escaped} |")
    return "\n".join(lines) + "\n"


STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2em auto; padding: 0 1em }
video, img { width: 100%; border-radius: 6px } h2 { margin-top: 2em }
table { border-collapse: collapse }
td { padding: .15em 1em .15em 0; border-bottom: 1px solid #e3e5e8; vertical-align: top }
td:first-child { color: #555b63; white-space: nowrap }"""


def _page(summary: Summary) -> str:
    rows = "\n".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in _rows(summary.figures, summary.missing)
    )
    depth = (
        '<img src="depth.png" alt="depth codes and refreshed cells at some moments">'
        if "depth" in summary.files
        else f"<p>No picture: {html.escape(summary.missing['depth.png'])}.</p>"
    )
    said = "".join(f"<li>{html.escape(line)}</li>" for line in summary.headline())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>MolmoAct2: a recorded run</title><style>{STYLE}</style>
<h1>A recorded run</h1>
<ul>{said}</ul>
<video src="demo.mp4" controls muted></video>
<h2>Joints</h2><img src="joints.png" alt="planned, commanded and measured joints over time">
<h2>Depth reasoning</h2>{depth}
<h2>Figures</h2><p>{UNITS}</p>
<table>{rows}</table>
</html>
"""
