# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2`. Packages add subcommands through the entry-point group `molmoact2.commands`: the
name is the subcommand, the value a function `register(subparsers)` that adds a parser with the default
`func=callable(args) -> int`.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points

from . import infer_command
from .errors import ModelError

GROUP = "molmoact2.commands"
EXIT_OK, EXIT_UNEXPECTED, EXIT_BAD_INPUT = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand that is installed; one that cannot be loaded is named on stderr and left out."""
    parser = argparse.ArgumentParser(
        prog="molmoact2",
        description="MolmoAct2 on robots. Each installed package of the suite adds its subcommands.",
        epilog="Exit status: 0 done, 2 bad input (one line says what), 1 anything unexpected.",
    )
    subparsers = parser.add_subparsers(title="subcommands", metavar="COMMAND", required=True)
    infer_command.register(subparsers)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in subparsers.choices:
            continue
        try:
            point.load()(subparsers)
        except Exception as error:
            print(f"molmoact2: subcommand {point.name!r} could not be loaded: {error}", file=sys.stderr)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.func(args))
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return EXIT_UNEXPECTED


if __name__ == "__main__":
    sys.exit(main())
