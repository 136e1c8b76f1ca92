# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 bench`: the figures of motion, reactions, guidance, setpoints, recorder, ROS path, and plots of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from molmoact2_contract import ContractError, find_resource, load_system
from molmoact2_policy.backend import BackendError, InProcessBackend, Settings, Unanswered

from ..swaying import that_sways
from .buses import SYSTEMS, BusCost, bus_costs
from .cameras import CameraCost, camera_cost
from .cost import ROUNDS, costs
from .motion import WARM_UP, Bench
from .plot import plot_borders, plot_reactions
from .reaction import CHANGES, CHUNKS, Reaction, mean, reactions, worst
from .recorder import recordings
from .report import CHANGED, JOINED, LATE, NOTE, TRANSPORTED, WAVERING, Results, of_drivers, of_ros_paths, report
from .ros_path import ros_paths
from .setpoints import measure
from .system import system_cost
from .trace import Case, Run

PLOTTED = 0.45
SHORTEST = 6.0    # [s] of a run of the system that tells anything


def bench(system_name: str, out: Path, chunks: int, seconds: float) -> int:
    """Writes bench.json, bench.md and the plots. Returns 0, 1 when something failed, 2 for bad input."""
    try:
        made, cheap = _bench_of(system_name)
        out.mkdir(parents=True, exist_ok=True)
    except (ContractError, BackendError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        results = _measured(made, cheap, chunks, seconds, out, system_name)
    except (BackendError, ContractError, Unanswered, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = report(results)
    (out / "bench.md").write_text(text)
    (out / "bench.json").write_text(json.dumps(_figures(results), indent=2) + "\n")
    shown = [case for case in JOINED if case.latency == PLOTTED]
    reacted = {case.rule: found for case, found in results.reactions.items() if case.latency == PLOTTED}
    joint = made.contract.arm(made.arm).joints[0]
    plot_borders([results.runs[case] for case in shown], 0, joint, NOTE, out / "borders.png")
    plot_reactions(reacted, PLOTTED, out / "reaction.png")
    print(f"{text}\n{out / 'borders.png'}, {out / 'reaction.png'}", flush=True)
    return 0


def bench_ros_path(out: Path, seconds: float) -> int:
    """Writes ros_path.json and ros_path.md. Returns 0, 1 when something failed."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        paths = ros_paths(out, seconds)
    except (ContractError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = of_ros_paths(paths)
    (out / "ros_path.md").write_text(f"{text}\n")
    (out / "ros_path.json").write_text(json.dumps([asdict(path) for path in paths], indent=2) + "\n")
    print(text, flush=True)
    return 0


def bench_drivers(out: Path, seconds: float) -> int:
    """Writes drivers.json and drivers.md. Returns 0, 1 when something failed."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        buses, camera = _drivers(out, seconds)
    except (ContractError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = of_drivers(buses, camera)
    (out / "drivers.md").write_text(f"{text}\n")
    (out / "drivers.json").write_text(json.dumps(_of_drivers(buses, camera), indent=2) + "\n")
    print(text, flush=True)
    return 0


def _drivers(out: Path, seconds: float) -> tuple[list[BusCost], CameraCost]:
    """Each system of doubles, then a camera, for so many seconds."""
    seconds = max(seconds, SHORTEST)
    print(f"drivers of {', '.join(SYSTEMS)} and of a camera, {seconds:g} s each ...", flush=True)
    buses = bus_costs(SYSTEMS, out / "drivers", seconds, lambda: None)
    return buses, camera_cost(out / "drivers" / "camera", seconds)


def _of_drivers(buses: Sequence[BusCost], camera: CameraCost) -> dict[str, Any]:
    return {"arms": [asdict(cost) for cost in buses], "camera": asdict(camera)}


def _measured(
    made: Bench, cheap: InProcessBackend, chunks: int, seconds: float, out: Path, system_name: str
) -> Results:
    cases = list(dict.fromkeys([*JOINED, *WAVERING, *LATE, *TRANSPORTED]))
    inferences = len(cases) * (chunks + WARM_UP)
    with tqdm(total=inferences, desc="motion", unit="chunk", leave=False) as bar:
        benches = {False: made, True: replace(made, backend=cheap)}
        runs = {case: benches[case.replaces].run(case, chunks, bar.update) for case in cases}
    inferences = len(CHANGED) * (1 + len(CHANGES)) * (CHUNKS + WARM_UP)
    with tqdm(total=inferences, desc="reactions", unit="chunk", leave=False) as bar:
        found = {case: reactions(made, case, bar.update) for case in CHANGED}
    with tqdm(total=ROUNDS + 1, desc="guidance", unit="round", leave=False) as bar:
        paid = costs(made, cheap, bar.update)
    print(f"setpoints with every core busy, {seconds:g} s ...", flush=True)
    lateness = measure(made.contract, made.arm, seconds)
    print(f"recorder beside cameras, {seconds:g} s ...", flush=True)
    recorded = recordings(out, seconds)
    print(f"three cameras to chunks, {seconds:g} s ...", flush=True)
    passed = ros_paths(out, seconds)
    print(f"the system with its visualizer, {max(seconds, SHORTEST):g} s ...", flush=True)
    system = system_cost(that_sways(load_system(system_name)), out, max(seconds, SHORTEST))
    buses, camera = _drivers(out, seconds)
    return Results(runs, found, paid, lateness, recorded, passed, system, buses, camera, made.length)


def _bench_of(system_name: str) -> tuple[Bench, InProcessBackend]:
    """The bench, whose engine guides by gradient, and an engine that guides the cheap way."""
    system = that_sways(load_system(system_name))
    parameters = system.process("policy").parameters
    tag = system.contract.norm_tag(parameters["norm_tag"])
    settings = Settings(str(find_resource("checkpoints", parameters["checkpoint"])), tag.name)
    backend = InProcessBackend(settings, system.contract)
    cheap = InProcessBackend(replace(settings, rtc="replace"), system.contract)
    backend.load()
    cheap.load()
    generator = np.random.default_rng(0)
    frames = tuple(generator.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in tag.cameras)
    arm = next(iter(system.contract.arms))
    state = np.zeros(len(system.contract.joints))
    horizon = len(backend.infer(frames, state.astype(np.float32), "measure", 0).actions)
    return Bench(system.contract, tag, backend, frames, arm, "measure", horizon), cheap


def _figures(results: Results) -> dict[str, Any]:
    return {
        "motion": [_of_run(run) for run in results.runs.values()],
        "reaction": [_of_reactions(case, found) for case, found in results.reactions.items()],
        "guidance": [asdict(cost) for cost in results.costs],
        "setpoints": asdict(results.lateness),
        "recorder": [asdict(recorded) for recorded in results.recorded],
        "ros_path": [asdict(path) for path in results.ros_paths],
        "system": asdict(results.system),
        "drivers": _of_drivers(results.buses, results.camera),
    }


def _of_reactions(case: Case, found: list[Reaction]) -> dict[str, Any]:
    times = {f"{which}_{of.__name__}": of(found, which) for which in ("first", "half") for of in (mean, worst)}
    return asdict(case) | times


def _of_run(run: Run) -> dict[str, Any]:
    return asdict(run.case) | {
        "velocity_step": run.border_step(1),
        "acceleration_step": run.border_step(2),
        "standing": run.standing,
        "slowdown": run.slowdown,
        "seams": run.seams.tolist(),
    }
