# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""report.html and summary.json of an evaluation."""

from __future__ import annotations

import html
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from molmoact2_policy.report.film import Film
from molmoact2_policy.report.html import film, picture, table, write_html
from molmoact2_policy.view.draw import font
from mujoco_driver.render import Eyes
from mujoco_driver.tabletop import RATE, Tabletop
from mujoco_driver.variation import apply_variation

from .attempts import Attempt, Named, compared, summary
from .folder import write_whole
from .truth import FILM_EVERY

FAST, LIVE = "fast", "live"
FAILURES = 3              # whose videos a condition shows, beside one success
SIZE = (240, 320)         # of each camera in a video (height, width)
CAPTION = 24              # pixels
TO_SUCCESS = "_to_success"
INTERVALS = (
    "Intervals are Wilson's, 95 %. Differences are of the same scenes, with Newcombe's interval for pairs. Cells are "
    "of the inferences after an attempt's first, decoder steps of all."
)
OF_SYSTEMS = (
    "A test of success must hold for a third of a second. Latency is from an image's capture to an accepted chunk's "
    "arrival; in mode fast it is as asked for even where the inference itself took longer. The judge's gap is the "
    "longest time for which it did not look, lost time what the simulated world left out."
)
OF_ENVIRONMENTS = (
    "Success is what the environment says, which waits for each inference: latency is the time that one takes, and "
    "there is no judge, and no controller that refuses chunks."
)


@dataclass(frozen=True)
class Found:
    """What came of one condition. mode: FAST or LIVE."""

    condition: Named
    mode: str
    attempts: Sequence[Attempt]

    @property
    def summary(self) -> dict[str, Any]:
        return {"mode": self.mode} | summary(self.condition, self.attempts)


def write_results(out: Path, facts: Mapping[str, Any], found: Sequence[Found], table_: Tabletop | None) -> None:
    """facts: what was judged and how, in words. table_: of the scene, to draw videos with; None: no videos."""
    summaries = [one.summary for one in found]
    content = {**facts, "conditions": summaries, "against_first": _against(found), "modes": _modes(found)}
    write_whole(out / "summary.json", (json.dumps(content, indent=1) + "\n").encode())
    films: list[str] = []
    if table_ is not None:
        eyes = Eyes(table_.scene, SIZE)
        try:
            films = [part for one in found for part in _films(one, table_, eyes)]
        finally:
            eyes.close()
    both_modes = [
        (
            row["condition"], *(_share(row[mode]) for mode in (FAST, LIVE)), _share(row["same"]),
            _points(row["difference"], row["interval"]),
        )
        for row in content["modes"]
    ]
    against = [
        (
            f"{row['condition']} ({row['mode']})", _points(row["difference"], row["interval"]), _share(row["same"]),
            *((None, None) if row["steps"] is None else (f"{100 * steps:.0f} %" for steps in (
                row["steps"], 1 / row["steps"]
            ))),
        )
        for row in content["against_first"]
    ]
    doubtful = [(_named(s), ", ".join(map(str, s["doubtful"]))) for s in summaries if s["doubtful"]]
    write_html(out / "report.html", str(facts["title"]), [
        f"<h1>{html.escape(str(facts['title']))}</h1>",
        table(("", ""), [(name, value) for name, value in facts.items() if name != "title"]),
        "<h2>Success</h2>",
        picture(_plot(summaries), "success of each condition with its interval", ""),
        _table(summaries),
        f"<p class='faint'>{INTERVALS} {OF_ENVIRONMENTS if table_ is None else OF_SYSTEMS}</p>",
        "<h2>Reasons of failure</h2>",
        table(("condition", "reason", "scenes"), [
            (_named(s), reason, count) for s in summaries for reason, count in s["failures"].items()
        ]),
        *(["<h2>Against the first condition of the same task and mode</h2>", table(
            ("condition", "success", "scenes that end the same way", "decoder steps, of the first's",
             "the first's, of these"), against
        )] if against else []),
        *(["<h2>How far fast and live agree</h2>", table(
            ("condition", FAST, LIVE, "scenes that end the same way", "live - fast"), both_modes
        )] if both_modes else []),
        *(["<h2>Doubtful scenes</h2>", "<p>The judge looked away for too long, or the simulated world left time out, "
           "because the machine was busy. They are counted all the same.</p>",
           table(("condition", "scenes"), doubtful)] if doubtful else []),
        *(["<h2>Videos</h2>", *films] if films else []),
    ])    # fmt: skip


