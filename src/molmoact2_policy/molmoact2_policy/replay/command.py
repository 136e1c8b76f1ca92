# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 replay` (entry-point group molmoact2.commands)."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_elsewhere, add_what, given

if TYPE_CHECKING:
    from .figures import RunFigures
    from .replay import Options

OK, UNEQUAL, BAD_INPUT = 0, 1, 2
MARK = "replay.txt"    # shows that a folder is an earlier replay's


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="run the policy again over a bag, and compare",
        description="Runs the policy over a bag without a ROS graph. Given a bag with exact images, the model's inputs "
        "are those of the live run, byte for byte, and with the recorded seeds so are codes and actions, where "
        "software, processor and settings are the same. Exit code: 0 when all that must be equal is, 1 when something "
        "is not or nothing could be made again, 2 for bad input.",
    )
    add = parser.add_argument
    add("bag", type=Path, metavar="BAG", help="a rosbag2 folder or file, or the folder of a LeRobot v3 dataset")
    add("--out", type=Path, default=Path("out/replay"), metavar="DIR", help="folder to write (default: out/replay)")
    add_what(parser.add_argument_group("what to run (default: as recorded)"))
    add_elsewhere(parser.add_argument_group("bags from elsewhere"))
    which = parser.add_argument_group("which images (default: those of the recorded inferences)")
    add = which.add_argument
    add("--fresh", action="store_true", help="every set of images in the bag")
    add("--realtime-latency", type=float, nargs="?", const=-1.0, metavar="SECONDS",
        help="those that the live node would have taken, had each inference taken this long (default: as recorded)")
    add("--instruction", default="", help="what the robot is to do (default: as recorded)")
    add("--seed", type=int, default=0, help="of the noise, with --fresh and --realtime-latency (default: 0)")
    played = parser.add_argument_group("play the bag on its topics instead, with /clock; the policy is not run")
    add = played.add_argument
    add("--into-ros", action="store_true", help="refused while another node publishes on one of the topics")
    add("--rate", type=float, default=1.0, metavar="X",
        help="times the recorded pace; while it plays: parameter rate of node player (default: 1)")
    add("--paused", action="store_true", help="begin paused; while it plays: service player/pause (std_srvs/SetBool)")
    add("--without", action="append", default=[], metavar="TOPIC", help="a topic not to play; may be repeated")
    told = parser.add_argument_group("report")
    add = told.add_argument
    add("--compare", action="append", default=[], metavar="DIR_OR_SETTING",
        help="another run in the report: the folder of an earlier replay of the same bag, or a setting such as "
        "depth=full, which is then replayed too; may be repeated")
    add("--video-seconds", type=float, default=60.0, metavar="SECONDS",
        help="how much of the bag the report's video covers; 0: no video (default: 60)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError
    from molmoact2_data.layout import DatasetError

    from ..backend import BackendError
    from ..bags.bag import BagError
    from ..datasets.command import bag_of, is_dataset
    from .replay import replay
    from .report import write_report

    if args.into_ros:
        from ..play.into_ros import into_ros

        return into_ros(args.bag, args.rate, args.paused, args.without)
    try:
        options = options_of(args)
        prepare(args.out, [args.bag, *(Path(text) for text in args.compare)])
        if is_dataset(args.bag):
            _, args.contract, args.norm_tag = bag_of(args.bag, args.out / "dataset_bag", args)
            args.bag, args.joints, args.fresh = args.out / "dataset_bag", [], True
            options = options_of(args)
        replayed = replay(args.bag, args.out, options)
        compared = [_compared(args, options, text, number) for number, text in enumerate(args.compare)]
        write_report(args.bag, args.out, replayed, compared, args.video_seconds, options.progress)
    except (BagError, BackendError, ContractError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"error: {args.out} cannot be written: {error}", file=sys.stderr)
        return BAD_INPUT
    tally = replayed.tally
    print("\n".join(tally.headline()))
    print(f"{replayed.elapsed:.1f} s, {replayed.in_the_model:.1f} s of them in the model")
    print(f"\n{args.out / 'report.html'}\n{args.out / 'summary.json'}\n{args.out / 'bag'}")
    if not tally.repeated:
        print("error: no inference could be made", file=sys.stderr)
    return UNEQUAL if tally.broken or not tally.repeated else OK


def options_of(args: argparse.Namespace) -> Options:
    """Errors: ContractError for what does not go together."""
    from molmoact2_contract import ContractError

    from .replay import FRESH, REALTIME, TRACED, Options

    if args.fresh and args.realtime_latency is not None:
        raise ContractError("--fresh and --realtime-latency exclude each other")
    mode = FRESH if args.fresh else TRACED if args.realtime_latency is None else REALTIME
    latency = args.realtime_latency
    return Options(
        given=given(args),
        topics=dict(args.topics),
        joints=dict(args.joints),
        mode=mode,
        latency=None if latency is None or latency < 0 else latency,
        instruction=args.instruction,
        seed=args.seed,
        progress=sys.stderr.isatty(),
    )


def _compared(
    args: argparse.Namespace, options: Options, text: str, number: int
) -> tuple[RunFigures, Mapping[str, str]]:
    """A run to compare with. Errors: ContractError for what is neither a folder nor a setting."""
    from molmoact2_contract import ContractError

    from .configured import KINDS
    from .earlier import read_earlier
    from .replay import replay

    if Path(text).is_dir():
        return read_earlier(Path(text))
    name, _, value = text.partition("=")
    name = name.replace("-", "_")
    if name not in KINDS or not value:
        known = ", ".join(KINDS)
        raise ContractError(f"--compare {text}: neither a folder nor a setting NAME=VALUE; settings: {known}")
    other = replace(options, given={**options.given, name: value})
    replayed = replay(args.bag, args.out / f"compared_{number + 1}", other)
    replayed.new.name = text
    return replayed.new, replayed.facts


def prepare(out: Path, needed: list[Path]) -> None:
    """An empty folder; an earlier replay's is replaced, anything else is left alone and refused.

    needed: what must not be replaced. Errors: ContractError.
    """
    from molmoact2_contract import ContractError

    for path in needed:
        if path.exists() and path.resolve().is_relative_to(out.resolve()):
            raise ContractError(f"--out {out} would replace {path}, which is to be read; name another folder")
    if out.exists():
        if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file()):
            raise ContractError(f"{out} exists and is not an earlier replay's folder; name another with --out")
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True)
        (out / MARK).write_text("Written by molmoact2 replay.\n")
    except OSError as error:
        raise ContractError(f"--out {out} cannot be written: {error}") from error
