# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2 sim demos`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molmoact2_data.layout import CORRECTED

if TYPE_CHECKING:
    from .episode import Pilot

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
MOST_SHOVES = 1.0    # [rad]; beyond, an arm is thrown about and nothing is to be learnt


def register(subparsers: Any) -> None:
    sim = subparsers.add_parser("sim", help="the simulated scenes, without ROS")
    actions = sim.add_subparsers(title="actions", metavar="ACTION", required=True)
    parser = actions.add_parser(
        "demos",
        help="demonstrations of tasks as a LeRobot data set",
        description="A scripted expert does tasks in a simulated SO-101 scene; what it saw and did is written as a "
        "LeRobot v3 data set, with depth. The same seeds give the same data, however many workers there are. Attempts "
        "that fail are left out. Ctrl-C or SIGTERM ends it with the episodes that stand; further ones count for "
        "nothing. Exit code: 0 when done, 2 for bad input or where no attempt succeeded, 1 when a worker broke, 130 "
        "when interrupted.",
    )
    add_arguments(parser)
    parser.set_defaults(func=run)


ALTERNATIVES = (
    "every K frames also what the expert would do for each other instruction; 0: not (default %(default)s)"
)


def add_arguments(parser: argparse.ArgumentParser, alternatives: str = ALTERNATIVES) -> None:
    """What demonstrations depend on. alternatives: what is said of that option."""
    parser.set_defaults(contract="so101", norm_tag="so101_sim_molmoact2_tiny")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; must not exist")
    parser.add_argument("--episodes", type=int, default=100, help="attempts (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first; 90000-99999 are held out (default %(default)s)"
    )
    parser.add_argument("--scene", default="so101_tabletop_varied", help="(default %(default)s)")
    parser.add_argument(
        "--tasks", default="touch=1,pick=2,tray=1", help="which, and how often each, as shares (default %(default)s)"
    )
    parser.add_argument("--cubes", default="red,green,blue", help="that instructions name (default %(default)s)")
    parser.add_argument(
        "--shoves", type=float, default=0.05, metavar="RAD",
        help="standard deviation of shoves, so that recovery is seen; 0: none (default %(default)s)",
    )
    parser.add_argument("--paraphrase", action="store_true", help="instructions in other words too")
    parser.add_argument("--points", action="store_true", help="also where each camera sees each cube")
    parser.add_argument("--size", default="160x120", help="of images, WIDTHxHEIGHT (default %(default)s)")
    parser.add_argument("--no-depth", action="store_true", help="leave out depth images (every other row and column)")
    parser.add_argument(
        "--alternatives", type=int, default=0, metavar="K", help=alternatives,
    )
    parser.add_argument(
        "--questions", type=int, default=0, metavar="K",
        help="every K frames also a question about the image, with its answer; 0: not (default %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")


