# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is looked at before an arm may be driven. Only reads: nothing is enabled, and no register is written.

i2rt's own start-up checks write a motor's control mode to its flash where it is wrong; here it is named instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import can
from i2rt.motor_config_tool.dm_motor_registers import REG_BY_ADDR, DMRegAddr
from i2rt.motor_drivers.motor_check import matches
from i2rt.motor_drivers.utils import MotorErrorCode, MotorType

from arm_controller.driver import DriverError

from .channel import Channel, diagnosis
from .hardware import Hardware, Motor
from .motors import COMM_LOSS, HOT, OFF, ON, Feedback, MotorBus, Silent

IDS = range(1, 16)        # a feedback frame has four bits for a motor's number
LOOKS = 3
PATIENCE = 0.2            # [s] for all motors to answer
MIT = 1                   # register CTRL_MODE
TICK = 50e-6              # [s] of register TIMEOUT: 8000, which the maker's tool sets, is 400 ms
TIMEOUT = 8000
# Chosen: 0.2 s, longer than a turn of the loop in which no other motor answers, to 1 s.
SHORTEST, LONGEST = 4000, 20000

MENDS = {
    MotorErrorCode.over_voltage: "check the power supply: 24 V",
    MotorErrorCode.under_voltage: "check the power supply and its cable: 24 V, enough current",
    MotorErrorCode.over_current: "look for what blocks the joint, then switch the arm's power off and on",
    MotorErrorCode.overload: "look for what blocks the joint, then switch the arm's power off and on",
    MotorErrorCode.mosfet_over_temperature: "let it cool down below 60 degC",
    MotorErrorCode.motor_over_temperature: "let it cool down below 60 degC",
    COMM_LOSS: "it heard no command for longer than its timeout and let go; check the CAN cable and the load of the "
    "processor",
}


@dataclass(frozen=True)
class Survey:
    """readings: of each motor, in order. timeouts: of each motor's own failsafe [s]."""

    readings: tuple[Feedback, ...]
    timeouts: tuple[float, ...]


def survey(bus: MotorBus, hardware: Hardware, names: tuple[str, ...], channel: Channel) -> Survey:
    """Looks at all motors. names: the joints, in motor order. Errors: DriverError that names what does not fit."""
    try:
        _check_ids(bus, hardware, names, channel)
        faults, timeouts = [], []
        for motor, name in zip(hardware.motors, names, strict=True):
            found, timeout = motor_faults(bus, motor, name, channel)
            faults += found
            timeouts.append(timeout)
        if faults:
            raise DriverError(f"on {channel.text}: " + "; ".join(faults))
        readings = tuple(bus.refresh(motor) for motor in hardware.motors)
    except (Silent, RuntimeError, OSError, can.CanError) as error:
        if isinstance(error, DriverError):
            raise
        raise DriverError(
            f"the motors on {channel.text} answer unreliably ({error}); check the CAN cable, its plugs and both "
            "termination resistors"
        ) from error
    for motor, name, reading in zip(hardware.motors, names, readings, strict=True):
        if reading.status not in (OFF, ON, COMM_LOSS):
            raise DriverError(fault_text(motor, name, reading))
    return Survey(readings, tuple(timeouts))


def motor_faults(bus: MotorBus, motor: Motor, name: str, channel: Channel) -> tuple[list[str], float]:
    """What is wrong with one motor's registers, in words, and its own timeout [s]. Errors: RuntimeError or Silent where
    it does not answer; OSError, can.CanError."""
    timeout = int(bus.register(motor.id, DMRegAddr.TIMEOUT))
    faults = _register_faults(bus, motor, name) + _timeout_faults(motor, name, timeout, channel)
    return faults, timeout * TICK


def fault_text(motor: Motor, name: str, reading: Feedback) -> str:
    """What a motor reports, in words, and the mend."""
    heat = f" at {max(reading.mos, reading.rotor):.0f} degC" if reading.status in HOT else ""
    mend = MENDS.get(reading.status, "switch the arm's power off and on")
    return f"motor {motor.id} ({name}) reports {reading.words}{heat}; {mend}"


