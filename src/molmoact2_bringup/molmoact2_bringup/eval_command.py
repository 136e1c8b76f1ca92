# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2 eval`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .evaluation.attempts import AS_IT_IS, Attempt, Condition, summary

BAD_INPUT = 2


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "eval",
        help="how often a policy does its tasks, and why not",
        description="Tries tasks in the simulated scenes of a system and counts. Without ROS and faster than real "
        "time: the controller's own objects and the engine on a simulated clock. OUT gets summary.json.",
    )
    parser.add_argument("system", help="system file, by path or name")
    parser.add_argument("--task", default="touch,pick", help="touch, pick, tray; several with commas (%(default)s)")
    parser.add_argument(
        "--scenes", default="90000:90020", help="seeds, end excluded; 90000-99999 were never trained on (%(default)s)"
    )
    parser.add_argument("--checkpoint", default="", help="instead of the system's")
    parser.add_argument("--latency", default="", help="from capture to arrival [s]; several with commas (as it is)")
    parser.add_argument("--joining", default="splice", help="several with commas (default %(default)s)")
    parser.add_argument("--when-late", default="hold", choices=["hold", "slow"])
    parser.add_argument("--depth", default="adaptive", help="off, full, adaptive; several with commas (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; must not exist")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError
    from molmoact2_policy.backend import BackendError
    from mujoco_driver.scene import SceneError

    try:
        return _run(args)
    except (ContractError, BackendError, SceneError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


def _run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from mujoco_driver.demos.words import PLAIN

    if args.out.exists():
        raise ValueError(f"--out {args.out} exists already; remove it or choose another folder")
    seeds, found = _seeds(args.scenes), []
    conditions = list(_conditions(args))
    with tqdm(total=len(conditions) * len(seeds), unit="scene", disable=not sys.stderr.isatty()) as bar:
        for condition in conditions:
            bench = _bench_of(args, condition)
            attempts: list[Attempt] = []
            for seed in seeds:
                cube = bench.table.scene.cubes[seed % len(bench.table.scene.cubes)]
                words = PLAIN[condition.task].format(cube)
                attempts.append(bench.attempt(condition, seed, cube, words, keep_frames=False))
                bar.update()
            bench.eyes.close()
            found.append(summary(condition, attempts))
            tqdm.write(_line(found[-1]))
    args.out.mkdir(parents=True)
    (args.out / "summary.json").write_text(json.dumps({"conditions": found}, indent=1) + "\n", encoding="utf-8")
    print(f"\n{args.out}")
    return 0


def _line(found: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in found["interval"])
    reasons = "; ".join(f"{count} {reason}" for reason, count in found["failures"].items())
    line = f"{found['condition']}: {found['successes']}/{found['n']} ({low:.0f}-{high:.0f} %)"
    return line + (f"; failed: {reasons}" if reasons else "")


def _seeds(text: str) -> range:
    begin, colon, end = text.partition(":")
    if not (colon and begin.isdigit() and end.isdigit() and int(begin) < int(end)):
        raise ValueError(f"--scenes is {text!r}, expected FIRST:END, e.g. 90000:90100")
    return range(int(begin), int(end))


def _conditions(args: argparse.Namespace) -> Iterator[Condition]:
    from arm_controller.joining import RULES
    from mujoco_driver.success import TASKS

    latencies = [float(text) for text in args.latency.split(",")] if args.latency else [AS_IT_IS]
    for name, text, known in (("--task", args.task, TASKS), ("--joining", args.joining, RULES),
                              ("--depth", args.depth, ("off", "full", "adaptive"))):  # fmt: skip
        unknown = [part for part in text.split(",") if part not in known]
        if unknown:
            raise ValueError(f"{name}: there is no {unknown[0]!r}; there are: {', '.join(known)}")
    for task in args.task.split(","):
        for latency in latencies:
            for joining in args.joining.split(","):
                for depth in args.depth.split(","):
                    yield Condition(task, latency, joining, args.when_late, depth)


def _bench_of(args: argparse.Namespace, condition: Condition) -> Any:
    import numpy as np

    from molmoact2_contract import find_resource, load_system
    from molmoact2_policy.backend import InProcessBackend, Settings
    from mujoco_driver.render import Eyes
    from mujoco_driver.scene import build
    from mujoco_driver.tabletop import Tabletop
    from mujoco_driver.world import home_of

    from .evaluation.in_process import Bench, Clock

    system = load_system(args.system)
    world, cameras, policy = (system.process(name).parameters for name in ("world", "cameras", "policy"))
    contract, scene = system.contract, build(str(world["scene"]))
    home = home_of(contract, scene)
    checkpoint = find_resource("checkpoints", args.checkpoint or str(policy["checkpoint"]))
    settings = Settings(
        checkpoint=str(checkpoint), norm_tag=str(policy["norm_tag"]), depth=condition.depth,
        cache_policy=condition.cache, threads=1,
    )
    clock = Clock()
    backend = InProcessBackend(settings, contract, clock.seconds)
    backend.load()
    table = Tabletop(scene, np.array([home[joint] for joint in scene.joints]))
    eyes = Eyes(scene, (int(cameras["image_height"]), int(cameras["image_width"])))
    return Bench(
        contract, contract.norm_tag(settings.norm_tag), backend, table, eyes, clock, next(iter(contract.arms)),
        float(policy.get("min_period", 0.0)),
    )
