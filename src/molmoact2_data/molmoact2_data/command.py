# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 data`: what data sets hold, their statistics, and what of them is worth learning (entry-point group
molmoact2.commands)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

OK, BAD_INPUT = 0, 2


def register(subparsers: Any) -> None:
    data = subparsers.add_parser(
        "data",
        help="look at data sets, count their statistics, leave out what is not worth learning",
        description="LeRobot data sets of versions 2.0, 2.1 and 3.0, without ROS and without a model. Exit code: 0 "
        "when done, 2 for bad input.",
    )
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    _register_inspect(actions)
    _register_stats(actions)
    _register_filter(actions)


def _register_inspect(actions: Any) -> None:
    parser = actions.add_parser(
        "inspect", help="what they hold, and what is odd",
        description="Tells episodes, rate, cameras, joints with their ranges, instructions, and what is odd: missing "
        "videos, other sizes and rates, numbers that are none.",
    )
    _add_data(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="also a page with images (index.html, sheet_N.png)")
    parser.set_defaults(func=_run, action=_inspect)


def _register_stats(actions: Any) -> None:
    parser = actions.add_parser(
        "stats", help="norm_stats.json, as released checkpoints have it",
        description="Statistics of states and actions over all frames (those that are kept, where a data set has a "
        "list of them), in the norm tag's units. Added to the file where it is there.",
    )
    _add_data(parser)
    add = parser.add_argument
    add("--tag", required=True, metavar="NAME", help="norm tag to write; its units are those of the embodiment's "
        "contract where that knows the tag, else those of the released tag")
    add("--embodiment", required=True, metavar="NAME", help="so101, yam_bimanual, yam_single or franka_droid")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="norm_stats.json to write or to add to")
    add("--units", choices=["ros", "model", "lerobot"], help="of the data sets: ros: radians, grippers 0 to 1; model: "
        "the norm tag's; lerobot: SO-100/101 in LeRobot's present calibration, degrees (default: as they say)")
    add("--by-position", action="store_true", help="their values are in the embodiment's order, whatever their names")
    add("--cameras", default="", metavar="A,B", help="in the model's order (default: the norm tag's, else their own)")
    add("--combine", choices=["exact", "weighted"], default="exact", help="of several data sets: quantiles of all "
        "frames together, or means of each one's weighted by its frames, as the release has them (default: exact)")
    add("--norm-mode", choices=["q01_q99", "q10_q90", "min_max", "mean_std", "none"], default="q01_q99",
        help="which of the figures normalise (default: %(default)s)")
    add("--horizon", type=int, metavar="N", help="waypoints of a chunk (default: the release's)")
    add("--setup-type", metavar="TEXT", help="what the prompt calls the robot (default: the release's)")
    add("--force", action="store_true", help="replace a norm tag of that name")
    parser.set_defaults(func=_run, action=_stats)


def _register_filter(actions: Any) -> None:
    from .rules import RULES, thresholds

    rules = "\n".join(
        f"  {name:<10} {rule.why} ({', '.join(f'{k}={v:g}' for k, v in thresholds(rule).items())})"
        for name, rule in RULES.items()
    )
    parser = actions.add_parser(
        "filter", help="leave out what is not worth learning, by named rules",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Holds rules against every episode and writes which frames are kept: OUT/meta/keep.json. OUT can "
        "then be named\nin the data set's place wherever it is streamed for training; no chunk of actions reaches "
        "across what is left out.\nOUT/meta/filter_report.json and .txt say what was left out and why.\n\nRules:\n"
        + rules,
    )
    _add_data(parser)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True, metavar="OUT", help="folder of the list; the data set's own is "
        "allowed. Of several data sets each gets a folder of its name in it")
    add("--rules", type=Path, metavar="FILE", help="YAML: RULE: false, or a table of its thresholds")
    add("--off", action="append", default=[], metavar="RULE", help="without that rule; may be given again")
    add("--only", action="append", default=[], metavar="RULE", help="with that rule and others so named only")
    add("--set", action="append", default=[], metavar="RULE.NAME=VALUE", dest="changes", help="a threshold")
    add("--write", action="store_true", help="a data set of its own instead of a list; videos are encoded anew")
    add("--force", action="store_true", help="replace a list that is there")
    parser.set_defaults(func=_run, action=_filter)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="folder of a LeRobot data set")


def _run(args: argparse.Namespace) -> int:
    from .layout import DatasetError

    try:
        args.action(args)
        return OK
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        what = "" if args.out is None else f"{args.out} cannot be written: "
        print(f"error: {what}{error}", file=sys.stderr)
    return BAD_INPUT


def _bar(what: str) -> Any:
    from tqdm import tqdm

    return tqdm(desc=what, unit="episode", disable=not sys.stderr.isatty())


def _inspect(args: argparse.Namespace) -> None:
    from .inspection import inspect, told

    with _bar("read") as bar:
        found = [inspect(root, bar.update) for root in args.data]
    print(told(found))
    if args.out is not None:
        from .sheet import write_page

        print(f"\n{write_page(args.out, found)}")


def _stats(args: argparse.Namespace) -> None:
    from .embodiments import check_rate, embodiment, frame_of
    from .inspection import table
    from .keep import open_kept
    from .layout import DatasetError
    from .norm_stats import COMBINE, still_values, tag_entry, write_norm_stats

    if args.horizon is not None and args.horizon < 1:
        raise DatasetError(f"--horizon is {args.horizon}, expected at least 1 waypoint")
    robot = embodiment(args.embodiment, args.tag)
    cameras = [camera for camera in args.cameras.split(",") if camera]
    for root in args.data:
        check_rate(open_kept(root)[0], robot, args.tag)
    with _bar("read") as bar:
        entry = tag_entry(
            args.data, robot, lambda data: frame_of(data, robot, args.units, args.by_position), args.combine, cameras,
            bar.update,
        )
    if args.horizon:
        entry |= {"action_horizon": args.horizon, "n_action_steps": args.horizon}
    if args.setup_type:
        entry["setup_type"] = args.setup_type
    write_norm_stats(args.out, args.tag, entry, args.norm_mode, args.force)
    rows = [["value", "least", "1 %", "99 %", "most", "normalised"]]
    for kind in ("state", "action"):
        figures = entry[f"{kind}_stats"]
        columns = zip(*(figures[key] for key in ("names", "min", "q01", "q99", "max", "mask")), strict=True)
        for name, *numbers, mask in columns:
            rows.append([f"{kind} {name}", *(f"{number:.4g}" for number in numbers), "yes" if mask else "no"])
    print(f"{args.tag}: {entry['state_stats']['count'][0]} frames, units of {robot.tag.name}; {COMBINE[args.combine]}")
    print(table(rows))
    for name in still_values(entry):
        print(f"hardly moves: {name}")
    print(f"\n{args.out}")


def _filter(args: argparse.Namespace) -> None:
    from .filter_command import run

    with _bar("judge") as bar:
        text = run(args, bar.update)
    print(text)
