# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 yam`: a YAM without ROS: its state, its gripper's limits, its failsafe, letting it go limp, a double."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

FAILED, BAD_INPUT = 1, 2


class BadInput(Exception):
    """What was asked for is refused, and nothing was done."""


def register(subparsers: Any) -> None:
    yam = subparsers.add_parser("yam", help="an I2RT YAM arm, without ROS")
    actions = yam.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add(actions, "state", "looks at every motor; nothing moves", _state)
    gripper = _add(actions, "gripper", "finds the gripper's limits: it closes and opens", _gripper)
    gripper.add_argument("--move", action="store_true", help="it may move now: hands away from the fingers")
    timeout = _add(actions, "timeout", "sets and saves the motors' command timeout, their failsafe", _timeout)
    timeout.add_argument("--seconds", type=float, default=0.4, help="0.2 to 1 (default %(default)s)")
    limp = _add(actions, "limp", "switches all motors off: the arm falls", _limp)
    limp.add_argument("--falls", action="store_true", help="somebody holds the arm, or nothing is below it")
    from .double.command import add_arguments, run

    double = actions.add_parser("double", help="a double of an arm's motors on a virtual port")
    add_arguments(double)
    double.set_defaults(func=run)


def _add(actions: Any, name: str, words: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
    parser.add_argument("--channel", required=True, help="can0, or slcan:/dev/ttyACM0")
    parser.add_argument("--arm-type", default="yam", help="(default %(default)s)")
    parser.add_argument("--gripper", default="linear_4310", help="(default %(default)s)")
    parser.set_defaults(func=lambda args: _answer(run, args))
    return parser


def _answer(run: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    import can

    from .motors import Silent

    try:
        run(args)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except Silent as error:
        print(f"error: {error} does not answer on {args.channel}; check its cable and its power", file=sys.stderr)
        return FAILED
    except (OSError, can.CanError) as error:
        print(f"error: the CAN adapter of {args.channel} fails ({error}); check its cable", file=sys.stderr)
        return FAILED
    except RuntimeError as error:    # a DriverError, or what i2rt raises where a register does not answer
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    return 0


@contextmanager
def _bus(args: argparse.Namespace) -> Iterator[tuple[Any, Any, Any, tuple[str, ...]]]:
    """The motors on a bus that nobody else uses; hardware, channel and names of the motors. Errors: BadInput,
    DriverError."""
    from arm_controller.driver import DriverError

    from .channel import Lock, must_be_quiet, open_bus, parse_channel
    from .hardware import find_hardware
    from .motors import MotorBus

    try:
        channel, hardware = parse_channel(args.channel), find_hardware(args.arm_type, args.gripper)
    except DriverError as error:
        raise BadInput(str(error)) from error
    names = (*(f"joint {number}" for number in range(1, len(hardware.motors))), "gripper")
    lock = Lock(channel)
    try:
        bus = open_bus(channel)
        try:
            must_be_quiet(bus, channel)
            yield MotorBus(bus, channel.text), hardware, channel, names
        finally:
            bus.shutdown()
    finally:
        lock.release()


def _state(args: argparse.Namespace) -> None:
    from .checks import survey

    with _bus(args) as (bus, hardware, channel, names):
        found = survey(bus, hardware, names, channel)
    for motor, name, reading, timeout in zip(hardware.motors, names, found.readings, found.timeouts, strict=True):
        print(
            f"motor {motor.id} {motor.kind} {name:8} {reading.position:7.3f} rad  {reading.words:18} "
            f"{max(reading.mos, reading.rotor):3.0f} degC  lets go after {timeout:.2f} s without a command"
        )


def _gripper(args: argparse.Namespace) -> None:
    from .gripper import find_limits

    if not args.move:
        raise BadInput("this closes and opens the gripper; take your hands away and add --move")
    with _bus(args) as (bus, hardware, channel, names):
        closed, opened = find_limits(bus, hardware, names, channel)
    print(f"gripper_limits={closed:.3f},{opened:.3f}")


def _timeout(args: argparse.Namespace) -> None:
    from arm_controller.driver import DriverError

    from .checks import LONGEST, SHORTEST, TICK
    from .motors import ON

    value = round(args.seconds / TICK)
    if not SHORTEST <= value <= LONGEST:
        raise BadInput(f"--seconds {args.seconds:g} is out of range; {SHORTEST * TICK:g} to {LONGEST * TICK:g}")
    with _bus(args) as (bus, hardware, channel, _):
        for motor in hardware.motors:
            if bus.refresh(motor).status == ON:
                raise DriverError(f"motor {motor.id} is on; let the arm down and switch its power off and on first")
        for motor in hardware.motors:
            bus.write_timeout(motor.id, value)
    print(f"{len(hardware.motors)} motors on {channel.text} let go after {args.seconds:g} s without a command")


def _limp(args: argparse.Namespace) -> None:
    from arm_controller.driver import DriverError

    from .switching import switch_all_off

    if not args.falls:
        raise BadInput("a YAM has no brakes and falls; hold it, and add --falls")
    with _bus(args) as (bus, hardware, channel, _):
        stuck = switch_all_off(bus, hardware)
    if stuck:
        raise DriverError(f"motors {stuck} on {channel.text} did not say that they are off; switch the arm's power off")
