# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2 eval`."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluation.attempts import AS_IT_IS, Attempt, Condition

if TYPE_CHECKING:
    from .evaluation.report import Found

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
PREFIX = "gym:"


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "eval",
        help="how often a policy does its tasks, and why not",
        description="Tries tasks in the simulated scenes of a system and counts. OUT gets report.html, with videos of "
        "failures, and summary.json. Ctrl-C ends it with what stands.",
    )
    parser.add_argument(
        "system", help="system file, by path or name; or gym:NAME, an environment with gymnasium's interface"
    )
    parser.add_argument("--task", default="touch,pick", help="touch, pick, tray; several with commas (%(default)s)")
    parser.add_argument(
        "--scenes", default="90000:90020", help="seeds, end excluded; 90000-99999 were never trained on (%(default)s)"
    )
    parser.add_argument(
        "--mode", choices=("fast", "live", "both"), default="fast",
        help="fast: without ROS, the controller's own objects and the engine on a simulated clock; live: the whole "
        "system in real time (default %(default)s)",
    )
    parser.add_argument("--checkpoint", default="", help="instead of the system's")
    parser.add_argument("--latency", default="", help="from capture to arrival [s]; several with commas (as it is)")
    parser.add_argument("--joining", default="splice", help="several with commas (default %(default)s)")
    parser.add_argument("--when-late", default="hold", choices=["hold", "slow"])
    parser.add_argument(
        "--depth", default="adaptive", help="off, full, adaptive, verified; several with commas (default %(default)s)"
    )
    parser.add_argument(
        "--cache", default="bounded", help="of adaptive depth: bounded, reference; several with commas (%(default)s)"
    )
    parser.add_argument(
        "--cameras", default="none",
        help="what is wrong with them: none, dark, noise, shift, blackout; several with commas (default %(default)s)",
    )
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="PROCESS.PARAMETER=VALUE",
        help="changes the system, e.g. world.scene=so101_tabletop_varied; may be given again",
    )
    gym = parser.add_argument_group("environments", "--task, --latency, --joining and --cameras have no meaning there")
    gym.add_argument("--map", type=Path, help="YAML file: which observations are cameras, state and success")
    gym.add_argument("--norm-tag", default="", help="of the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; must not exist")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError
    from molmoact2_model.errors import ModelError
    from molmoact2_policy.backend import BackendError
    from mujoco_driver.bus import BusError
    from mujoco_driver.scene import SceneError

    from .lifecycle import BringUpError
    from .running import Stopped, SystemEnded

    try:
        return _run(args)
    except (ContractError, ModelError, BackendError, SceneError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except (BringUpError, SystemEnded, BusError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except Stopped:
        print("stopped while starting", file=sys.stderr)
        return INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    from molmoact2_model.policy import machine

    from .evaluation.report import FAST, LIVE, write_results

    if args.out.exists():
        raise ValueError(f"--out {args.out} exists already; remove it or choose another folder")
    if args.system.startswith(PREFIX):
        return _run_gym(args)
    seeds, conditions = _seeds(args.scenes), list(_conditions(args))
    modes = {"both": (FAST, LIVE)}.get(args.mode, (args.mode,))
    scene = _Scene(args.system, args.settings)
    checkpoint = scene.checkpoint(args)
    args.out.mkdir(parents=True)
    try:
        found, interrupted = _tried(args, scene, conditions, modes, seeds)
    except BaseException:
        with suppress(OSError):
            args.out.rmdir()    # where nothing was written yet
        raise
    facts = {
        "title": f"{checkpoint.name} in {scene.table.scene.name}", "system": args.system,
        "settings": ", ".join(args.settings) or "as in the file", "checkpoint": str(checkpoint),
        "scenes": args.scenes, "processor": machine("cpu")["processor"],
    }
    write_results(args.out, facts | ({"interrupted": "yes"} if interrupted else {}), found, scene.table)
    print(f"\n{args.out / 'report.html'}")
    return INTERRUPTED if interrupted else 0


def _run_gym(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from molmoact2_model import MolmoAct2Policy

    from .evaluation.gym_env import GymBench, GymCondition, load_map, make_environment
    from .evaluation.report import FAST, Found, write_results

    if args.map is None or not args.checkpoint or not args.norm_tag:
        raise ValueError(f"{args.system} needs --map, --checkpoint and --norm-tag")
    name, map_ = args.system.removeprefix(PREFIX), load_map(args.map)
    environment, policy = make_environment(name, map_.make), MolmoAct2Policy.from_pretrained(args.checkpoint)
    found = []
    for depth in args.depth.split(","):
        bench = GymBench(environment, policy.session(norm_tag=args.norm_tag, depth=depth), map_)
        seeds = tqdm(_seeds(args.scenes), unit="episode", disable=not sys.stderr.isatty())
        found.append(Found(GymCondition(name, depth), FAST, [bench.attempt(seed) for seed in seeds]))
        tqdm.write(_line(found[-1].summary))
    environment.close()
    args.out.mkdir(parents=True)
    facts = {"title": f"{Path(args.checkpoint).name} in {name}", "checkpoint": args.checkpoint, "seeds": args.scenes}
    write_results(args.out, facts, found, None)
    print(f"\n{args.out / 'report.html'}")
    return 0


def _tried(
    args: argparse.Namespace, scene: _Scene, conditions: Sequence[Condition], modes: Sequence[str], seeds: range
) -> tuple[list[Found], bool]:
    """What came of all conditions, or of those until an interruption."""
    from tqdm import tqdm

    from .evaluation.report import FAST, Found
    from .running import Stopped

    found: list[Found] = []
    total = len(modes) * len(conditions) * len(seeds)
    with tqdm(total=total, unit="scene", disable=not sys.stderr.isatty()) as bar:
        for condition, mode in itertools.product(conditions, modes):
            attempts: list[Attempt] = []
            try:
                with scene.fast(args, condition) if mode == FAST else scene.live(args, condition) as bench:
                    for seed in seeds:
                        attempts.append(bench.attempt(condition, seed, *scene.words(condition.task, seed)))
                        bar.update()
            except (KeyboardInterrupt, Stopped):
                return [*found, Found(condition, mode, attempts)], True
            found.append(Found(condition, mode, attempts))
            tqdm.write(_line(found[-1].summary))
    return found, False


def _line(found: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in found["interval"])
    reasons = "; ".join(f"{count} {reason}" for reason, count in found["failures"].items())
    line = f"{found['condition']} ({found['mode']}): {found['successes']}/{found['n']} ({low:.0f}-{high:.0f} %)"
    return line + (f"; failed: {reasons}" if reasons else "")


def _seeds(text: str) -> range:
    begin, colon, end = text.partition(":")
    if not (colon and begin.isdigit() and end.isdigit() and int(begin) < int(end)):
        raise ValueError(f"--scenes is {text!r}, expected FIRST:END, e.g. 90000:90100")
    return range(int(begin), int(end))


def _conditions(args: argparse.Namespace) -> Iterator[Condition]:
    from arm_controller.joining import RULES
    from molmoact2_model.policy import CACHE_POLICIES
    from mujoco_driver.success import TASKS

    from .evaluation.disturbance import KINDS

    latencies = [float(text) for text in args.latency.split(",")] if args.latency else [AS_IT_IS]
    for name, text, known in (("--task", args.task, TASKS), ("--joining", args.joining, RULES),
                              ("--depth", args.depth, ("off", "full", "adaptive", "verified")),
                              ("--cache", args.cache, CACHE_POLICIES),
                              ("--cameras", args.cameras, KINDS)):  # fmt: skip
        unknown = [part for part in text.split(",") if part not in known]
        if unknown:
            raise ValueError(f"{name}: there is no {unknown[0]!r}; there are: {', '.join(known)}")
    lists = (text.split(",") for text in (args.joining, args.depth, args.cache, args.cameras))
    for task, latency, joining, depth, cache, cameras in itertools.product(args.task.split(","), latencies, *lists):
        if depth == "adaptive" or cache == args.cache.split(",")[0]:    # else there is no cache
            yield Condition(task, latency, joining, args.when_late, depth, cache, cameras)


class _Scene:
    """A system's simulated scene, and what attempts in it are made with. Errors: ContractError, SceneError."""

    def __init__(self, system: str, settings: list[str]):
        import numpy as np

        from molmoact2_contract import ContractError, load_system
        from mujoco_driver.scene import build
        from mujoco_driver.tabletop import Tabletop
        from mujoco_driver.world import home_of

        from .up import with_settings

        self.system = with_settings(load_system(system), settings)
        if not self.system.simulation:
            raise ContractError(f"{self.system.path}: evaluation moves the arm unattended and runs simulations only")
        world, self._cameras, self._policy = (
            self.system.process(name).parameters for name in ("world", "cameras", "policy")
        )
        scene = build(str(world["scene"]))
        home = home_of(self.system.contract, scene)
        self.table = Tabletop(scene, np.array([home[joint] for joint in scene.joints]))

    def words(self, task: str, seed: int) -> tuple[str, str]:
        """The cube that is asked for in the scene of a seed, and how."""
        from mujoco_driver.demos.words import PLAIN

        cubes = self.table.scene.cubes
        cube = cubes[seed % len(cubes)]
        return cube, PLAIN[task].format(cube)

    def checkpoint(self, args: argparse.Namespace) -> Path:
        from molmoact2_contract import find_resource

        return find_resource("checkpoints", args.checkpoint or str(self._policy["checkpoint"]))

    @contextmanager
    def fast(self, args: argparse.Namespace, condition: Condition) -> Iterator[Any]:
        from molmoact2_policy.backend import InProcessBackend, Settings
        from mujoco_driver.render import Eyes

        from .evaluation.in_process import Bench, Clock

        contract, clock = self.system.contract, Clock()
        settings = Settings(
            checkpoint=str(self.checkpoint(args)), norm_tag=str(self._policy["norm_tag"]), depth=condition.depth,
            cache_policy=condition.cache, threads=1,
        )
        backend = InProcessBackend(settings, contract, clock.seconds)
        backend.load()
        eyes = Eyes(self.table.scene, (int(self._cameras["image_height"]), int(self._cameras["image_width"])))
        try:
            yield Bench(
                contract, contract.norm_tag(settings.norm_tag), backend, self.table, eyes, clock,
                next(iter(contract.arms)), float(self._policy.get("min_period", 0.0)),
            )
        finally:
            eyes.close()

    @contextmanager
    def live(self, args: argparse.Namespace, condition: Condition) -> Iterator[Any]:
        from .evaluation.live import LiveBench, configured

        checkpoint = str(self.checkpoint(args)) if args.checkpoint else ""
        system = configured(self.system, condition, checkpoint, _seeds(args.scenes).start)
        with (args.out / "log.txt").open("a", encoding="utf-8") as log:
            def write(line: str) -> None:
                log.write(line + "\n")
                log.flush()

            with LiveBench(system, condition, self.table, write) as bench:
                yield bench
