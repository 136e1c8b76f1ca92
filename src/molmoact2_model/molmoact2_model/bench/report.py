# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The figures as a table, as JSON, and as a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .measure import STAGES, Row
from .roofline import Rates, Work

_COLOURS = dict(zip(STAGES, ("#999999", "#e69f00", "#56b4e9", "#0072b2", "#009e73", "#cccccc"), strict=True))
Bounds = Mapping[str, Work]


def figures(row: Row, plain: Row, bounds: Bounds | None, rates: Rates, fastest: bool) -> dict[str, Any]:
    """One row as JSON holds it; seconds are medians, or the least. bounds: the least work by stage; None: not known."""
    total = row.seconds("total", fastest)
    found: dict[str, Any] = {
        "name": row.name, "load": row.load.label, "calls": len(row.answers), "total_s": total,
        "seconds_are": "the least" if fastest else "medians", "median_total_s": row.seconds("total"),
        "stages_s": {stage: row.seconds(stage, fastest) for stage in STAGES if row.seconds(stage) is not None},
        "faster_than_first": _ratio(plain.seconds("total", fastest), total),
        "passes": row.mean("passes"), "tokens_read": row.mean("tokens_read"), "prompt_tokens": row.mean("prompt"),
        "changed_codes": sum(row.really_changed) / len(row.really_changed) if row.really_changed else None,
        "action_error_max": row.error, "action_error_rms": row.rms, "codes_that_differ": row.codes_differ,
        "codes_that_differ_mean": sum(row.differing) / len(row.differing) if row.differing else None,
        "gpu_MiB": max(row.heights) / 2**20 if row.heights else None,
    }  # fmt: skip
    if bounds is not None:
        found["roofline"] = {
            stage: {
                "bytes": work.bytes, "flop": work.flop, "moved": work.moved, "least_s": work.least(rates),
                "bound_by": bound_by(work, rates),
                "share_of_measured": _ratio(work.least(rates), row.seconds(stage, fastest)),
            }
            for stage, work in bounds.items()
        }  # fmt: skip
    return found


