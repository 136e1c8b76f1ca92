# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The commands `molmoact2 calibrate` and `molmoact2 so101`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
HALF_RELEASED = "the torque of some servos may be off: `molmoact2 so101 state` shows it"
HALF_NAMED = "the servo may have its new id, and be unlocked: run the same again"


def register_calibrate(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="calibrate an arm by hand",
        description="Takes an SO-100 or SO-101 through its middle pose and a sweep of its joints, and writes a "
        "calibration file as LeRobot's and the servos' own memory. The arm is limp meanwhile, and after it. Ctrl-C "
        "gives the servos' memory back what it had, and leaves the arm limp. Exit code: 0, 1 where the arm failed, 2 "
        "for bad input, 130 for Ctrl-C.",
    )
    parser.add_argument("robot", choices=("so101", "so100"), help="kind of arm; a leader arm is one too")
    _add_port(parser)
    parser.add_argument("--name", default="", help="name of the calibration: a file in ~/.config/molmoact2/calibration")
    parser.add_argument("--out", default="", metavar="FILE", help="the file, instead of a name")
    parser.add_argument("--replace", action="store_true", help="replace a file that is there")
    parser.add_argument("--contract", default="", help="whose limits are compared (default: that of the kind of arm)")
    parser.add_argument(
        "--write", action="store_true", help="calibrate nothing; write the file that is there into the servos"
    )
    parser.set_defaults(func=lambda args: _guarded(lambda: _run_calibrate(args), _half_written(args)))


def _add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", required=True, help='of the servo bus, e.g. /dev/ttyACM0; "double": the double\'s')
    parser.add_argument("--baud", type=int, default=1_000_000, help="rate of the servos (default %(default)s)")


def register_so101(subparsers: Any) -> None:
    so101 = subparsers.add_parser("so101", help="an SO-100 or SO-101 on its bus, without ROS")
    actions = so101.add_subparsers(title="actions", metavar="ACTION", required=True)

    parser = actions.add_parser(
        "state", help="what the servos say of themselves", description="Lists the servos. It only reads."
    )
    _add_port(parser)
    parser.add_argument("--calibration", default="", help="name or file; positions are then also shown in ROS units")
    parser.set_defaults(func=lambda args: _guarded(lambda: _tools().state(args), "nothing was changed"))

    parser = actions.add_parser(
        "release", help="switch the torque off",
        description="Switches the torque off. An arm that is not at its rest pose would fall, so it is refused there "
        "unless you hold it and say --limp. End the controller first, after park.",
    )
    _add_port(parser)
    parser.add_argument("--calibration", default="", help="name or file; needed without --limp")
    parser.add_argument("--contract", default="so101", help="contract with the rest pose (default %(default)s)")
    parser.add_argument("--limp", action="store_true", help="wherever the arm is: it falls, so hold it")
    parser.set_defaults(func=lambda args: _guarded(lambda: _tools().release(args), HALF_RELEASED))

    parser = actions.add_parser(
        "set-id", help="give a new servo its id", description="Gives the only servo on the bus another id."
    )
    _add_port(parser)
    parser.add_argument("--id", type=int, required=True, help="1 shoulder_pan .. 6 gripper")
    parser.set_defaults(func=lambda args: _guarded(lambda: _tools().set_id(args), HALF_NAMED))

    parser = actions.add_parser(
        "double", help="an arm on a pseudo terminal, to try things without one",
        description="Serves a double of an arm until Ctrl-C or the end of the input, whose lines put faults into it.",
    )
    parser.add_argument("--link", default="", help="name of the port (default: what `port=double` stands for)")
    parser.add_argument("--plant", choices=("point", "mujoco"), default="mujoco", help="(default %(default)s)")
    parser.add_argument("--calibration-out", default="", metavar="FILE", help="write its calibration there")
    parser.set_defaults(func=lambda args: _guarded(lambda: _tools().double(args), "the double is gone"))


def _tools() -> Any:
    from . import tools

    return tools


def _run_calibrate(args: argparse.Namespace) -> int:
    return _tools().calibrate(args, _tools().Screen())


def _half_written(args: argparse.Namespace) -> str:
    """A calibration says itself how it leaves the arm."""
    return "some servos may have the file's calibration: run the same again" if args.write else ""


def _guarded(run: Callable[[], int], ended: str) -> int:
    """ended: how Ctrl-C leaves the arm."""
    from arm_controller.driver import DriverError
    from molmoact2_contract import ContractError

    from .bus import NoAnswer
    from .calibrate import Stopped
    from .calibration import CalibrationError
    from .identify import ArmError
    from .port import PortError

    try:
        return run()
    except (CalibrationError, ContractError, PortError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except (ArmError, DriverError, NoAnswer, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, Stopped):
        print("\n" + "; ".join(filter(None, ("ended", ended))), file=sys.stderr)
        return INTERRUPTED
