# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 replay` (entry-point group molmoact2.commands)."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

OK, UNEQUAL, BAD_INPUT = 0, 1, 2
MARK = "replay.txt"    # shows that a folder is an earlier replay's


def _pair(text: str) -> tuple[str, str]:
    left, _, right = text.partition("=")
    if not left or not right:
        raise argparse.ArgumentTypeError(f"must have the form A=B, not {text!r}")
    return left, right


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
    add("bag", type=Path, metavar="BAG", help="a rosbag2 folder or file")
    add("--out", type=Path, default=Path("out/replay"), metavar="DIR", help="folder to write (default: out/replay)")
    recorded = parser.add_argument_group("what to run (default: as recorded)")
    add = recorded.add_argument
    add("--contract", help="embodiment contract: a name in config/embodiments, or a path")
    add("--checkpoint", help="a folder, a name in checkpoints/, or a Hub id owner/name")
    add("--norm-tag", help="norm tag: in the checkpoint and in the contract")
    add("--depth", choices=["off", "full", "adaptive"])
    add("--cache-policy", choices=["bounded", "reference"])
    add("--full-refresh-every", type=int, metavar="N")
    add("--action-mode", choices=["continuous", "discrete"])
    add("--fast-tokenizer", metavar="DIR")
    add("--num-steps", type=int, metavar="N")
    add("--rtc", choices=["gradient", "replace"])
    add("--rtc-beta", type=float, metavar="BETA")
    add("--device", help="torch device: cpu, cuda, cuda:1")
    add("--dtype", choices=["float32", "bfloat16", "float16"])
    add("--threads", type=int, metavar="N", help="processor threads of the engine")
    elsewhere = parser.add_argument_group("bags from elsewhere")
    add = elsewhere.add_argument
    add("--topic", type=_pair, action="append", default=[], metavar="OURS=THEIRS", dest="topics",
        help="a topic of the contract that has another name in the bag; may be repeated")
    add("--joint", type=_pair, action="append", default=[], metavar="THEIRS=OURS", dest="joints",
        help="a joint that has another name in the bag; may be repeated")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError

    from ..backend import BackendError
    from ..bags.bag import BagError
    from .configured import KINDS
    from .replay import Options, replay

    names = [name for name in (*KINDS, "contract") if hasattr(args, name)]
    options = Options(
        given={name: getattr(args, name) for name in names},
        topics=dict(args.topics), joints=dict(args.joints), progress=sys.stderr.isatty(),
    )
    try:
        prepare(args.out)
        tally = replay(args.bag, args.out, options)
    except (BagError, BackendError, ContractError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    print("\n".join(tally.headline()))
    print(f"\n{args.out / 'summary.json'}")
    if not tally.repeated:
        print("error: no recorded inference could be made again", file=sys.stderr)
    return UNEQUAL if tally.broken or not tally.repeated else OK


def prepare(out: Path) -> None:
    """An empty folder; an earlier replay's is replaced, anything else is left alone and refused.

    Errors: ContractError.
    """
    from molmoact2_contract import ContractError

    if out.exists():
        if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file()):
            raise ContractError(f"{out} exists and is not an earlier replay's folder; name another with --out")
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True)
        (out / MARK).write_text("Written by molmoact2 replay.\n")
    except OSError as error:
        raise ContractError(f"--out {out} cannot be written: {error}") from error
