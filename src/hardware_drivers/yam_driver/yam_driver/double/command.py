# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The double as a program: an arm behind a virtual port, and faults by lines on its standard input."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from molmoact2_contract.stop_flag import StopFlag

from .arm import GRIPPER_LIMITS, DoubleArm
from .motor import Status
from .plants import MujocoPlant, SimplePlant

REST = (0.0, 0.0, 0.0, -0.24, 0.0, 0.0, 0.0)
HELP = """faults, one a line:
  fail 4 OVERLOAD        an error of motor 4; others are: OVER_VOLTAGE UNDER_VOLTAGE OVER_CURRENT MOS_HOT ROTOR_HOT
                         COMM_LOSS
  heat 4 71              motor 4 is at 71 degC
  cable 4 out            and: cable 4 in
  power off              and: power on
  adapter out            and: adapter in
  busoff on              and: busoff off
  drop 0.1               share of answers that are lost
  corrupt 0.1            share of answers that are spoilt
  ok                     nothing is spoilt or hot, and all is plugged in; motors in error stay so
and questions:
  ask                    -> positions of the shafts, states of the motors (JSON)
  trail                  -> where the shafts were and what the motors were told, since this was last asked (JSON)"""


class BadLine(ValueError):
    """A line that is no fault."""


def obey(arm: DoubleArm, line: str) -> str:
    """One fault, or a question; returns the answer, where there is one. Errors: BadLine."""
    words = line.split()
    try:
        match words:
            case ["fail", number, status]:
                arm.motor(int(number)).fail(Status[status.upper()])
            case ["heat", number, temperature]:
                arm.motor(int(number)).rotor = float(temperature)
            case ["cable", number, "out" | "in" as where]:
                arm.motor(int(number)).plugged = where == "in"
            case ["power", "on" | "off" as how]:
                arm.power(how == "on")
            case ["adapter", "out" | "in" as where]:
                (arm.adapter.plug if where == "in" else arm.adapter.unplug)()
            case ["busoff", "on" | "off" as how]:
                arm.adapter.bus_off = how == "on"
            case ["drop", share]:
                arm.adapter.drop = float(share)
            case ["corrupt", share]:
                arm.adapter.corrupt = float(share)
            case ["ok"]:
                _mend(arm)
            case ["ask"]:
                return json.dumps(_told(arm))
            case ["trail"]:
                return json.dumps(arm.take_trail())
            case _:
                raise BadLine(f"{line!r} is no fault\n{HELP}")
    except (ValueError, KeyError, IndexError) as error:
        raise error if isinstance(error, BadLine) else BadLine(f"{line!r}: {error}\n{HELP}") from error
    return ""


def _mend(arm: DoubleArm) -> None:
    arm.adapter.plug()
    arm.adapter.drop = arm.adapter.corrupt = 0.0
    arm.adapter.bus_off = False
    for motor in arm.motors:
        motor.plugged, motor.mos, motor.rotor = True, 30.0, 30.0


def _told(arm: DoubleArm) -> dict[str, object]:
    return {"positions": arm.positions(), "motors": [motor.status.name for motor in arm.motors]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "A double of one YAM: seven Damiao motors behind a serial CAN adapter, with its weight."
    parser.epilog = HELP
    parser.add_argument("--link", type=Path, required=True, help="a symbolic link to make, which leads to the port")
    parser.add_argument("--plain", action="store_true", help="joints without weight, in place of the arm's model")


def run(args: argparse.Namespace) -> int:
    arm = DoubleArm(args.link, SimplePlant() if args.plain else MujocoPlant(), start=REST)
    ended = StopFlag()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    print(f"channel=slcan:{args.link} gripper_limits={GRIPPER_LIMITS}", flush=True)
    threading.Thread(target=_read, args=(arm,), daemon=True).start()
    ended.wait()
    arm.close()
    return 0


def _read(arm: DoubleArm) -> None:
    for line in sys.stdin:
        if line.strip():
            try:
                answer = obey(arm, line)
                print(f"done: {answer or line.strip()}", flush=True)
            except BadLine as error:
                print(f"error: {' '.join(str(error).split())}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="double")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
