# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 depth-study` (entry-point group molmoact2.commands)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..replay.options import add_elsewhere, add_what
from ..replay.options import given as given_options

if TYPE_CHECKING:
    from .observations import Shown
    from .rules import Rule, Study

OK, FAILED, BAD_INPUT = 0, 1, 2
THRESHOLDS = (0.98, 0.99, 0.996, 0.999, 0.9999)
PERIODS = (0, 30, 10)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between, not {text!r}") from None


def _counts(text: str) -> tuple[int, ...]:
    numbers = _numbers(text)
    if any(number < 0 or number != int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"must be counts >= 0 with commas between, not {text!r}")
    return tuple(int(number) for number in numbers)


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "depth-study",
        help="what each setting of the depth cache costs and misses, over a bag",
        description="Reasons about the images of a bag by full passes and by the adaptive rule with several thresholds "
        "and refresh periods, and compares them code by code. Leaves a plot to choose settings from, and the figures. "
        "Exit code: 0 when done, 1 when no inference could be made, 2 for bad input.",
    )
    add = parser.add_argument
    add("bag", type=Path, metavar="BAG", help="a rosbag2 folder or file")
    add("--out", type=Path, default=Path("out/depth_study"), metavar="DIR",
        help="folder to write depth_study.png and depth_study.json to (default: out/depth_study)")
    add("--thresholds", type=_numbers, default=THRESHOLDS, metavar="T,T",
        help=f"similarity thresholds (default: {','.join(map(str, THRESHOLDS))})")
    add("--periods", type=_counts, default=PERIODS, metavar="N,N",
        help=f"refresh periods in inferences, 0: full passes only by cause (default: {','.join(map(str, PERIODS))})")
    add_what(parser.add_argument_group("what to run (default: as recorded)"), only_depth=True)
    add_elsewhere(parser.add_argument_group("bags from elsewhere"))
    add = parser.add_argument_group("which images (default: those of the recorded inferences)").add_argument
    add("--fresh", action="store_true", help="every set of images in the bag")
    add("--instruction", default="", help="what the robot is to do (default: as recorded)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError

    from ..backend import BackendError
    from ..bags.bag import BagError
    from .plot import plot

    try:
        study, now, skipped = _studied(args)
        if not study.times:
            print("error: no inference could be made", file=sys.stderr)
            print(_missing(skipped), file=sys.stderr)
            return FAILED
        args.out.mkdir(parents=True, exist_ok=True)
        figures = [asdict(rule) | course.figures() for rule, course in study.courses.items()]
        told = {
            "bag": str(args.bag), "inferences": len(study.times), "left_out": skipped, "rules": figures,
            "full_pass_decoder_steps": sum(study.full_steps) / len(study.full_steps),
        }
        (args.out / "depth_study.json").write_text(json.dumps(told, indent=2) + "\n")
        title = f"{args.bag}: {len(study.times)} inferences, adaptive depth against full passes"
        plot(study, now, title, args.out / "depth_study.png")
    except (BagError, BackendError, ContractError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"error: {args.out} cannot be written: {error}", file=sys.stderr)
        return BAD_INPUT
    print(_table(study))
    print(_missing(skipped, ", listed in depth_study.json"))
    print(f"\n{args.out / 'depth_study.png'}\n{args.out / 'depth_study.json'}")
    return OK


def _missing(skipped: list[tuple[str, str]], where: str = "") -> str:
    lines = [f"missing: {name}: {why}" for name, why in skipped[:10]]
    if len(skipped) > 10:
        lines.append(f"and {len(skipped) - 10} more{where}")
    return "\n".join(lines)


def _studied(args: argparse.Namespace) -> tuple[Study, Rule, list[tuple[str, str]]]:
    """The study, the rule that was recorded or is the default, and what was left out and why."""
    from tqdm import tqdm

    from molmoact2_contract import ContractError

    from ..bags.bag import Bag
    from ..replay.configured import choose, read_configured
    from ..replay.embodied import embody
    from ..replay.recorded import read_needs
    from .observations import every_one, recorded_ones
    from .rules import BOUNDED, REFERENCE, Rule, Study

    with Bag(args.bag) as bag:
        configured = read_configured(bag)
        wanted = choose(bag, configured[0] if configured else None, given_options(args), args.out)
        robot = embody(bag, wanted.contract, wanted.tag, dict(args.topics), dict(args.joints))
        settings = wanted.settings
        now = Rule(settings.cache_policy, settings.similarity_threshold, settings.full_refresh_every)
        rules = [Rule(BOUNDED, threshold, period) for period in args.periods for threshold in args.thresholds]
        rules += [Rule(REFERENCE, threshold, 0) for threshold in args.thresholds]
        study, skipped = Study(settings, list(dict.fromkeys([*rules, now]))), list[tuple[str, str]]()
        needs = None if args.fresh else read_needs(bag)
        if needs is not None and not needs.traces:
            raise ContractError(f"bag {args.bag} holds no reasoning traces; study all of its images with --fresh")
        shown: Iterator[Shown]
        if needs is not None:
            shown, total = recorded_ones(bag, robot, wanted.tag, needs, args.instruction), needs.traces
        elif args.instruction:
            shown, total = every_one(bag, robot, wanted.tag, args.instruction), None
        else:
            raise ContractError("with --fresh, say what the robot was to do: --instruction TEXT")
        for one in tqdm(shown, total=total, desc="depth study", unit="inference", disable=not sys.stderr.isatty()):
            if one.observation is None:
                skipped.append((one.name, one.why_not))
            else:
                study.show(one)
        return study, now, skipped + [("the bag", text) for text in bag.lacks]


def _table(study: Study) -> str:
    lines = [f"{'rule':38} {'threshold':>9} {'anew':>7} {'stale':>7} {'worst':>7} {'steps':>7} {'forced':>7}"]
    for rule, course in study.courses.items():
        f = course.figures()
        shares = " ".join(f"{f[name]:7.1%}" for name in ("refreshed", "stale", "stale_worst"))
        lines.append(f"{rule.family:38} {rule.threshold:9g} {shares} {f['decoder_steps']:7.1f} {f['forced']:7.1%}")
    full = sum(study.full_steps) / len(study.full_steps)
    return "\n".join([*lines, f"a full pass takes {full:.1f} decoder steps"])
