# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2`, on every computer of a robot. Packages add subcommands through the entry-point group
`molmoact2.commands`: the name is the subcommand, the value a function `register(subparsers)` that adds a parser with
the default `func=callable(args) -> int`. What a computer lacks is imported there only: when the subcommand runs.
"""

from __future__ import annotations

import argparse
import errno
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points

from .refusal import Refusal

GROUP = "molmoact2.commands"
EXIT_OK, EXIT_UNEXPECTED, EXIT_BAD_INPUT = 0, 1, 2
STATUS = "Exit status: 0 done, 2 bad input (one line says what), 1 anything unexpected."


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand that is installed. One whose packages are not on this computer is named in the
    help, another that cannot be loaded on stderr; both are left out."""
    parser = argparse.ArgumentParser(
        prog="molmoact2",
        description="MolmoAct2 on robots. Each installed package of the suite adds its subcommands.",
    )
    subparsers = parser.add_subparsers(title="subcommands", metavar="COMMAND", dest="subcommand", required=True)
    absent = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in subparsers.choices:
            continue
        try:
            point.load()(subparsers)
        except Exception as error:
            package = _absent_package(error)
            if package:
                absent.append(f"{point.name} (needs {package})")
            else:
                print(f"molmoact2: subcommand {point.name!r} could not be loaded: {error}", file=sys.stderr)
    parser.epilog = f"Not on this computer: {', '.join(absent)}. {STATUS}" if absent else STATUS
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.func(args))
    except Refusal as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = f" for {error.filename}" if error.filename else ""
            print(f"error: the disk has no room left{place}; make some, or name a folder on another", file=sys.stderr)
            return EXIT_BAD_INPUT
        package = _absent_package(error)
        if package:
            text = f"molmoact2 {args.subcommand} needs the Python package {package}, which is not on this computer"
            print(f"error: {text}; run it where that is installed (docs/deployment.md)", file=sys.stderr)
            return EXIT_BAD_INPUT
        traceback.print_exc()
        return EXIT_UNEXPECTED


def _absent_package(error: Exception) -> str:
    """The whole package that is not there; empty for any other error, also for a module that its package lacks."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return name if name and "." not in name else ""


if __name__ == "__main__":
    sys.exit(main())
