# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 fast`: tokenizers of actions, fitted to data sets and held against them; chunks as tokens and back."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..fast import FastTokenizer
    from .fast_data import Robot
    from .fast_report import Measured

HORIZON, EVERY, SCALE, VOCABULARY = 30, 5, 10.0, 1024


def register(subparsers: Any) -> None:
    fast = subparsers.add_parser(
        "fast",
        help="tokenizers for discrete actions (OpenFAST)",
        description="Actions as a few tokens: a cosine transform along time, rounded, and byte-pair encoding of what "
        "it gives. Data sets are LeRobot's, without a conversion of units: in those of the norm statistics.",
    )
    actions = fast.add_subparsers(title="actions", metavar="ACTION", required=True)
    _register_train(actions)
    _register_inspect(actions)
    _register_encode(actions)
    _register_decode(actions)


def _register_train(actions: Any) -> None:
    parser = actions.add_parser(
        "train",
        help="fit a tokenizer to data sets",
        description="Writes a FAST tokenizer in the released layout, with report.json. It expresses every chunk in the "
        "model's range, and those like the data's in few tokens.",
    )
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="folder of a LeRobot data set")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="tokenizer to write")
    add = parser.add_argument
    add("--vocabulary", type=int, default=VOCABULARY, metavar="N",
        help="tokens; a checkpoint has 2048 for actions (default: %(default)s)")
    add("--scale", type=float, default=SCALE, metavar="S",
        help="coefficients are rounded to 1/S: finer means more tokens (default: %(default)g)")
    _add_common(parser)
    parser.set_defaults(func=_run, action=_train)


def _register_inspect(actions: Any) -> None:
    parser = actions.add_parser(
        "inspect",
        help="what a tokenizer does to the chunks of data sets",
        description="Codes and decodes the chunks of data sets: tokens, compression, and error by joint.",
    )
    _add_held(parser)
    parser.set_defaults(func=_run, action=_inspect)


def _register_encode(actions: Any) -> None:
    parser = actions.add_parser(
        "encode",
        help="write the chunks of data sets as tokens",
        description="Writes a parquet file with the tokens of each chunk, and says what inspect says. Chunks that have "
        "no tokens are left out and counted. The file keeps what decode needs besides the tokenizer.",
    )
    _add_held(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="parquet file to write")
    parser.set_defaults(func=_run, action=_encode)


def _register_decode(actions: Any) -> None:
    parser = actions.add_parser(
        "decode",
        help="write the chunks that tokens stand for",
        description="From a file of encode, a parquet file with the chunk of each row: horizon x joints numbers, "
        "waypoint by waypoint, in the data set's units. Tokens that spell no chunk of that shape are an error.",
    )
    parser.add_argument("tokenizer", type=Path, metavar="FOLDER", help="the FAST tokenizer that encoded them")
    parser.add_argument("tokens", type=Path, metavar="TOKENS", help="what molmoact2 fast encode wrote")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="parquet file to write")
    parser.set_defaults(func=_run, action=_decode)


def _add_held(parser: argparse.ArgumentParser) -> None:
    """For what holds a given tokenizer against data."""
    parser.add_argument("tokenizer", type=Path, metavar="FOLDER", help="a FAST tokenizer, e.g. a released one")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="folder of a LeRobot data set")
    _add_common(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--horizon", type=int, action="append", default=[], metavar="N",
        help=f"waypoints of a chunk; again for each DATA (default: the norm tag's, else {HORIZON})")
    add("--norm-stats", type=Path, metavar="FILE",
        help="norm_stats.json to normalise by (default: quantiles 0.01 and 0.99 of each robot's data)")
    add("--tag", action="append", default=[], metavar="NAME", help="norm tag in it; again for each DATA")
    add("--every", type=int, default=EVERY, metavar="N",
        help="a chunk from every Nth frame on (default: %(default)s)")


def _run(args: argparse.Namespace) -> int:
    from molmoact2_data.layout import DatasetError

    out = getattr(args, "out", None)
    if out is not None and out.exists():
        raise InputError(f"-o {out} is there already; remove it or choose another place")
    try:
        args.action(args)
    except DatasetError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"cannot be written: {error}") from None
    return 0


def _train(args: argparse.Namespace) -> None:
    from .fast_fit import fit, write
    from .fast_report import normalized

    if not (math.isfinite(args.scale) and args.scale > 0):
        raise InputError(f"--scale is {args.scale}, expected a number above 0")
    robots, show = _robots(args), sys.stderr.isatty()
    chunks = (chunk for robot in robots for _, chunk in normalized(robot, args.every, show))
    fast = fit(chunks, max(robot.horizon for robot in robots), args.scale, args.vocabulary)
    found = _measured(fast, robots, args.every)
    horizons, widths = {robot.horizon for robot in robots}, {len(robot.joints) for robot in robots}
    shape = (horizons.pop() if len(horizons) == 1 else None, widths.pop() if len(widths) == 1 else None)
    write(args.out, fast, args.vocabulary, shape, _report(fast, found, args.every))
    print(f"{fast.vocab_size} tokens\n\n{args.out}")


def _inspect(args: argparse.Namespace) -> None:
    from ..fast import FastTokenizer

    fast = FastTokenizer.from_folder(args.tokenizer)
    _write_figures(args, fast, _measured(fast, _robots(args), args.every))


def _encode(args: argparse.Namespace) -> None:
    from ..fast import FastTokenizer
    from .fast_codes import encode
    from .fast_report import table

    fast = FastTokenizer.from_folder(args.tokenizer)
    found = encode(fast, args.tokenizer, _robots(args), args.every, args.out, sys.stderr.isatty())
    for measured in found:
        print(table(measured) + "\n")
    _write_figures(args, fast, found)
    print(args.out)


def _decode(args: argparse.Namespace) -> None:
    from .fast_codes import decode

    for robot, count in decode(args.tokenizer, args.tokens, args.out, sys.stderr.isatty()).items():
        print(f"{robot}: {count} chunks")
    print(f"\n{args.out}")


def _write_figures(args: argparse.Namespace, fast: FastTokenizer, found: list[Measured]) -> None:
    if args.json is not None:
        args.json.write_text(json.dumps(_report(fast, found, args.every), indent=1) + "\n", encoding="utf-8")


def _robots(args: argparse.Namespace) -> list[Robot]:
    from .fast_data import robots_of_data, robots_of_tags

    for name, value in (("--horizon", min(args.horizon, default=1)), ("--every", args.every)):
        if value < 1:
            raise InputError(f"{name} is {value}, expected at least 1")
    if args.tag and args.norm_stats is None:
        raise InputError("--tag names a part of --norm-stats FILE, which is not given")
    if args.norm_stats is None:
        return robots_of_data(args.data, args.horizon or [HORIZON])
    return robots_of_tags(args.data, args.norm_stats, args.tag, args.horizon)


def _measured(fast: FastTokenizer, robots: list[Robot], every: int) -> list[Measured]:
    from .fast_report import measure, table

    found = []
    for robot in robots:
        found.append(measure(fast, robot, every, sys.stderr.isatty()))
        print(table(found[-1]) + "\n")
    return found


def _report(fast: FastTokenizer, found: list[Measured], every: int) -> dict[str, Any]:
    from .fast_report import as_dict

    return {
        "tokens": fast.vocab_size, "scale": fast.scale, "min_token": fast.min_token, "every": every,
        "robots": [as_dict(measured) for measured in found],
    }
