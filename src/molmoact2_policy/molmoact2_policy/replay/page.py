# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""report.html: one file that needs nothing else, no network either."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..report.html import film, picture, table, write_html
from . import plots
from .equality import INPUTS, RESULTS
from .figures import RunFigures
from .tally import Tally


def write_page(
    path: Path, title: str, tally: Tally, runs: Sequence[RunFigures], settings: Sequence[Mapping[str, str]],
    video: Path | None, seconds: Mapping[str, float],
) -> None:
    """runs: the recorded one first where there is one, each with its settings."""
    start_ns = min((row.stamp_ns for run in runs for row in run.rows), default=0)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _headline(tally),
        _video(video),
        "<h2>Equality with the recording</h2>",
        _equality(tally),
        "<h2>Depth</h2>",
        *(_depth(run) for run in runs if run.name != "recorded"),
        picture(plots.refresh_ratio(runs, start_ns), "share of cells generated anew over time", ""),
        "<h2>Latency by stage</h2>",
        picture(plots.latency(runs, start_ns), "seconds of each stage over time", ""),
        _stages(runs),
        "<h2>Seams</h2>",
        "<p>The largest step over all joints from the chunk before to the new one, at the time it was ready, as "
        "planned: what a controller has to join.</p>",
        picture(plots.seams(runs, start_ns), "steps at chunk borders", ""),
        "<h2>Open-loop error</h2>",
        "<p>How far each waypoint lay from where the joint then was, by how many steps ahead it was planned. The arm "
        "followed the recorded chunks, not the others.</p>",
        picture(plots.open_loop(runs), "error per joint and step ahead", "No joint states were recorded meanwhile."),
        "<h2>Comparison</h2>",
        picture(plots.action_differences(runs, start_ns), "difference of actions", "") if len(runs) > 1 else "",
        _comparison(runs),
        "<h2>Settings</h2>",
        _settings(runs, settings),
        f"<p class='faint'>It took {seconds['replay']:g} s, {seconds['in_the_model']:g} s of them in the model.</p>",
        _lists(tally),
    ]
    write_html(path, title, parts)


def _headline(tally: Tally) -> str:
    items = []
    for line in tally.headline():
        kind = "bad" if "NOT EQUAL" in line else "good" if "bit by bit" in line else ""
        items.append(f'<li class="{kind}">{html.escape(line)}</li>')
    return f"<ul>{''.join(items)}</ul>"


def _video(video: Path | None) -> str:
    return film(video) if video is not None else '<p class="faint">No video was asked for.</p>'


def _equality(tally: Tally) -> str:
    if not tally.compared:
        return '<p class="faint">Nothing was recorded to compare with.</p>'
    rows = [
        (name, tally.equal[name], tally.unequal[name], tally.unknown[name],
         "no" if (tally.inputs_unpromised if name in INPUTS else tally.unpromised) else "yes")
        for name in (*INPUTS, *RESULTS)
    ]
    return table(("", "equal", "not equal", "nothing to compare with", "equality promised"), rows)


def _depth(run: RunFigures) -> str:
    cells = picture(plots.depth_cells(run), "depth codes and refreshed cells over time", "Depth was off.")
    return f"<h3>{html.escape(run.name)}</h3>{cells}"


def _stages(runs: Sequence[RunFigures]) -> str:
    summaries = [run.summary()["seconds"] for run in runs]
    stages = list(dict.fromkeys(stage for summary in summaries for stage in summary))
    rows = [
        (stage, *(f"{s[stage]['p50']:.3g} / {s[stage]['p95']:.3g}" if s.get(stage) else None for s in summaries))
        for stage in stages
    ]
    return table(("p50 / p95 [s]", *(run.name for run in runs)), rows)


def _comparison(runs: Sequence[RunFigures]) -> str:
    summaries = [run.summary() for run in runs]
    differences = [run.against(runs[0]) for run in runs]

    def spread(value: Any) -> Any:
        return f"{value['p50']:.3g} / {value['p95']:.3g} / {value['max']:.3g}" if value else None

    rows: list[Sequence[Any]] = [
        ("inferences", *(s["inferences"] for s in summaries)),
        ("share of cells generated anew", *(s["refresh_ratio"] for s in summaries)),
        ("decoder steps, mean", *(s["decoder_steps"] for s in summaries)),
        ("total seconds, p50 / p95 / max", *(spread(s["seconds"].get("total")) for s in summaries)),
        ("seams, p50 / p95 / max", *(spread(s["seams"]) for s in summaries)),
        (f"codes as in {runs[0].name}", *(d["codes_equal"] for d in differences)),
        (
            f"largest action difference from {runs[0].name}, p50 / p95 / max",
            *(spread(d["largest_action_difference"]) for d in differences),
        ),
    ]
    for joint in runs[0].joints:
        rows.append((f"open-loop error of {joint}", *(s["open_loop_error"].get(joint) for s in summaries)))
    return table(("", *(run.name for run in runs)), rows)


def _settings(runs: Sequence[RunFigures], settings: Sequence[Mapping[str, str]]) -> str:
    names = list(dict.fromkeys(name for facts in settings for name in facts))
    rows = [(name, *(facts.get(name) or "–" for facts in settings)) for name in names]
    return table(("", *(run.name for run in runs)), rows)


def _lists(tally: Tally) -> str:
    parts = []
    if tally.mismatches:
        rows = [(m["trace"], ", ".join(m["unequal"])) for m in tally.mismatches]
        parts += [f"<h2>Not equal ({tally.broken})</h2>", table(("inference", "what differs"), rows)]
    if tally.not_repeated:
        rows = [(m["trace"], m["why"]) for m in tally.not_repeated]
        parts += [
            f"<h2>Not made ({tally.traces - tally.repeated})</h2>", table(("inference", "why"), rows)
        ]
    return "\n".join(parts)
