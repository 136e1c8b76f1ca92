# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The study as one picture to choose settings from."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from .rules import REFERENCE, Rule, Study


def plot(study: Study, now: Rule, title: str, path: Path) -> None:
    """What each rule costs and what it misses; now: the rule whose course over time is shown."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    families: dict[str, list[Rule]] = defaultdict(list)
    for rule in sorted(study.courses, key=lambda rule: rule.threshold):
        families[rule.family].append(rule)
    figure = pyplot.figure(figsize=(13, 7.5), constrained_layout=True)
    figure.suptitle(title)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.4, 1))
    choose, share, course = (figure.add_subplot(place) for place in (grid[:, 0], grid[0, 1], grid[1, 1]))
    thresholds = sorted({rule.threshold for rule in study.courses})
    markers = dict(zip(thresholds, itertools.cycle("ovsD^P*X"), strict=False))
    for number, (family, rules) in enumerate(families.items()):
        found = [study.courses[rule].figures() for rule in rules]
        steps, stale = [f["decoder_steps"] for f in found], [100 * f["stale"] for f in found]
        line = "--" if rules[0].cache_policy == REFERENCE else "-"
        style: dict[str, Any] = {"color": f"C{number}", "linestyle": line}
        choose.plot(steps, stale, label=family, linewidth=1, alpha=0.6, **style)
        for x, y, rule in zip(steps, stale, rules, strict=True):
            choose.plot(x, y, markers[rule.threshold], color=f"C{number}", alpha=0.7)
        at = [thresholds.index(rule.threshold) for rule in rules]
        share.plot(at, [100 * f["refreshed"] for f in found], marker="o", **style)
    share.set_xticks(range(len(thresholds)), [f"{threshold:g}" for threshold in thresholds])
    for threshold, marker in markers.items():
        choose.plot([], [], marker, color="0.4", label=f"threshold {threshold:g}")
    full = float(np.mean(study.full_steps))
    choose.set_xlabel(f"decoder steps of an inference, mean (what it costs; a full pass takes {full:.0f})")
    choose.set(ylabel="stale codes: kept by the rule, another in a full pass [% of cells, mean]", ylim=(0, None))
    choose.set_title("further left is cheaper, further down is nearer to full passes")
    choose.legend()
    share.set(xlabel="similarity threshold", ylabel="cells generated anew [%]", ylim=(0, 105))
    shown, times = study.courses[now], np.array(study.times) - study.times[0]
    course.plot(times, 100 * np.array(shown.refreshed), color="C1", label="generated anew")
    course.plot(times, 100 * np.array(shown.stale), color="C3", label="stale")
    forced = [t for t, cause in zip(times, shown.causes, strict=True) if cause]
    course.plot(forced, np.full(len(forced), 100.0), "v", color="0.4", label="full pass, forced")
    course.set(xlabel="time [s]", ylabel="cells [%]", ylim=(0, 108))
    course.set_title(f"{now.family}, {now.threshold:g}", fontsize=10)
    course.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