def _check_ids(bus: MotorBus, hardware: Hardware, names: tuple[str, ...], channel: Channel) -> None:
    wanted = {motor.id: name for motor, name in zip(hardware.motors, names, strict=True)}
    # Ids that nobody should have first: who has one answers before the last that is waited for.
    strangers = [number for number in IDS if number not in wanted]
    found = bus.ask_serials([*strangers, *wanted], list(wanted), PATIENCE)
    for _ in range(LOOKS):
        silent = [number for number in wanted if not found[number]]
        if silent and len(silent) < len(wanted):
            found |= bus.ask_serials(silent, silent, PATIENCE)
    there = [number for number in IDS if found[number]]
    if not there:
        raise DriverError(
            diagnosis(bus.bus.raw, channel)
            or f"no motor answers on {channel.text}; switch the arm's power on, release the E-stop, check the CAN cable"
        )
    doubled = [number for number in there if len(found[number]) > 1 and _is_doubled(bus, number)]
    if doubled:
        raise DriverError(
            f"two motors on {channel.text} answer as id {_numbers(doubled)}; unplug one of them, and give each its own "
            "id with the maker's tool"
        )
    strange = [number for number in there if number not in wanted]
    also = f"; id {_numbers(strange)} answers and belongs to no joint" if strange else ""
    missing = [number for number in wanted if number not in there]
    if missing:
        which = ", ".join(f"{number} ({wanted[number]})" for number in missing)
        raise DriverError(
            f"motor {which} does not answer on {channel.text}, and {_numbers(there)} do{also}; check its cable and its "
            "id, and whether options arm_type and gripper name what is mounted"
        )
    if strange:
        raise DriverError(
            f"motor {_numbers(strange)} answers on {channel.text} and belongs to no joint of this arm; options "
            "arm_type and gripper must name what is mounted, and each arm needs a bus of its own"
        )


def _is_doubled(bus: MotorBus, number: int) -> bool:
    """A second answer may also be a late one to an earlier question; of two motors it comes each time."""
    return all(len(bus.ask_serials([number], [number], PATIENCE)[number]) > 1 for _ in range(LOOKS))


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _register_faults(bus: MotorBus, motor: Motor, name: str) -> list[str]:
    gear = bus.register(motor.id, DMRegAddr.GR)
    if not matches(REG_BY_ADDR[DMRegAddr.GR], gear, motor.gear):
        alike = [kind for kind, ratio in MotorType.known_gear_ratios().items() if abs(ratio - gear) < 1e-3]
        looks = f", which {' and '.join(sorted(alike))} have" if alike else ""
        return [
            f"motor {motor.id} ({name}) is no {motor.kind}: its gear ratio is {gear:g}{looks}, expected "
            f"{motor.gear:g}; options arm_type and gripper must name what is mounted"
        ]
    wanted: dict[DMRegAddr, tuple[float, str]] = {
        DMRegAddr.MST_ID: (motor.id + 16, "it must answer with its id plus 16"),
        DMRegAddr.CTRL_MODE: (MIT, "it must be in MIT mode"),
        DMRegAddr.PMAX: (motor.position, "it scales positions"),
        DMRegAddr.VMAX: (motor.velocity, "it scales speeds"),
        DMRegAddr.TMAX: (motor.torque, "it scales torques"),
    }
    faults = []
    for register, (value, why) in wanted.items():
        spec, found = REG_BY_ADDR[register], bus.register(motor.id, register)
        if not matches(spec, found, value):
            faults.append(
                f"motor {motor.id} ({name}) has {spec.name} {found:g}, expected {value:g} ({why}); set it with the "
                "maker's tool: python -m i2rt.motor_config_tool.dm_motor_registers"
            )
    return faults


def _timeout_faults(motor: Motor, name: str, value: int, channel: Channel) -> list[str]:
    mend = f"set it to {TIMEOUT} ({TIMEOUT * TICK:g} s): molmoact2 yam timeout --channel {channel.text}"
    if value == 0:
        return [
            f"motor {motor.id} ({name}) has its command timeout switched off: it would hold or push for ever when this "
            f"process dies; {mend}"
        ]
    if not SHORTEST <= value <= LONGEST:
        return [
            f"motor {motor.id} ({name}) has command timeout {value} ({value * TICK:g} s), expected {SHORTEST} to "
            f"{LONGEST}; {mend}"
        ]
    return []
