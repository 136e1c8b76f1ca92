# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a replay leaves in its folder besides the new bag: summary.json and report.html."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..bags.bag import Bag, Names
from ..report.run import CHUNKS, TRACES, Timed, read_run
from ..report.video import write_video
from .figures import MODES, RunFigures
from .output import PREFIX
from .page import write_page
from .replay import Replayed


def write_report(
    bag: Path, out: Path, replayed: Replayed, compared: Sequence[tuple[RunFigures, Mapping[str, str]]],
    video_seconds: float, progress: bool,
) -> None:
    """Writes both files.

    compared: other runs over the same bag, with their settings. video_seconds: how much of the bag the video covers; 0:
    no video. Errors: BagError.
    """
    runs, settings = [replayed.new], [replayed.facts]
    if replayed.recorded is not None:
        runs, settings = [replayed.recorded, *runs], [replayed.recorded_facts, *settings]
    runs, settings = runs + [run for run, _ in compared], settings + [facts for _, facts in compared]
    text = json.dumps(summary(bag, replayed, runs), indent=2, allow_nan=False)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")
    seconds = {"replay": round(replayed.elapsed, 3), "in_the_model": round(replayed.in_the_model, 3)}
    with tempfile.TemporaryDirectory(prefix="molmoact2-") as folder:
        video = _video(bag, out, replayed, Path(folder), video_seconds, progress) if video_seconds > 0 else None
        write_page(out / "report.html", f"Replay of {bag}", replayed.tally, runs, settings, video, seconds)


def summary(bag: Path, replayed: Replayed, runs: Sequence[RunFigures]) -> dict[str, Any]:
    """Contents of summary.json. Times in seconds, ratios 0 .. 1, joints in the units of ROS."""
    open_loop = [[float(v) if np.isfinite(v) else None for v in row] for row in replayed.new.open_loop]
    return {
        "bag": str(bag),
        "settings": dict(replayed.facts),
        "recorded_settings": dict(replayed.recorded_facts),
        **replayed.tally.as_figures(),
        "runs": {run.name: run.summary() for run in runs},
        "differences": {run.name: run.against(runs[0]) for run in runs[1:]},
        "seconds": {"replay": round(replayed.elapsed, 3), "in_the_model": round(replayed.in_the_model, 3)},
        "joints": list(replayed.new.joints),
        "open_loop": open_loop,
    }


def _video(bag: Path, out: Path, replayed: Replayed, folder: Path, seconds: float, progress: bool) -> Path:
    """The cameras as recorded, and the depth reasoning of the new run, at the recorded times."""
    path = folder / "video.mp4"
    with Bag(bag) as recorded, Bag(out / "bag") as made:
        assert recorded.span_ns is not None
        until = recorded.span_ns[0] + round(seconds * 1e9)
        run = read_run(recorded, replayed.robot.contract, until)
        run.traces, run.chunks = [], []
        run.names.depth_mode = Names(MODES)
        lists = {PREFIX + TRACES: run.traces, PREFIX + CHUNKS: run.chunks}
        for topic, _, message, receive_ns in made.messages(lists):
            if receive_ns > until:
                break
            lists[topic].append(Timed(receive_ns, message))
        write_video(recorded, run, path, progress)
    return path
