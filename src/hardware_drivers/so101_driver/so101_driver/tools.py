# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands do. Errors: as of the parts they use; commands.py puts them into words."""

from __future__ import annotations

import argparse
import contextlib
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from molmoact2_contract import ContractError, load_contract

from .bus import TIMEOUT, NoAnswer, ServoBus
from .calibrate import Calibrator, Stopped, Terminal, put_back, short_of
from .calibration import (
    MOTORS,
    Calibration,
    CalibrationError,
    Units,
    folders,
    load_calibration,
    save_calibration,
)
from .double.arm import NAME as DOUBLE
from .double.arm import default_link, double_calibration, make_double
from .double.bus import USAGE, FaultError
from .double.plants import MujocoPlant, Plant, PointPlant
from .driver import DOUBLES_TIMEOUT
from .identify import ArmError, identify, nobody_answers_twice
from .port import Port
from .registers import FEEDBACK, FIRMWARE_MAJOR, FIRMWARE_MINOR, ID, LOCK
from .rest import must_rest
from .servos import ArmServos, switch_off
from .watch import Reading

IDS = {name: index + 1 for index, name in enumerate(MOTORS)}
SHOWN_EVERY = 0.05    # [s]


class Screen:
    """A person at a terminal."""

    def say(self, text: str) -> None:
        print(text, flush=True)

    def ask(self, text: str) -> None:
        try:
            input(text)
        except EOFError:
            raise Stopped from None

    def entered(self, text: str) -> bool:
        print(f"\r{text}", end="", flush=True)
        if not select.select([sys.stdin], [], [], SHOWN_EVERY)[0]:
            return False
        if not sys.stdin.readline():
            raise Stopped
        print(flush=True)
        return True


@contextlib.contextmanager
def open_bus(port: str, baud: int) -> Iterator[ServoBus]:
    opened = Port(default_link() if port == DOUBLE else port, baud)
    try:
        yield ServoBus(opened, baud)
    finally:
        opened.close()


# --- calibrate --------------------------------------------------------------------------------------------------------
def calibrate(args: argparse.Namespace, terminal: Terminal) -> int:
    path, contract = _file(args), load_contract(args.contract or args.robot)
    with open_bus(args.port, args.baud) as bus:
        servos = identify(bus, IDS, args.baud)
        if args.write:
            put_back(bus, servos, path, terminal)
            terminal.say(f"the servos have the calibration {path}")
            return 0
        calibration = Calibrator(bus, servos, terminal).run(lambda made: save_calibration(path, made))
    terminal.say(f"{path}")
    short = short_of(calibration, contract)
    if short:
        terminal.say(
            f"The arm reaches less than {contract.path} allows. Sweep again to the stops, or put into a copy of it:\n  "
            + "\n  ".join(short)
        )
    return 0


def _file(args: argparse.Namespace) -> Path:
    if bool(args.name) == bool(args.out):
        raise CalibrationError("say where the calibration belongs: either --name or --out")
    path = Path(args.out).expanduser() if args.out else folders()[0] / f"{args.name}.json"
    if args.write and not path.is_file():
        raise CalibrationError(f"{path} is not there; without --write it would be made")
    if path.exists() and not (args.replace or args.write):
        raise CalibrationError(f"{path} is there already; --replace puts the new calibration in its place")
    return path


