# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The figures of a recorded run. A figure that the bag cannot give is None, and `missing` says why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..bags.bag import stamp_ns
from .run import CHUNKS, POLICY, TESTS, TRACES, Run, Timed, resolved


@dataclass
class Summary:
    """Figures by name, the reasons for those that are None, and the files of the report by kind."""

    figures: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def as_json(self) -> str:
        """Text of summary.json."""
        return json.dumps({**self.figures, "missing": self.missing}, indent=2) + "\n"

    def headline(self) -> list[str]:
        """The few sentences that say how the run went. Only what is known is said."""
        figures = self.figures
        lines = [f"{figures['time_covered']:.1f} s recorded"]
        if figures["chunks"]:
            lines.append(f"{figures['chunks']['published']} chunks from {figures['chunks']['inferences']} inferences")
        if figures["latency"]:
            lines.append(f"latency p50 {figures['latency']['p50']:.3f} s, p95 {figures['latency']['p95']:.3f} s")
        ratio = figures["depth"]["refresh_ratio_of_adaptive_calls"]
        if ratio is not None:
            lines.append(f"adaptive depth generated {ratio:.1%} of the cells anew")
        for name, test in (figures["tests"] or {}).items():
            if test["held"]:
                lines.append(f"{name}: from {test['since']:.1f} s on, {test['held']:.1f} s in all")
        for arm, parts in figures["controllers"].items():
            lines += [f"{arm}: {text}" for text in _arm_headline(parts)]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.headline())


def _arm_headline(parts: dict[str, Any]) -> Iterator[str]:
    if parts["chunks"]:
        yield f"{parts['chunks']['accepted']} chunks accepted, {parts['chunks']['refused']} refused"
    if parts["seam_jumps"]:
        yield f"largest seam jump {parts['seam_jumps']['max']:.3g}"
    if parts["ticks"]:
        yield f"{parts['ticks']['late']} of {parts['ticks']['count']} ticks late"
    for fault in parts["faults"] or []:
        yield f"FAULT {fault['fault']} at {fault['time']:.1f} s: {fault['text']}"


class _Absent(Exception):
    """A figure cannot be given; the text is the reason."""


def summarise(run: Run) -> Summary:
    """All figures of a run. Times in seconds, rates in Hz, ratios 0 .. 1; joints in the units of ROS."""
    summary = Summary()
    parts: dict[str, Callable[[], Any]] = {
        "time_covered": lambda: round(run.duration, 3),
        "policy": lambda: _policy(run),
        "chunks": lambda: _chunks(run),
        "latency": lambda: _latency(run),
        "stages": lambda: _stages(run),
        "depth.modes": lambda: _modes(run),
        "depth.causes": lambda: _causes(run),
        "depth.refresh_ratio": lambda: _refresh_ratio(run, None),
        "depth.refresh_ratio_of_adaptive_calls": lambda: _refresh_ratio(run, "adaptive"),
        "depth.decoder_steps": lambda: _decoder_steps(run, None),
        "depth.decoder_steps_of_adaptive_calls": lambda: _decoder_steps(run, "adaptive"),
    }
    parts["tests"] = lambda: _tests(run)
    for arm, statuses in run.controllers.items():
        for name, part in _CONTROLLER_PARTS.items():
            parts[f"controllers.{arm}.{name}"] = partial(part, run, arm, statuses)
    for camera in run.contract.cameras.values():
        parts[f"cameras.{camera.name}"] = partial(_camera, run, camera.name, resolved(camera.topic))
    parts["messages"] = lambda: dict(sorted(run.counts.items()))
    parts["dropped_by_recorder"] = lambda: _dropped(run)
    for name, of in parts.items():
        try:
            value = of()
        except _Absent as absent:
            value = None
            summary.missing[name] = str(absent)
        _place(summary.figures, name, value)
    return summary


