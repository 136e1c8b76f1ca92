# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrating an arm: the middle pose, then a sweep of every joint, into a LeRobot file and into the servos.

Whatever ends it early (Ctrl-C, a fault), the servos get back what they had in their memory. Their torque stays off: the
arm lies where it fell to, or hangs in a hand, and nobody may switch it on there unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from molmoact2_contract import Contract

from .bus import ServoBus
from .calibration import (
    FULL_TURN,
    LEAST_RANGE,
    MOST_OFFSET,
    MOTORS,
    Calibration,
    MotorCalibration,
    Units,
    load_calibration,
)
from .identify import ArmError, Servo
from .registers import (
    FEEDBACK,
    HOMING_OFFSET,
    MAX_POSITION,
    MIN_POSITION,
    MOST_COUNT,
    PHASE,
    PRESENT_POSITION,
)
from .servos import switch_off
from .settings import MULTI_TURN, clear_calibration, write_calibration, write_eeprom

HALF_TURN = 2047     # [counts]; where the middle pose is
LEAP = 1500          # [counts] between two looks; no hand is so fast, so the count has passed the end of its turn


class Stopped(Exception):
    """The person ended it."""


class Terminal(Protocol):
    """Who calibrates. Errors: Stopped."""

    def say(self, text: str) -> None: ...

    def ask(self, text: str) -> None:
        """Waits for Enter."""

    def entered(self, text: str) -> bool:
        """Shows a text in place of the one before; whether Enter was pressed since the last ask()."""


class Calibrator:
    """Calibrates the servos of one arm. Errors: ArmError, NoAnswer, PortError, Stopped."""

    def __init__(self, bus: ServoBus, servos: Mapping[str, Servo], terminal: Terminal):
        self._bus, self._servos, self._terminal = bus, servos, terminal
        self._ids = {name: servo.id for name, servo in servos.items()}

    def run(self, keep: Callable[[Calibration], None]) -> Calibration:
        """Calibrates, writes the servos, and has the result kept; where that ends early, their memory is as before, and
        the person is told how the arm is left."""
        self._switch_off()
        try:
            calibration = self._calibrate()
            write_calibration(self._bus, calibration)
            keep(calibration)
        except BaseException:
            self._restore()
            raise
        return calibration

    def _restore(self) -> None:
        """Errors: ArmError, where the servos are left without their calibration."""
        try:
            write_calibration(self._bus, {name: self._calibration_of(servo) for name, servo in self._servos.items()})
            for name, servo in self._servos.items():
                if servo.value(PHASE) & MULTI_TURN:
                    write_eeprom(self._bus, name, servo.id, {PHASE: servo.value(PHASE)})
        except BaseException as error:
            raise ArmError(
                f"the servos did not get back what they had ({error or type(error).__name__}), and the arm is limp: "
                "calibrate anew, or put a file back with --write, before anything moves it"
            ) from error
        self._terminal.say("\nThe servos have the calibration and settings that they had. The arm is limp.")

    @staticmethod
    def _calibration_of(servo: Servo) -> MotorCalibration:
        offset, least, most = (servo.value(r) for r in (HOMING_OFFSET, MIN_POSITION, MAX_POSITION))
        return MotorCalibration(servo.id, 0, offset, least, most)

    def _switch_off(self) -> None:
        on = [name for name, servo in self._servos.items() if servo.torque]
        held = "Nothing was changed."
        try:
            if on:
                self._terminal.ask(
                    f"{', '.join(on)} hold. Take the arm in your hand, for it will fall; then press Enter to make it "
                    "limp: "
                )
                held = "Servos may be limp, and the arm may fall. Nothing else was changed."
            switch_off(self._bus, self._ids)
        except (Stopped, KeyboardInterrupt):
            self._terminal.say(f"\n{held}")
            raise

    def _calibrate(self) -> Calibration:
        for name, servo in self._servos.items():
            clear_calibration(self._bus, name, servo.id)
            if servo.value(PHASE) & MULTI_TURN:
                write_eeprom(self._bus, name, servo.id, {PHASE: servo.value(PHASE) & ~MULTI_TURN})
        self._terminal.ask("Put every joint by hand into the middle of what it can do, the gripper half open; Enter: ")
        offsets = {name: self._offset(name, position) for name, position in self._positions().items()}
        for name, offset in offsets.items():
            write_eeprom(self._bus, name, self._ids[name], {HOMING_OFFSET: offset})
        ranges = self._sweep()
        return {
            name: MotorCalibration(self._ids[name], 0, offsets[name], *ranges[name]) for name in self._servos
        }

    @staticmethod
    def _offset(name: str, position: int) -> int:
        offset = position - HALF_TURN
        if abs(offset) > MOST_OFFSET:
            raise ArmError(f"{name} stands at the end of its encoder's turn; turn it a little and begin again")
        return offset

    def _sweep(self) -> dict[str, tuple[int, int]]:
        """Follows the joints from stop to stop until Enter; the wrist turns all around and has no stops to find."""
        swept = [name for name in MOTORS if name != FULL_TURN]
        self._terminal.say(f"Move {', '.join(swept)} one after the other slowly from stop to stop.")
        last = self._positions()
        least, most = dict(last), dict(last)
        while True:
            now = self._positions()
            for name in swept:
                if abs(now[name] - last[name]) > LEAP:
                    raise ArmError(
                        f"{name} passed the end of its encoder's turn: it began too far from its middle; start anew"
                    )
                least[name], most[name] = min(least[name], now[name]), max(most[name], now[name])
            last = now
            if self._terminal.entered("  ".join(f"{n} {least[n]}..{most[n]}" for n in swept) + "   Enter ends it "):
                break
        unswept = [name for name in swept if most[name] - least[name] < LEAST_RANGE]
        if unswept:
            raise ArmError(f"{', '.join(unswept)} hardly moved; sweep every joint from stop to stop")
        outside = [name for name in swept if least[name] < 0 or most[name] > MOST_COUNT]
        if outside:
            raise ArmError(f"{', '.join(outside)} left the encoder's turn: the middle pose was not in its middle")
        return {name: (least[name], most[name]) for name in swept} | {FULL_TURN: (0, MOST_COUNT)}

    def _positions(self) -> dict[str, int]:
        answers = self._bus.sync_read(list(self._ids.values()), FEEDBACK)
        return {name: PRESENT_POSITION.within(answers[servo].data, FEEDBACK[0]) for name, servo in self._ids.items()}


def short_of(calibration: Calibration, contract: Contract) -> list[str]:
    """What the contract allows and a calibrated arm does not reach, in words, with what to write in the contract."""
    units = Units(calibration, MOTORS)
    texts = []
    for index, name in enumerate(MOTORS):
        joint = contract.joints.get(name)
        if joint is None or joint.is_gripper:
            continue
        least, most = max(joint.lower, units.lower[index]), min(joint.upper, units.upper[index])
        if (least, most) != (joint.lower, joint.upper):
            texts.append(f"{name}: {{position: [{np.ceil(least * 1e3) / 1e3:g}, {np.floor(most * 1e3) / 1e3:g}], ...}}")
    return texts


def put_back(bus: ServoBus, servos: Mapping[str, Servo], path: Path, terminal: Terminal) -> Calibration:
    """Writes a file's calibration into the servos. Errors: as of Calibrator, CalibrationError."""
    calibration = load_calibration(str(path))
    if any(servo.torque for servo in servos.values()):
        raise ArmError("the arm holds, and would move with another calibration; release it first")
    terminal.ask(f"The servos get the calibration {path}. It must be that of this arm. Enter: ")
    write_calibration(bus, calibration)
    return calibration