def bound_by(work: Work, rates: Rates) -> str:
    if work.moved and work.least(rates) == work.moved / (rates.main or math.inf):
        return "main memory"
    return "bandwidth" if work.bytes / rates.bandwidth > work.flop / rates.products else "products"


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds by stage, a block for each load."""
    width = max([len(row["name"]) for row in found] + [20])
    head = f"{'':{width}}" + "".join(f"{stage:>11}" for stage in (*STAGES, "total"))
    of_gpu = any(row["gpu_MiB"] is not None for row in found)
    lines, load = [], ""
    for row in found:
        if row["load"] != load:
            load = row["load"]
            lines += ["", f"{load} [ms, {row['seconds_are']} of {row['calls']} calls]"]
            lines.append(f"{head}  faster  passes  action error  codes off" + "  GPU MiB" * of_gpu)
        cells = [row["stages_s"].get(stage) for stage in STAGES] + [row["total_s"]]
        line = f"{row['name']:{width}}" + "".join(_milliseconds(cell) for cell in cells)
        line += f"{row['faster_than_first'] or 0:7.2f}x {row['passes']:7.1f} {row['action_error_max']:13.1e}"
        lines.append(f"{line} {row['codes_that_differ']:10.0%}" + (f"{row['gpu_MiB']:9.0f}" if of_gpu else ""))
        if "roofline" in row:
            least = row["roofline"]
            cells = [least[stage]["least_s"] if stage in least else None for stage in STAGES]
            cells.append(sum(part["least_s"] for part in least.values()))
            line = f"{'  roofline':{width}}" + "".join(_milliseconds(cell) for cell in cells)
            lines.append(line + "  " + ", ".join(f"{stage}: {part['bound_by']}" for stage, part in least.items()))
    return "\n".join(lines)


def _milliseconds(seconds: float | None) -> str:
    return f"{'-':>11}" if seconds is None else f"{seconds * 1000:11.2f}"


def plot(found: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Bars of the stages, one for each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.9 + 0.34 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{row['load']} - {row['name']}" for row in found]
    begins = [0.0] * len(found)
    for stage in STAGES:
        widths = [1000 * (row["stages_s"].get(stage) or 0.0) for row in found]
        axes.barh(range(len(found)), widths, left=begins, color=_COLOURS[stage], label=stage)
        begins = [begin + width for begin, width in zip(begins, widths, strict=True)]
    whole = [1000 * row["total_s"] if not row["stages_s"] else 0.0 for row in found]
    if any(whole):
        axes.barh(range(len(found)), whole, color="#d55e00", label="total only")
    for place, row in enumerate(found):
        axes.text(1000 * row["total_s"], place, f" {1000 * row['total_s']:.1f}", va="center", fontsize=7)
    axes.set_yticks(range(len(found)), labels, fontsize=7)
    axes.margins(x=0.1, y=0.01)    # room for the figures beside the bars
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    axes.set_title(title, fontsize=9)
    figure.legend(fontsize=7, loc="outside lower center", ncols=7)    # beside the bars it would cover their figures
    figure.savefig(path, dpi=110)


def parts_table(title: str, columns: Mapping[str, Mapping[str, float]]) -> str:
    """What parts of a network take, a column for each network, with their sum."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    widths = [max(12, len(name) + 2) for name in columns]
    lines = ["", f"{title:32}" + "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))]
    for name, values in [
        *((name, [column.get(name, 0.0) for column in columns.values()]) for name in names),
        ("sum", [sum(column.values()) for column in columns.values()]),
    ]:
        cells = (f"{value:{width}.{0 if value >= 100 else 2}f}" for value, width in zip(values, widths, strict=True))
        lines.append(f"{name:32}" + "".join(cells))
    return "\n".join(lines)


def solver_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far actions are from the released sampler's and from the flow solved finely, in the model's range."""
    lines = ["", f"{'flow':16}{'evaluations':>12}{'expert ms':>11}{'to released':>22}{'to exact flow':>22}"]
    for row in rows:
        errors = "".join(f"{row[key + '_rms']:12.4f} rms {row[key + '_max']:5.3f}" for key in ("released", "exact"))
        lines.append(f"{row['solver']:16}{row['evaluations']:12}{1000 * row['expert_s']:11.2f}{errors}")
    return "\n".join(lines)


def agreement_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Codes of verified depth beside those of full decoding, and the margins of full decoding's logits."""
    width = max(len(row["name"]) for row in rows) + 2
    counts = {"wrong": "draft_wrong", "calls": "calls", "codes": "codes", "agree": "agree"}
    head = "".join(f"{name:>8}" for name in (*counts, "median"))
    lines = [
        "",
        "codes of verified depth beside those of full decoding, same weights and type, by how many are wrong in the "
        "draft;",
        "margins of full decoding's logits: of all codes, of the first of a call that differ (rounding alone), and of "
        "those after it",
        f"{'':{width}}{head}" + "".join(f"{name:>9}{'median':>9}{'largest':>9}" for name in ("first", "after")),
    ]
    for row in rows:
        line = f"{row['name']:{width}}" + "".join(f"{row[key]:8}" for key in counts.values())
        line += f"{_margin(row['margin_median']):>8}"
        for name in ("flipped", "followed"):
            line += f"{row[name]:9}{_margin(row[f'{name}_margin_median']):>9}{_margin(row[f'{name}_margin_max']):>9}"
        unended = [f"{mode} {row[f'unended_{mode}']}" for mode in ("full", "verified") if row[f"unended_{mode}"]]
        lines.append(line + (f"  left out, no <depth_end>: {', '.join(unended)}" if unended else ""))
    return "\n".join(lines)


def _margin(logits: float | None) -> str:
    return "-" if logits is None else f"{logits:.4f}"


def bounds_table(bounds: Bounds, rates: Rates) -> str:
    """The least time by stage alone."""
    lines = [
        f"{rates.bandwidth / 1e9:.1f} GB/s, {rates.products / 1e12:.2f} TFLOP/s ({rates.source})"
        + (f", {rates.main / 1e9:.1f} GB/s from main memory" if rates.main else ""),
        f"{'':10}{'GB':>10}{'TFLOP':>10}{'least ms':>10}  bound by",
    ]
    lines += [
        f"{stage:10}{work.bytes / 1e9:10.2f}{work.flop / 1e12:10.3f}{1000 * work.least(rates):10.2f}"
        f"  {bound_by(work, rates)}"
        for stage, work in bounds.items()
    ]
    total = sum(work.least(rates) for work in bounds.values())
    return "\n".join([*lines, f"{'total':10}{'':20}{1000 * total:10.2f}"])
