# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Finding an arm on a bus, and whether it is the arm that is meant. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .bus import NoAnswer, ServoBus
from .calibration import Calibration
from .registers import (
    BAUD_RATES,
    CONTROL,
    EEPROM,
    FEEDBACK,
    HOMING_OFFSET,
    MAX_POSITION,
    MIN_POSITION,
    MODEL,
    MODEL_NUMBER,
    PRESENT_VOLTAGE,
    TORQUE_ENABLE,
    Register,
)
from .supply import Supply

TRIES = 3    # that two servos of one id are listened for


class ArmError(RuntimeError):
    """The arm on the bus is not as expected; the text names the servo, what was expected, and the mend."""


@dataclass(frozen=True)
class Servo:
    """What a servo says of itself. eeprom: its first 40 registers; torque: whether it is on."""

    id: int
    eeprom: bytes
    torque: bool

    def value(self, register: Register) -> int:
        return register.within(self.eeprom, 0)


def identify(
    bus: ServoBus, ids: Mapping[str, int], baud: int, thorough: bool = True, supplied: bool = True
) -> dict[str, Servo]:
    """Finds the servos by motor name, all STS3215, each id once, with a supply that fits. Errors: ArmError, PortError.

    thorough: listens for two servos of one id also where every servo answers soundly. supplied: looks at the supply.
    """
    _everybody_is_there(bus, ids, baud)
    servos = {}
    for name, servo in ids.items():
        try:
            eeprom = bus.read(servo, EEPROM).data
            control = bus.read(servo, CONTROL).data
        except NoAnswer as error:
            nobody_answers_twice(bus, ids)
            raise ArmError(f"{error} ({name}); look at its cable and at those before it in the chain") from error
        servos[name] = Servo(servo, eeprom, bool(TORQUE_ENABLE.within(control, CONTROL[0])))
    if thorough:
        nobody_answers_twice(bus, ids)
    _models(servos)
    if supplied:
        _supplies(bus, servos)
    return servos


def _everybody_is_there(bus: ServoBus, ids: Mapping[str, int], baud: int) -> None:
    missing = [name for name, servo in ids.items() if not _answers(bus, servo)]
    if not missing:
        return
    if len(missing) < len(ids):
        nobody_answers_twice(bus, {name: servo for name, servo in ids.items() if name not in missing})
        named = ", ".join(f"{ids[name]} ({name})" for name in missing)
        others = sorted(bus.find()[0] - set(ids.values()))
        hint = f"; there is also a servo with id {', '.join(map(str, others))}, which may be it" if others else ""
        raise ArmError(
            f"servo {named} does not answer, the others do{hint}; look at its cable, and whether its id was set"
        )
    raise ArmError(_nobody_answers(bus, ids, baud))


def _answers(bus: ServoBus, servo: int) -> bool:
    try:
        bus.ping(servo)
    except NoAnswer as error:
        return bool(error.garbled)    # somebody is there; what is wrong is found out later
    return True


def _nobody_answers(bus: ServoBus, ids: Mapping[str, int], baud: int) -> str:
    """Why nobody answers: another rate, other ids, or nobody."""
    found, _ = bus.find()
    if found:
        wanted = ", ".join(str(servo) for servo in ids.values())
        return (
            f"none of the servos {wanted} answers, but {', '.join(map(str, sorted(found)))} does: new servos all have "
            "id 1; set their ids one by one (docs/robots/so101.md)"
        )
    for other in BAUD_RATES:
        if other == baud:
            continue
        bus.set_baud(other)
        found, _ = bus.find()
        bus.set_baud(baud)
        if found:
            return (
                f"the servos {', '.join(map(str, sorted(found)))} answer at {other} baud, not at {baud}: set the "
                f"option baud={other}, or their Baud_Rate register to 0 ({BAUD_RATES[0]})"
            )
    return (
        f"no servo answers on {bus.port.path} at any rate: switch the arm's own power supply on (USB does not power "
        "it), look at the cable from the adapter to the first servo, and whether this is the arm's port"
    )


def nobody_answers_twice(bus: ServoBus, ids: Mapping[str, int]) -> None:
    """Errors: ArmError for two servos of one id. They answer at the same time: more than one frame comes, or a broken
    one each time. What they say must differ to be broken, as their positions do, or their calibrations; to a ping all
    say the same."""
    for name, servo in ids.items():
        if any(_is_answered_twice(bus, servo, block) for block in (FEEDBACK, EEPROM)):
            raise ArmError(
                f"id {servo} ({name}) is answered by more than one servo, or in broken frames only: two servos have "
                "the same id (new ones all have 1); unplug all but one and set its id (docs/robots/so101.md)"
            )


def _is_answered_twice(bus: ServoBus, servo: int, block: tuple[int, int]) -> bool:
    for _ in range(TRIES):
        answers = bus.echoes(servo, block)
        if len(answers) < 2 and answers != [None]:
            return False
    return True


def _models(servos: Mapping[str, Servo]) -> None:
    for name, servo in servos.items():
        model = servo.value(MODEL_NUMBER)
        if model != MODEL:
            raise ArmError(
                f"servo {servo.id} ({name}) is of model {model}, not an STS3215 ({MODEL}); its registers may differ, "
                "so it is not moved: replace it"
            )


def _supplies(bus: ServoBus, servos: Mapping[str, Servo]) -> None:
    for name, servo in servos.items():
        try:
            voltage = PRESENT_VOLTAGE.within(bus.read(servo.id, FEEDBACK).data, FEEDBACK[0]) / 10
        except NoAnswer as error:
            raise ArmError(f"{error} ({name}); look at its cable") from error
        misfits = Supply.of(servo.eeprom).misfits(voltage)
        if misfits:
            raise ArmError(f"servo {servo.id} ({name}) {misfits}")


def check_calibration(servos: Mapping[str, Servo], calibration: Calibration, source: str) -> None:
    """Whether a calibration is that of these servos: they carry its numbers themselves. Errors: ArmError."""
    different = []
    for name, servo in servos.items():
        motor = calibration[name]
        theirs = tuple(servo.value(register) for register in (HOMING_OFFSET, MIN_POSITION, MAX_POSITION))
        ours = (motor.homing_offset, motor.range_min, motor.range_max)
        if theirs != ours:
            different.append(f"{name} has {_numbers(theirs)}, the file {_numbers(ours)}")
    if different:
        raise ArmError(
            f"the calibration {source} is not that of this arm ({'; '.join(different)}): it is another arm's, or the "
            "arm was calibrated anew since; choose its own file, or make one with `molmoact2 calibrate so101`"
        )


def _numbers(values: tuple[int, ...]) -> str:
    return f"offset {values[0]}, range {values[1]} .. {values[2]}"