def _place(figures: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for step in path:
        figures = figures.setdefault(step, {})
    figures[last] = value


def _need(messages: list[Timed], topic: str) -> list[Timed]:
    if not messages:
        raise _Absent(f"no message on {topic}")
    return messages


def _spread(values: Iterable[float]) -> dict[str, float | int]:
    """count, p50, p95 and max of the finite values; the p95 of few values is interpolated."""
    array = np.asarray(list(values), dtype=np.float64)
    array = array[np.isfinite(array)]
    if not len(array):
        raise _Absent("none of the recorded values is a finite number")
    p50, p95 = np.percentile(array, [50, 95])
    return {"count": len(array), "p50": _short(p50), "p95": _short(p95), "max": _short(array.max())}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _policy(run: Run) -> dict[str, Any]:
    last = _need(run.policy, POLICY)[-1].message
    return {
        "checkpoint": Path(last.checkpoint).name,
        "norm_tag": last.norm_tag,
        "instruction": last.instruction,
        "unusable_observations": {r: int(n) for r, n in zip(last.drop_reasons, last.drop_counts, strict=False)},
    }


def _chunks(run: Run) -> dict[str, Any]:
    _need(run.chunks + run.traces, f"{CHUNKS} and {TRACES}")
    ids = {(c.message.episode_id, int(c.message.chunk_id)) for c in run.chunks}
    announced = {(t.message.episode_id, int(t.message.chunk_id)) for t in run.traces if t.message.chunk_id}
    withheld = Counter(t.message.withheld for t in run.traces if t.message.withheld)
    return {
        "inferences": len(run.traces),
        "published": len(ids),
        "withheld": dict(withheld.most_common()),
        "named_in_traces_but_not_recorded": len(announced - ids),
    }


def _latency(run: Run) -> dict[str, Any]:
    """From the capture of the main image to the reception of the chunk, which is when a controller gets it."""
    waits = [(c.receive_ns - stamp_ns(c.message.header.stamp)) / 1e9 for c in _need(run.chunks, CHUNKS)]
    return _spread(waits)


def _stages(run: Run) -> dict[str, Any]:
    stages: dict[str, list[float]] = {}
    for trace in _need(run.traces, TRACES):
        for timing in trace.message.timings:
            stages.setdefault(timing.stage, []).append(float(timing.seconds))
    if not stages:
        raise _Absent("the traces carry no timings")
    return {stage: _spread(values) for stage, values in stages.items()}


def _modes(run: Run) -> dict[str, int]:
    modes = Counter(run.names.depth_mode[t.message.depth_mode] for t in _need(run.traces, TRACES))
    return dict(modes.most_common())


def _causes(run: Run) -> dict[str, int]:
    return dict(Counter(t.message.cause for t in _need(run.traces, TRACES) if t.message.cause).most_common())


def _with_depth(run: Run, mode: str | None) -> list[Any]:
    """The traces that carry depth codes: all, or those of one mode. Never empty."""
    traces = [t.message for t in _need(run.traces, TRACES) if len(t.message.codes)]
    if not traces:
        raise _Absent("depth was off: no trace carries depth codes")
    wanted = (mode, f"{mode}_verified")    # with a draft, too
    chosen = [m for m in traces if mode is None or run.names.depth_mode[m.depth_mode] in wanted]
    if not chosen:
        raise _Absent(f"no inference ran in depth mode {mode!r}")
    return chosen


def _refresh_ratio(run: Run, mode: str | None) -> float:
    traces = _with_depth(run, mode)
    return sum(int(np.sum(m.refreshed)) for m in traces) / sum(len(m.refreshed) for m in traces)


def _decoder_steps(run: Run, mode: str | None) -> dict[str, float | int]:
    return _spread(m.decoder_steps for m in _with_depth(run, mode))


def _tests(run: Run) -> dict[str, dict[str, float]]:
    """Each success test: for how long it held [s], and since when it first did. A test holds until the next says no."""
    if not run.tests:
        raise _Absent(f"no message on {TESTS}")
    found = {}
    for name, stamps in run.tests.items():
        ends = [stamp for stamp, _ in stamps[1:]] + [stamps[-1][0]]
        held = sum(end - stamp for (stamp, holds), end in zip(stamps, ends, strict=True) if holds)
        found[name] = {"held": _short(held / 1e9)}
        if held:
            found[name]["since"] = _short(run.seconds(next(stamp for stamp, holds in stamps if holds)))
    return found


def _growth(values: Iterable[int]) -> int:
    """How much a counter grew; one that falls was restarted, and counts from zero again."""
    values = [int(v) for v in values]
    return sum(b - a if b >= a else b for a, b in zip(values, values[1:], strict=False))


def _acceptance(run: Run, arm: str, statuses: list[Timed]) -> dict[str, Any]:
    messages = [s.message for s in _need(statuses, f"/{arm}/status")]
    refused: Counter[str] = Counter()
    for before, after in zip(messages, messages[1:], strict=False):
        grown = _growth([before.refused_chunks, after.refused_chunks])
        if grown:
            refused[run.names.refusal[after.last_refusal]] += 1
            # A status tells only the last refusal; of those between two statuses the reason is not recorded.
            refused["reason not recorded"] += grown - 1
    return {
        "accepted": _growth(m.accepted_chunks for m in messages),
        "refused": _growth(m.refused_chunks for m in messages),
        "refused_by_reason": {k: n for k, n in refused.most_common() if n},
    }


def acceptances(statuses: list[Timed]) -> list[Timed]:
    """The first status of each chunk that was followed; its stamp is the acceptance, to within the status rate."""
    seen: set[tuple[str, int]] = set()
    firsts = []
    for status in statuses:
        key = (status.message.episode_id, int(status.message.chunk_id))
        if key[1] and key not in seen:
            seen.add(key)
            firsts.append(status)
    return firsts


def _accepted(arm: str, statuses: list[Timed]) -> list[Any]:
    firsts = acceptances(_need(statuses, f"/{arm}/status"))
    if not firsts:
        raise _Absent(f"no status on /{arm}/status names a chunk: none was followed")
    return [status.message for status in firsts]


def _seams(run: Run, arm: str, statuses: list[Timed]) -> dict[str, Any]:
    return _spread(m.seam_jump for m in _accepted(arm, statuses))


def _acceptance_latency(run: Run, arm: str, statuses: list[Timed]) -> dict[str, Any]:
    return _spread(m.acceptance_latency for m in _accepted(arm, statuses))


def _ticks(run: Run, arm: str, statuses: list[Timed]) -> dict[str, Any]:
    messages = [s.message for s in _need(statuses, f"/{arm}/status")]
    if len(messages) < 2:
        raise _Absent(f"only one message on /{arm}/status: no tick was counted between two")
    return {"count": _growth(m.ticks for m in messages), "late": _growth(m.missed_ticks for m in messages)}


def state_spans(run: Run, statuses: list[Timed]) -> list[tuple[str, int, int]]:
    """(state, from, until) [ns], from the first status to the end of the run; neighbours of one state are joined."""
    spans: list[tuple[str, int, int]] = []
    stamps = np.array([stamp_ns(s.message.header.stamp) for s in statuses] + [run.end_ns], dtype=np.int64)
    times = np.maximum.accumulate(np.clip(stamps, run.start_ns, run.end_ns)).tolist()
    for status, start, end in zip(statuses, times, times[1:], strict=False):
        name = run.names.state[status.message.state]
        if spans and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1], end)
        else:
            spans.append((name, start, end))
    return spans