# --- so101 ------------------------------------------------------------------------------------------------------------
def state(args: argparse.Namespace) -> int:
    calibration = _calibration(args.calibration) if args.calibration else None
    ids = {name: motor.id for name, motor in calibration.items()} if calibration else IDS
    with open_bus(args.port, args.baud) as bus:
        servos = identify(bus, ids, args.baud)
        answers = bus.sync_read(list(ids.values()), FEEDBACK)
    readings = {name: Reading.of(answers[servo]) for name, servo in ids.items()}
    counts = np.array([float(readings[name].position) for name in MOTORS])
    ros = Units(calibration, MOTORS).to_ros(counts) if calibration else None
    print(f"{'motor':14} id  firmware  torque  counts     ROS  degC     V     A  reports")
    for index, name in enumerate(MOTORS):
        servo, reading = servos[name], readings[name]
        firmware = f"{servo.value(FIRMWARE_MAJOR)}.{servo.value(FIRMWARE_MINOR)}"
        position = f"{ros[index]:.3f}" if ros is not None else "-"
        print(
            f"{name:14}{servo.id:3}{firmware:>10}{'on' if servo.torque else 'off':>8}{reading.position:8}{position:>8}"
            f"{reading.temperature:6}{reading.voltage:6.1f}{reading.current:6.2f}  {reading.error or 'nothing'}"
        )
    return 0


def _calibration(name: str) -> Calibration:
    return double_calibration() if name == DOUBLE else load_calibration(name)


def release(args: argparse.Namespace) -> int:
    if args.limp:
        with open_bus(args.port, args.baud) as bus:
            switch_off(bus, IDS)
    else:
        if not args.calibration:
            raise CalibrationError("--calibration is needed to know where the arm is; or hold it, and say --limp")
        _release_at_rest(args)
    print("the torque is off")
    return 0


def _release_at_rest(args: argparse.Namespace) -> None:
    """Of the contract only the rest pose counts: what else it allows is nothing to an arm that is to be switched off.
    No setting of a servo is looked at or written either, nor its supply looked at."""
    contract, calibration = load_contract(args.contract), _calibration(args.calibration)
    if any(motor not in contract.joints for motor in MOTORS):
        raise ContractError(f"{contract.path} is not of an SO-100 or SO-101: it has no {', '.join(MOTORS)}")
    port, timeout = (default_link(), DOUBLES_TIMEOUT) if args.port == DOUBLE else (args.port, TIMEOUT)
    servos = ArmServos(port, args.baud, calibration, args.calibration, MOTORS, timeout=timeout, supplied=False)
    try:
        counts = np.array([float(reading.position) for reading in servos.read().values()])
        must_rest(MOTORS, Units(calibration, MOTORS).to_ros(counts), contract.values("rest", MOTORS))
        servos.switch_off()
    finally:
        servos.close()


def set_id(args: argparse.Namespace) -> int:
    if args.id not in IDS.values():
        raise ArmError(f"--id is {args.id}; an arm's servos are 1 ({MOTORS[0]}) to {len(MOTORS)} ({MOTORS[-1]})")
    with open_bus(args.port, args.baud) as bus:
        found, broken = bus.find()
        if len(found) != 1 or broken:
            there = ", ".join(map(str, sorted(found))) or "none in sound frames"
            raise ArmError(f"exactly one servo must be on the bus, found are {there}; unplug the others")
        old = found.pop()
        nobody_answers_twice(bus, {"the only servo, it seems": old})
        bus.write(old, LOCK, 0)    # whatever ends it from here on: the same command again mends it
        with contextlib.suppress(NoAnswer):    # the answer may come from the new id already
            bus.write(old, ID, args.id)
        bus.write(args.id, LOCK, 1)
        bus.ping(args.id)
    print(f"servo {old} is now servo {args.id} ({MOTORS[args.id - 1]})")
    return 0


def double(args: argparse.Namespace) -> int:
    plant: Plant = MujocoPlant() if args.plant == "mujoco" else PointPlant()
    link = args.link or default_link()
    if args.calibration_out:
        save_calibration(Path(args.calibration_out), double_calibration())
    port = make_double(plant, link)
    print(f"{link}\nfaults, one a line: " + "; ".join([*USAGE, "unplug", "replug"]), flush=True)
    try:
        for line in sys.stdin:
            try:
                port.spoil(line.strip())
                print("done", flush=True)
            except FaultError as error:
                print(f"error: {error}", flush=True)
    finally:
        port.close()
    return 0
