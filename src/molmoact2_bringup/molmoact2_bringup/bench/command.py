# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 bench`: the figures of motion and of setpoints, and the plot of chunk borders."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from molmoact2_contract import ContractError, find_resource, load_system
from molmoact2_policy.backend import BackendError, InProcessBackend, Settings, Unanswered

from .motion import RULES, UPSTREAM, Bench, Run
from .plot import plot_borders
from .setpoints import Lateness, measure

LATENCIES = (0.2, 0.35, 0.45)
LATE = (0.6, 0.8)
PLOTTED = 0.45
NOTE = "Chunks: the demo's checkpoint, which is fitted to a sway and trained on no task; a still picture."


def bench(system_name: str, out: Path, chunks: int, seconds: float) -> int:
    """Writes bench.json, bench.md and borders.png. Returns 0, 1 when something failed, 2 for bad input."""
    try:
        made = _bench_of(system_name)
        out.mkdir(parents=True, exist_ok=True)
    except (ContractError, BackendError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    cases = [(rule, latency, "hold") for latency in LATENCIES for rule in (UPSTREAM, *RULES)]
    cases += [("splice", latency, late) for latency in LATE for late in ("hold", "slow")]
    runs: list[tuple[Run, str]] = []
    try:
        with tqdm(total=len(cases) * chunks, desc="motion", unit="chunk", leave=False) as bar:
            for rule, latency, late in cases:
                runs.append((made.run(rule, latency, chunks, late, bar.update), late))
    except (BackendError, Unanswered, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"setpoints with every core busy, {seconds:g} s ...", flush=True)
    lateness = measure(made.contract, made.arm, seconds)
    text = report(runs, lateness, made.tag.dt * made.horizon)
    (out / "bench.md").write_text(text)
    figures = {"motion": [_figures(run, late) for run, late in runs], "setpoints": asdict(lateness)}
    (out / "bench.json").write_text(json.dumps(figures, indent=2) + "\n")
    shown = [run for run, _ in runs if run.latency == PLOTTED]
    plot_borders(shown, 0, made.contract.arm(made.arm).joints[0], NOTE, out / "borders.png")
    print(f"{text}\n{out / 'borders.png'}", flush=True)
    return 0


def _bench_of(system_name: str) -> Bench:
    system = load_system(system_name)
    parameters = system.process("policy").parameters
    tag = system.contract.norm_tag(parameters["norm_tag"])
    settings = Settings(str(find_resource("checkpoints", parameters["checkpoint"])), tag.name)
    backend = InProcessBackend(settings, system.contract)
    backend.load()
    generator = np.random.default_rng(0)
    frames = tuple(generator.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in tag.cameras)
    arm = next(iter(system.contract.arms))
    state = np.zeros(len(system.contract.joints))
    horizon = len(backend.infer(frames, state.astype(np.float32), "measure", 0).actions)
    return Bench(system.contract, tag, backend, frames, arm, "measure", horizon)


def _figures(run: Run, late: str) -> dict[str, Any]:
    return {
        "rule": run.rule,
        "latency": run.latency,
        "when_late": late,
        "velocity_step": run.border_step(1),
        "acceleration_step": run.border_step(2),
        "standing": run.standing,
        "slowdown": run.slowdown,
    }


def report(runs: list[tuple[Run, str]], lateness: Lateness, length: float) -> str:
    """The figures as a text in Markdown. length: of a chunk [s]."""
    lines = ["# Motion and setpoints", "", f"{NOTE}", ""]
    lines += ["Largest change from one setpoint to the next at chunk borders, any joint; share of time standing still."]
    lines += ["`upstream` holds while the model runs, then plays the chunk from its first waypoint.", ""]
    lines += ["| L [s] | rule | velocity [rad/s] | acceleration [rad/s²] | standing |", "|---|---|---|---|---|"]
    for run, _ in runs:
        if run.latency in LATENCIES:
            steps = f"{run.border_step(1):.3f} | {run.border_step(2):.1f}"
            lines.append(f"| {run.latency:g} | {run.rule} | {steps} | {run.standing:.0%} |")
    lines += ["", f"Chunks that come too late, one inference at a time, H = {length:.2f} s.", ""]
    lines += ["| L [s] | when_late | standing | slowdown | bound max(0, 2L − H)/L |", "|---|---|---|---|---|"]
    for run, late in runs:
        if run.latency in LATE:
            bound = max(0.0, 2 * run.latency - length) / run.latency
            lines.append(f"| {run.latency:g} | {late} | {run.standing:.0%} | {run.slowdown:.0%} | {bound:.0%} |")
    ms = [f"{value * 1e3:.2f}" for value in (lateness.p50, lateness.p99, lateness.p999, lateness.worst)]
    lines += ["", "Setpoints with a busy process on each core: how much later than a period after the last one.", ""]
    lines += ["| p50 [ms] | p99 [ms] | p99.9 [ms] | worst [ms] | setpoints | periods lost |", "|---" * 6 + "|"]
    lines += [f"| {' | '.join(ms)} | {lateness.count} | {lateness.lost} |", ""]
    lines += [f"Privileges not permitted: {lateness.privileges or 'none'}.", ""]
    return "\n".join(lines)
