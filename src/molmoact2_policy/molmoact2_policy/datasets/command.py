# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 convert` (entry-point group molmoact2.commands)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..replay.options import pair

if TYPE_CHECKING:
    from molmoact2_contract import Contract, NormTag

    from .convert import Converted

OK, BAD_INPUT = 0, 2
OUTCOMES = ("succeeded", "time_limit", "canceled", "faulted", "operator", "replaced", "refused", "unknown")


def _outcomes(text: str) -> frozenset[str]:
    names = frozenset(text.split(","))
    unknown = names - set(OUTCOMES)
    if unknown:
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is no end of an episode; ends: {', '.join(OUTCOMES)}")
    return names


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "convert",
        help="make a LeRobot dataset of bags, or a bag of a dataset",
        description="Makes one LeRobotDataset v3.0 of bags, an episode for each task that ran; or, with --to-bag, a "
        "bag of such a dataset, whoever made it. Exit code: 0 when done, 2 for bad input.",
    )
    add = parser.add_argument
    add("source", type=Path, nargs="+", metavar="BAG|DATASET", help="bags; with --to-bag the folder of one dataset")
    add("--out", type=Path, metavar="DIR", help="folder of the dataset to write; it must not exist")
    add("--to-bag", type=Path, metavar="DIR", help="bag to write; it must not exist")
    add("--contract", help="embodiment contract: a name in config/embodiments, or a path (default: the recorded one)")
    add("--norm-tag", help="norm tag of the contract, for cameras and units (default: the recorded or the only one)")
    add("--units", choices=["ros", "model"], help="of states and actions: rad and grippers 0..1, or the norm tag's own "
        "(default: ros; of a dataset: as it says, else ros)")
    add("--joint", type=pair, action="append", default=[], metavar="THEIRS=OURS", dest="joints",
        help="a joint that has another name there; may be repeated")
    bags = parser.add_argument_group("bags to a dataset")
    add = bags.add_argument
    add("--fps", type=int, metavar="N", help="frames a second (default: the main camera's rate)")
    add("--action", choices=["setpoint", "measured"], default="setpoint",
        help="what the arm was told by the next frame, or where it then was (default: setpoint)")
    add("--only", type=_outcomes, default=frozenset(OUTCOMES), metavar="END,END",
        help=f"episodes that ended so: {', '.join(OUTCOMES)} (default: all)")
    add("--leave-out", type=_outcomes, default=frozenset(), metavar="END,END", help="episodes that ended so")
    add("--shortest", type=int, default=10, metavar="N", help="frames that an episode must have (default: 10)")
    add("--instruction", default="", help="instead of the recorded ones")
    add("--topic", type=pair, action="append", default=[], metavar="OURS=THEIRS", dest="topics",
        help="a topic of the contract that has another name in the bag; may be repeated")
    add("--depth", type=pair, action="append", default=[], metavar="CAMERA=TOPIC",
        help="depth images (16UC1 in mm, 32FC1 in m) aligned with a camera's; may be repeated")
    back = parser.add_argument_group("a dataset to a bag")
    add = back.add_argument
    add("--camera", type=pair, action="append", default=[], metavar="THEIRS=OURS", dest="cameras",
        help="a camera that has another name in the dataset; may be repeated")
    add("--episode", type=int, action="append", metavar="N", dest="episodes", help="only this one; may be repeated")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError
    from molmoact2_data.layout import DatasetError

    from ..bags.bag import BagError

    try:
        if (args.out is None) == (args.to_bag is None):
            raise ContractError("say where to: --out DIR for a dataset, or --to-bag DIR for a bag")
        return _to_bag(args) if args.to_bag is not None else _to_dataset(args)
    except (BagError, ContractError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {args.out or args.to_bag} cannot be written: {error}", file=sys.stderr)
    return BAD_INPUT


def _to_dataset(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError

    from .convert import Wanted, convert

    if args.fps is not None and not 1 <= args.fps <= 1000:
        raise ContractError(f"--fps is {args.fps}, expected 1 to 1000 frames a second")
    if args.out.exists():
        raise ContractError(f"--out {args.out} exists already; remove it or choose another folder")
    contract, tag = _recorded_robot(args)
    wanted = Wanted(
        contract, tag, args.fps, args.units or "ros", args.action, args.only - args.leave_out, max(2, args.shortest),
        args.instruction, dict(args.topics), dict(args.joints), dict(args.depth), sys.stderr.isatty(),
    )
    done = convert(args.source, args.out, wanted)
    print(_told(done))
    print(f"\n{args.out}")
    return OK


def _told(done: Converted) -> str:
    lines = [f"{done.episodes} episodes, {done.frames} frames at {done.fps} a second"]
    lines += [f"  {count} {outcome}" for outcome, count in sorted(done.outcomes.items())]
    lines += [f"left out: {count} {reason}" for reason, count in sorted(done.left_out.reasons.items())]
    blind = ((camera, count) for camera, count in sorted(done.blind.items()) if count)
    lines += [f"{count} frames without a depth image of {camera}, written as not measured" for camera, count in blind]
    lines += [f"problem: {problem}" for problem in done.problems]
    lines += [f"the images of {bag} had been recorded with loss" for bag in done.lossy]
    return "\n".join(lines)


def _recorded_robot(args: argparse.Namespace) -> tuple[Contract, NormTag]:
    """Contract and norm tag: as named, else as the first bag has them."""
    import tempfile

    from molmoact2_contract import load_contract

    from ..bags.bag import Bag, BagError
    from ..replay.places import CONTRACTS, contract_place, place

    with Bag(args.source[0]) as bag:
        facts = bag.facts
        named = args.contract or facts.get("contract", "")
        if not named:
            raise BagError(f"bag {bag.path} does not say which contract its robot has; name it with --contract")
        if args.contract:
            contract = load_contract(place(named, CONTRACTS, ".yaml", "contract"))
        else:
            with tempfile.TemporaryDirectory(prefix="molmoact2-") as scratch:
                contract = load_contract(contract_place(bag, named, Path(scratch)))
    return contract, _tag(contract, args.norm_tag or facts.get("norm_tag", ""))


def _tag(contract: Contract, named: str) -> NormTag:
    from molmoact2_contract import ContractError

    if not named and len(contract.norm_tags) != 1:
        known = ", ".join(contract.norm_tags)
        raise ContractError(f"{contract.path.name} has several norm tags: {known}; name one with --norm-tag")
    return contract.norm_tag(named or next(iter(contract.norm_tags)))


def _to_bag(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError

    if len(args.source) != 1:
        raise ContractError(f"--to-bag takes one dataset, {len(args.source)} were named")
    frames, _, _ = bag_of(args.source[0], args.to_bag, args)
    print(f"{frames} frames\n\n{args.to_bag}")
    return OK


def is_dataset(path: Path) -> bool:
    from molmoact2_data.layout import INFO

    return (path / INFO).is_file()


def bag_of(root: Path, path: Path, args: argparse.Namespace) -> tuple[int, str, str]:
    """Writes a dataset as a bag; its frames, and the contract and norm tag it was read with.

    args: contract, norm_tag, joints and, where they are there, units, cameras, episodes. Errors: DatasetError,
    BagError, ContractError.
    """
    from tqdm import tqdm

    from molmoact2_contract import ContractError, load_contract
    from molmoact2_data.reader import Dataset

    from ..replay.places import CONTRACTS, place
    from .to_bag import to_bag

    dataset = Dataset(root)
    named = args.contract or dataset.notes.get("contract", "")
    if not named:
        raise ContractError(f"{root} does not say which contract its robot has; name it with --contract")
    contract = load_contract(place(named, CONTRACTS, ".yaml", "contract"))
    tag = _tag(contract, args.norm_tag or dataset.notes.get("norm_tag", ""))
    units = getattr(args, "units", None) or dataset.notes.get("units", "ros")
    with tqdm(desc="read", unit="frame", disable=not sys.stderr.isatty()) as bar:
        frames = to_bag(
            dataset, path, contract, tag, dict(args.joints), dict(getattr(args, "cameras", [])), units,
            getattr(args, "episodes", None), bar.update,
        )
    return frames, str(contract.path), tag.name
