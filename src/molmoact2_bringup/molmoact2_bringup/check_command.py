# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 check`: its arguments."""

from __future__ import annotations

import argparse

from .cli import _positive


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "check",
        help="look at everything before a robot is run",
        description="Goes through a system in order and says of each thing whether it is well and what to do where it "
        "is not: checkpoint, cameras and their order (pictures are saved to look at), joints against the training "
        "statistics, calibration, bus, temperatures, timeouts, memory, measured latency, clocks, disk. It starts the "
        "system's processes but for the policy, with controllers in shadow: nothing moves without --move. Ends what it "
        "started; a real arm that was moved and would fall is waited for until it is parked, or until Ctrl-C. Exit "
        "code: 0 when nothing failed, 1 when something did, 2 for bad input, 130 after Ctrl-C.",
    )
    parser.add_argument("system", help="name of a file in config/systems (e.g. so101_sim), or a path")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PROCESS.PARAMETER=VALUE", dest="settings",
        help="change one parameter of the system file; may be repeated",
    )
    parser.add_argument(
        "--double", action="store_true",
        help="a double in place of the device: checks the system NAME_double, which stands beside NAME",
    )
    parser.add_argument("--out", default="out/check", metavar="DIR", help="folder to write (default: out/check)")
    parser.add_argument("--running", action="store_true", help="listen to the system that runs; start nothing")
    parser.add_argument("--offline", action="store_true", help="only what needs no device and no process")
    parser.add_argument(
        "--move", action="store_true",
        help="at the end move one joint by 3 degrees and back, slowly, after a question; looks at the direction",
    )
    parser.add_argument("--joint", default="", help="which one (default: the last that turns and has room)")
    parser.add_argument("--yes", action="store_true", help="do not ask before moving")
    parser.add_argument(
        "--for", type=_positive, default=5.0, metavar="SECONDS", dest="seconds", help="how long to listen (default: 5)"
    )

    def run(args: argparse.Namespace) -> int:
        from pathlib import Path

        from .check.command import check
        from .check.options import Options
        from .up import double_of

        options = Options(
            Path(args.out), args.running, args.offline, args.move, args.joint, args.yes, args.seconds
        )
        return check(double_of(args.system) if args.double else args.system, args.settings, options)

    parser.set_defaults(func=run)
