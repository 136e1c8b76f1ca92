# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2 eval`."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molmoact2_contract import Process

    from .evaluation.attempts import Condition

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
PATIENCE = 2.0    # time for a second try
PATIENCES = 0.25, 100.0    # least: the test of success must hold for a third of a second
PREFIX = "gym:"
OF_SCENES = ("task", "latency", "joining", "when_late", "depth", "cache", "cameras")
OF_SYSTEMS = (    # no environment's
    "task", "latency", "joining", "when_late", "cache", "cameras", "also", "settings", "mode", "patience",
)
OF_ENVIRONMENTS = ("map", "norm_tag", "device", "dtype")    # no system's
# Of a policy's parameters what stands elsewhere in a report.
TOLD_ELSEWHERE = ("contract", "checkpoint", "simulation", "instruction", "depth", "cache_policy", "least_latency")


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "eval",
        help="how often a policy does its tasks, and why not",
        description="Tries tasks in the simulated scenes of a system and counts. OUT gets report.html, with videos of "
        "failures, summary.json, and each attempt as it ends; Ctrl-C ends it with what stands, and the same command "
        "goes on. What is not given is as in the system's file. Exit code: 0 when all was tried, however often it "
        "failed; 2 for bad input; 1 where the system did not come up or ended; 130 when interrupted.",
    )
    parser.add_argument(
        "system", help="system file, by path or name; or gym:NAME, an environment with gymnasium's interface"
    )
    parser.add_argument("--task", default="", help="touch, pick, tray; several with commas (default touch,pick)")
    parser.add_argument(
        "--scenes", default="80000:80020", help="seeds, end excluded; 90000-99999 are kept for the last word "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--mode", choices=("fast", "live", "both"), default="",
        help="fast: without ROS, the controller's own objects and the engine on a simulated clock; live: the whole "
        "system in real time (default fast)",
    )
    parser.add_argument(
        "--patience", type=float, default=None, metavar="TIMES",
        help="how many times as long as the scripted expert's an attempt may last: 1 is 4 s for touch, 6 s for pick, "
        f"10 s for tray; the report tells how many succeeded within that, too (default {PATIENCE:g})",
    )
    parser.add_argument(
        "--checkpoint", default="", help="folder, or name of one in checkpoints/ (default: the system's)"
    )
    parser.add_argument(
        "--latency", default="", help="from capture to arrival [s], or as-it-is: as long as the inference takes; "
        "several with commas",
    )
    parser.add_argument("--joining", default="", help="splice, rtc, ensemble; several with commas")
    parser.add_argument("--when-late", default="", help="hold, slow; several with commas")
    parser.add_argument(
        "--depth", default="", help="off, full, adaptive, verified; several with commas (in environments adaptive, or "
        "off where the checkpoint has no depth); off for a checkpoint that has not yet learnt to write depth codes",
    )
    parser.add_argument("--cache", default="", help="of adaptive depth: bounded, reference; several with commas")
    parser.add_argument(
        "--cameras", default="",
        help="what is wrong with them: none, dark, noise, shift, blackout; several with commas (default none)",
    )
    parser.add_argument(
        "--also", action="append", default=[], metavar="NAME=VALUE[,NAME=VALUE]",
        help="one more condition, as each task's first but for this, e.g. latency=0.8,when-late=slow, or "
        "task=tray for one task alone; may be given again",
    )
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="PROCESS.PARAMETER=VALUE",
        help="changes the system, e.g. world.scene=so101_tabletop_varied; may be given again",
    )
    gym = parser.add_argument_group("environments", "with --checkpoint, --scenes and --depth")
    gym.add_argument("--map", type=Path, help="YAML file: which observations are cameras, state and success")
    gym.add_argument("--norm-tag", default="", help="of the checkpoint")
    gym.add_argument("--device", default="", help="torch device (default cpu)")
    gym.add_argument("--dtype", default="", choices=("float32", "bfloat16", "float16"), help="(default float32)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the results: a new one, or one that the same command began"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError
    from molmoact2_model.errors import ModelError
    from molmoact2_policy.backend import BackendError
    from mujoco_driver.bus import BusError
    from mujoco_driver.scene import SceneError

    from .lifecycle import BringUpError
    from .running import SystemEnded

    gym = args.system.startswith(PREFIX)
    try:
        _refuse(args, OF_SYSTEMS if gym else OF_ENVIRONMENTS)
        interrupted = _run_gym(args) if gym else _run(args)
    except (ContractError, ModelError, BackendError, SceneError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except (BringUpError, SystemEnded, BusError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:    # while the report was written; the attempts are
        return INTERRUPTED
    return INTERRUPTED if interrupted else 0


def _refuse(args: argparse.Namespace, without_meaning: tuple[str, ...]) -> None:
    """Errors: ValueError for an option that has no meaning for what is evaluated."""
    for name in without_meaning:
        if getattr(args, name) not in (None, "", []):
            option = {"settings": "set"}.get(name, name).replace("_", "-")
            raise ValueError(f"--{option} has no meaning for {args.system}; leave it out")


def _run(args: argparse.Namespace) -> bool:
    """Returns whether it was interrupted."""
    from molmoact2_contract import load_system
    from molmoact2_model.policy import machine

    from .check.wanted import configuration_of
    from .evaluation.folder import opened
    from .evaluation.report import FAST, LIVE
    from .evaluation.simulated import SimulatedScene
    from .evaluation.trying import Trial, scenes, try_all
    from .up import with_settings

    seeds = scenes(args.scenes)
    scene = SimulatedScene(with_settings(load_system(args.system), args.settings))
    asked = {name: getattr(args, name) for name in OF_SCENES}
    wanted = asked | {"task": args.task or "touch,pick", "cameras": args.cameras or "none"}
    patience = PATIENCE if args.patience is None else args.patience
    if not PATIENCES[0] <= patience <= PATIENCES[1]:
        raise ValueError(f"--patience is {patience:g}; expected a number from {PATIENCES[0]:g} to {PATIENCES[1]:g}")
    conditions = [replace(condition, patience=patience) for condition in scene.conditions(wanted, args.also)]
    systems = {condition: scene.under(condition, args.checkpoint, seeds.start) for condition in conditions}
    checkpoint = configuration_of(next(iter(systems.values())).process("policy")).settings.checkpoint
    known = asked | {"scenes": args.scenes, "mode": args.mode or FAST, "settings": args.settings}
    known["patience"] = patience
    known |= _identity(checkpoint) | ({"also": args.also} if args.also else {})
    known["system"] = {process.name: process.parameters for process in scene.system.processes}
    known["remapped topics"] = {process.name: dict(process.remap) for process in scene.system.processes}
    known["contract"] = hashlib.sha256(scene.system.contract.path.read_bytes()).hexdigest()
    log = args.out / "log.txt"
    trials = [
        Trial(condition, mode, partial(scene.fast, system, condition) if mode == FAST
              else partial(scene.live, system, condition, log))
        for condition, system in systems.items()
        for mode in {"both": (FAST, LIVE), "live": (LIVE,)}.get(args.mode, (FAST,))
    ]    # fmt: skip
    facts = {
        "title": f"{Path(checkpoint).name} in {scene.table.scene.name}", "system": args.system,
        "settings": ", ".join(args.settings) or "as in the file", **_identity(checkpoint),
        "policy": _parameters(scene.system.process("policy")), "an attempt lasts": _lasts(conditions),
        "scenes": _told(seeds),
        "processor": machine("cpu")["processor"],
    }
    with opened(args.out, known) as folder:
        return try_all(folder, trials, seeds, facts, scene.table)


def _run_gym(args: argparse.Namespace) -> bool:
    from molmoact2_model import MolmoAct2Policy

    from .evaluation import folder
    from .evaluation.gym_env import GymCondition, load_map, make_environment, opened
    from .evaluation.report import FAST
    from .evaluation.trying import Trial, scenes, try_all

    if args.map is None or not args.checkpoint or not args.norm_tag:
        raise ValueError(f"{args.system} needs --map, --checkpoint and --norm-tag")
    seeds = scenes(args.scenes)
    name, map_ = args.system.removeprefix(PREFIX), load_map(args.map)
    environment = make_environment(name, map_.make)
    try:
        policy = MolmoAct2Policy.from_pretrained(
            args.checkpoint, device=args.device or "cpu", dtype=args.dtype or "float32"
        )
        depths = (args.depth or ("adaptive" if policy.config.depth is not None else "off")).split(",")
        sessions = {depth: policy.session(norm_tag=args.norm_tag, depth=depth) for depth in depths}
        asked = {key: str(getattr(args, key)) for key in ("system", "scenes", "norm_tag", "device", "dtype")}
        known = asked | {"depth": args.depth, "map": args.map.read_text(encoding="utf-8")} | _identity(args.checkpoint)
        trials = [
            Trial(GymCondition(name, depth), FAST, partial(opened, environment, session, map_))
            for depth, session in sessions.items()
        ]
        facts = {"title": f"{Path(args.checkpoint).name} in {name}", **_identity(args.checkpoint), "seeds": args.scenes}
        with folder.opened(args.out, known) as attempts:
            return try_all(attempts, trials, seeds, facts, None)
    finally:
        environment.close()


def _identity(checkpoint: str) -> dict[str, str]:
    """Which checkpoint it is; a server has its own."""
    from molmoact2_model import find_checkpoint, fingerprint

    if not checkpoint:
        return {"checkpoint": "the server's"}
    return {"checkpoint": checkpoint, "fingerprint": fingerprint(find_checkpoint(checkpoint))}


def _lasts(conditions: Sequence[Condition]) -> str:
    """At most, by task."""
    limits = {condition.task: condition.limit for condition in conditions}
    return "at most " + ", ".join(f"{limit:g} s ({task})" for task, limit in limits.items())


def _parameters(policy: Process) -> str:
    """The policy's parameters that are not the node's defaults."""
    from .check.wanted import policy_defaults

    defaults = policy_defaults()
    own = {name: value for name, value in policy.parameters.items() if value != defaults[name]}
    text = ", ".join(f"{name}={value}" for name, value in own.items() if name not in TOLD_ELSEWHERE)
    return text or "the node's defaults"


def _told(seeds: range) -> str:
    from mujoco_driver.demos.dataset import HELD_OUT

    held_out = seeds.start < HELD_OUT.stop and seeds.stop > HELD_OUT.start
    text = f"{seeds.start}:{seeds.stop}"
    return f"{text}; held-out scenes are among them: for the last word, not for choosing by" if held_out else text