def _states(run: Run, arm: str, statuses: list[Timed]) -> dict[str, Any]:
    spans = state_spans(run, _need(statuses, f"/{arm}/status"))
    total = sum(end - start for _, start, end in spans)
    if total <= 0:
        raise _Absent(f"the statuses on /{arm}/status cover no time")
    times: Counter[str] = Counter()
    for name, start, end in spans:
        times[name] += end - start
    return {name: round(time / total, 4) for name, time in times.most_common()}


def _motion(run: Run, arm: str, statuses: list[Timed]) -> dict[str, Any]:
    messages = [s.message for s in _need(statuses, f"/{arm}/status")]
    following = [m for m in messages if run.names.state[m.state] == "following"]
    if not following:
        raise _Absent(f"the arm {arm!r} never followed a chunk")
    finite = [m for m in following if np.isfinite([m.tracking_error, m.path_rate, m.path_lag]).all()]
    if not finite:
        raise _Absent("none of the recorded values is a finite number")
    worst = max(finite, key=lambda m: m.tracking_error)
    return {
        "tracking_error_max": _short(worst.tracking_error),
        "tracking_error_joint": worst.tracking_joint,
        "path_rate_min": _short(min(m.path_rate for m in finite)),
        "path_lag_max": _short(max(m.path_lag for m in finite)),
    }


def _faults(run: Run, arm: str, statuses: list[Timed]) -> list[dict[str, Any]]:
    faults, before = [], 0
    for status in _need(statuses, f"/{arm}/status"):
        code = status.message.fault_code
        if code and code != before:
            time = round(run.seconds(stamp_ns(status.message.header.stamp)), 3)
            faults.append({"time": time, "fault": run.names.fault[code], "text": status.message.fault_text})
        before = code
    return faults


_CONTROLLER_PARTS: dict[str, Callable[[Run, str, list[Timed]], Any]] = {
    "chunks": _acceptance,
    "acceptance_latency": _acceptance_latency,
    "seam_jumps": _seams,
    "ticks": _ticks,
    "states": _states,
    "motion": _motion,
    "faults": _faults,
}


def _camera(run: Run, name: str, topic: str) -> dict[str, Any]:
    """Real rate by capture stamps, and the longest time between two images."""
    stamps = np.sort(np.asarray(run.image_stamps[name], dtype=np.int64))
    if len(stamps) < 2:
        raise _Absent(f"{'one' if len(stamps) else 'no'} message on {topic}: a rate needs two")
    if stamps[-1] == stamps[0]:
        raise _Absent(f"all images on {topic} carry the same stamp")
    rate = (len(stamps) - 1) * 1e9 / (stamps[-1] - stamps[0])
    return {"images": len(stamps), "rate": _short(rate), "longest_gap": _short(np.diff(stamps).max() / 1e9)}


def _dropped(run: Run) -> dict[str, Any]:
    if run.dropped is None:
        raise _Absent("the bag does not say; it was written by another recorder, or cut off")
    return {"total": sum(run.dropped.values()), "by_topic": {t: n for t, n in sorted(run.dropped.items()) if n}}