def run(args: argparse.Namespace, pilot: Callable[[], Pilot] | None = None) -> int:
    """pilot: makes who drives instead of the expert."""
    from molmoact2_contract import ContractError
    from molmoact2_data.layout import DatasetError

    from ..scene import SceneError
    from .dataset import make

    try:
        settings, seeds = _settings(args), _seeds(args)
        if pilot is not None:
            corrected = {CORRECTED: args.alternatives}
            settings = dataclasses.replace(settings, pilot=pilot, notes=settings.notes | corrected)
        made = make(args.out, seeds, settings, args.workers, sys.stderr.isatty())
    except (ContractError, DatasetError, SceneError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    print(f"{made.episodes} episodes, {made.frames} frames")
    for reason, count in made.failures.most_common():
        print(f"left out: {count} {reason}")
    stands = "what stands is whole" if made.episodes else "nothing was written"
    if made.interrupted:
        print(f"interrupted; {stands}", file=sys.stderr)
        return INTERRUPTED
    if made.broken:
        print(f"error: {made.broken}; {stands}", file=sys.stderr)
        return FAILED
    if not made.episodes:
        print("error: no attempt succeeded; nothing was written", file=sys.stderr)
        return BAD_INPUT
    print(f"\n{args.out}")
    return 0


def _seeds(args: argparse.Namespace) -> range:
    from .dataset import HELD_OUT

    if args.episodes < 1 or args.seed < 0 or args.workers < 1:
        raise ValueError("--episodes and --workers must be at least 1, --seed at least 0")
    seeds = range(args.seed, args.seed + args.episodes)
    if seeds.start < HELD_OUT.stop and HELD_OUT.start < seeds.stop:
        raise ValueError(
            f"seeds {seeds.start}-{seeds.stop - 1} reach into {HELD_OUT.start}-{HELD_OUT.stop - 1}, which are held "
            "out for evaluation; choose another --seed"
        )
    return seeds


def _settings(args: argparse.Namespace) -> Any:
    from molmoact2_contract import load_contract

    from ..scene import SCENES, build
    from ..world import home_of
    from .dataset import Settings
    from .episode import Wanted

    _check_numbers(args)
    contract, scene = load_contract(args.contract), build(args.scene)
    if not scene.cubes:
        having = ", ".join(name for name in SCENES if name.startswith("so101_"))
        raise ValueError(f"--scene {args.scene} has no cubes, which the tasks are about; there are {having}")
    home = home_of(contract, scene)
    drawn = scene.model.vis.global_
    size = _size(args.size, (drawn.offheight, drawn.offwidth))
    wanted = Wanted(
        tasks=_shares(args.tasks), cubes=_cubes(args.cubes, scene.cubes), shove=args.shoves, paraphrase=args.paraphrase,
        points=args.points, alternatives_every=args.alternatives, questions_every=args.questions,
    )
    depth = None if args.no_depth else (size[0] // 2, size[1] // 2)
    notes = {"units": "ros", "action": "command", "norm_tag": args.norm_tag, "contract": args.contract}
    joints = tuple(f"{joint}.pos" for joint in scene.joints)
    return Settings(
        args.scene, tuple(home[j] for j in scene.joints), joints, wanted, size, depth,
        notes | {"scene": args.scene, "shoves": args.shoves, "first_seed": args.seed},
    )


def _check_numbers(args: argparse.Namespace) -> None:
    if not 0 <= args.shoves <= MOST_SHOVES:
        raise ValueError(f"--shoves is {args.shoves:g}, expected 0 (none) to {MOST_SHOVES:g} rad")
    for name in ("alternatives", "questions"):
        if getattr(args, name) < 0:
            raise ValueError(f"--{name} is {getattr(args, name)}, expected 0 (not) or a number of frames")


def _size(text: str, most: tuple[int, int]) -> tuple[int, int]:
    """(height, width). most: that the scene draws."""
    width, by, height = text.partition("x")
    sound = by and all(one.isdecimal() and int(one) > 0 and int(one) % 4 == 0 for one in (width, height))
    if not sound or int(height) > most[0] or int(width) > most[1]:
        raise ValueError(
            f"--size is {text!r}, expected WIDTHxHEIGHT in multiples of 4, at most {most[1]}x{most[0]}, e.g. 160x120"
        )
    return int(height), int(width)


def _shares(text: str) -> dict[str, float]:
    from ..success import TASKS

    shares = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        if name in shares:
            raise ValueError(f"--tasks: {name} is named twice")
        try:
            shares[name] = float(share or 1)
        except ValueError:
            raise ValueError(f"--tasks: {part!r} is not TASK=SHARE") from None
        if name not in TASKS or not 0 < shares[name] < float("inf"):
            raise ValueError(f"--tasks: {part!r}: tasks are {', '.join(TASKS)}, shares are above 0")
    return shares


def _cubes(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    cubes = tuple(text.split(","))
    for cube in cubes:
        if cube not in known:
            raise ValueError(f"--cubes: there is no {cube!r}; there are {', '.join(known)}")
    return cubes