def _modes(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Conditions that were tried in both modes, and by how much they differ."""
    rows = []
    for live in (one for one in found if one.mode == LIVE):
        for fast in (one for one in found if one.mode == FAST and one.condition == live.condition):
            row = _compared(fast, live)
            if row is not None:    # else it was interrupted before
                shares = {one.mode: (one.summary["successes"], one.summary["n"]) for one in (fast, live)}
                rows.append({"condition": live.condition.name, **shares, **row})
    return rows


def _against(found: Sequence[Found]) -> list[dict[str, Any]]:
    """How each condition differs from the first of its task and mode. steps: the ratio of their decoder steps."""
    rows, firsts = [], dict[tuple[str, str], Found]()
    for one in found:
        first = firsts.setdefault((one.condition.task, one.mode), one)
        row = None if one is first else _compared(first, one)
        if row is not None:
            steps = first.summary["decoder_steps"], one.summary["decoder_steps"]
            rows.append({
                "condition": one.condition.name, "mode": one.mode, "first": first.condition.name, **row,
                "steps": steps[1] / steps[0] if all(steps) else None,
            })    # fmt: skip
    return rows


def _compared(before: Found, after: Found) -> dict[str, Any] | None:
    """Of the scenes that both tried."""
    ends = ({attempt.seed: attempt.success for attempt in one.attempts} for one in (before, after))
    result = compared(*ends)
    if result is None:
        return None
    return {"difference": result.change, "interval": result.interval, "same": (result.same, result.scenes)}


def _table(summaries: Sequence[Mapping[str, Any]]) -> str:
    unit = next(name for name in summaries[0] if name.endswith(TO_SUCCESS)).removesuffix(TO_SUCCESS)
    rows = []
    for s in summaries:
        low, high = (round(100 * bound) for bound in s["interval"])
        latency, inference = (
            None if s[f"{what}_p50"] is None else f"{s[f'{what}_p50']:.2f} / {s[f'{what}_p95']:.2f}"
            for what in ("latency", "inference")
        )
        rows.append((
            _named(s), _share((s["successes"], s["n"])), f"{low} to {high} %", _soon(s),
            _rounded(s[unit + TO_SUCCESS], 1), latency, inference, _rounded(s["refreshed"], 2),
            _rounded(s["decoder_steps"], 1),
            f"{s['refused_chunks']} / {s['withheld_chunks']}",
            f"{s['longest_gap']:.2f} / {s['dropped_seconds']:.2f}",
        ))    # fmt: skip
    head = (
        "condition (mode)", "success", "interval", "in an expert's time", unit + " to success", "latency p50 / p95 [s]",
        "inference p50 / p95 [s]", "cells generated anew", "decoder steps", "chunks refused / withheld",
        "judge's gap / lost time [s]",
    )    # fmt: skip
    return table(head, rows)


def _named(one: Mapping[str, Any]) -> str:
    return f"{one['condition']} ({one['mode']})"


def _soon(one: Mapping[str, Any]) -> str | None:
    count = one["successes_at_first"]
    return None if count is None else f"{count} in {one['first_try']:g} s"


def _share(counts: Sequence[int]) -> str:
    return f"{counts[0]} of {counts[1]}"


def _points(change: float, interval: Sequence[float]) -> str:
    return f"{100 * change:+.0f} points ({100 * interval[0]:+.0f} to {100 * interval[1]:+.0f})"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _plot(summaries: Sequence[Mapping[str, Any]]) -> bytes:
    figure = Figure(figsize=(12, 1.2 + 0.36 * len(summaries)), dpi=100, layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(summaries))[::-1]
    for place, s in zip(places, summaries, strict=True):
        low, high = s["interval"]
        axis.plot([100 * low, 100 * high], [place, place], color="#4c78a8", lw=6, alpha=0.35, solid_capstyle="butt")
        axis.plot(100 * (s["success"] or 0), place, "o", color="#1f4e79")
    axis.set_yticks(places, [_named(s) for s in summaries], fontsize=9)
    axis.set_xlim(0, 101)
    axis.set_xlabel("success [%], with Wilson's 95 % interval")
    axis.grid(axis="x", color="#e3e5e8", lw=0.6)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


# --- videos -----------------------------------------------------------------------------------------------------------
def _films(found: Found, table_: Tabletop, eyes: Eyes) -> list[str]:
    seen = [attempt for attempt in found.attempts if attempt.film]
    failed = [attempt for attempt in seen if not attempt.success][:FAILURES]
    chosen = failed + [attempt for attempt in seen if attempt.success][:1]
    parts = [f"<h3>{html.escape(_named(found.summary))}</h3>"] if chosen else []
    for attempt in chosen:
        words = "succeeded" if attempt.success else attempt.reason
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "attempt.mp4"
            _write_film(path, attempt, table_, eyes)
            parts.append(f"<p>Scene {attempt.seed}, “{html.escape(attempt.instruction)}”: {html.escape(words)}</p>")
            parts.append(film(path))
    return parts


def _write_film(path: Path, attempt: Attempt, table_: Tabletop, eyes: Eyes) -> None:
    height, width = SIZE
    cameras = table_.scene.cameras
    apply_variation(table_.scene, attempt.seed)
    data = mujoco.MjData(table_.model)
    with Film(path, RATE // FILM_EVERY, (width * len(cameras), height + CAPTION)) as video:
        for index, qpos in enumerate(attempt.film):
            data.qpos[:] = qpos
            mujoco.mj_kinematics(table_.model, data)
            mujoco.mj_camlight(table_.model, data)
            sheet = Image.new("RGB", (width * len(cameras), height + CAPTION), "white")
            for place, image in enumerate(eyes.look(data)[0].values()):
                sheet.paste(Image.fromarray(image), (place * width, CAPTION))
            text = f"{attempt.instruction}   {index * FILM_EVERY / RATE:.1f} s"
            ImageDraw.Draw(sheet).text((6, CAPTION // 2), text, "black", font(14), anchor="lm")
            video.add(sheet)
