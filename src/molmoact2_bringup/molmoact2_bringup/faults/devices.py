# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of devices, by driver: what the driver's double is told, what must be said of it, and what the arm then does.

A new one is a line here; what a double can do stands in its own documentation (docs/robots).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from molmoact2_contract import ContractError, Process, System
from molmoact2_msgs.msg import ControllerStatus

S = ControllerStatus
OF_DRIVER = (S.FAULT_DRIVER, S.FAULT_STATE_STALE)
SOUND, SLOW, GONE = "sound", "slow", "gone"    # what is left of a bus: slow, where it asks again; gone, for setpoints
OF_FROZEN = (S.FAULT_STATE_FROZEN, S.FAULT_TRACKING, S.FAULT_STATE_STALE)


@dataclass(frozen=True)
class DeviceFault:
    """name: in words. spoil, mend: what the double is told, one after the other. named: words, one of which the fault's
    text has; empty where the arm must go on. codes: one of which is expected. falls: a joint that has lost its torque
    moves as gravity wants. bus: SOUND: what the arm is told comes to rest within the limits, and it is judged by that;
    SLOW: likewise, but when it is told tells nothing of changes of its speed; GONE: it is told nothing, and stops as
    its device does."""

    name: str
    spoil: tuple[str, ...]
    mend: tuple[str, ...]
    named: tuple[str, ...] = ()
    codes: tuple[int, ...] = OF_DRIVER
    falls: bool = False
    bus: str = GONE


# Of the six answers in a cycle one that is missing costs 0.06 s, which the double is waited for: with one in a hundred
# lost, of 13 such rows one saw setpoints pause for a tenth of a second, and one an arm fall behind its plan and hold.
SO101 = (
    DeviceFault("single answers are lost", ("drop 0.003",), ("ok",), bus=SLOW),
    DeviceFault("single answers are corrupt", ("corrupt 0.003",), ("ok",), bus=SLOW),
    DeviceFault("a servo is silent", ("silent 3",), ("ok",), ("servo 3 does not answer (elbow_flex)",)),
    DeviceFault("every answer is lost", ("drop 1",), ("ok",), ("does not answer",)),
    DeviceFault("every answer is corrupt", ("corrupt 1",), ("ok",), ("broken frames",)),
    DeviceFault("every answer is late", ("delay 1",), ("ok",), ("does not answer",)),
    DeviceFault("the cable is pulled and plugged in", ("unplug",), ("replug",), ("has gone",)),
    DeviceFault("the power fails", ("power_off",), ("power_on",), ("power supply",), falls=True),
    DeviceFault("the power of one servo dips", ("limp 2",), (), ("shoulder_lift lost torque",), falls=True),
    DeviceFault("a servo is overloaded", ("overload 4",), (), ("overloaded",), falls=True),
    DeviceFault("a servo is hot", ("heat 2 68",), ("heat 2 40",), ("68 deg C",), bus=SOUND),
    DeviceFault(
        "a servo overheats", ("heat 2 80",), ("heat 2 40", "power_off", "power_on"), ("overheated",), falls=True
    ),
    DeviceFault("the supply sags", ("volts 1 4.2",), ("volts 1 7.4",), ("4.2 V",), bus=SOUND),
)
YAM = (
    DeviceFault("single answers are lost", ("drop 0.01",), ("ok",), bus=SLOW),
    DeviceFault("single answers are corrupt", ("corrupt 0.01",), ("ok",), bus=SLOW),
    DeviceFault("a motor is overloaded", ("fail 4 OVERLOAD",), (), ("reports overload",), falls=True, bus=SOUND),
    DeviceFault(
        "a motor takes too much current", ("fail 1 OVER_CURRENT",), (), ("reports over current",), falls=True, bus=SOUND
    ),
    DeviceFault(
        "a motor has too little voltage", ("fail 6 UNDER_VOLTAGE",), (), ("under voltage",), falls=True, bus=SOUND
    ),
    DeviceFault("a motor has too much voltage", ("fail 5 OVER_VOLTAGE",), (), ("over voltage",), falls=True, bus=SOUND),
    DeviceFault("a motor is hot", ("heat 3 71",), ("ok",), ("is at 71 degC, more than 70; the arm holds",), bus=SOUND),
    DeviceFault(
        "a motor overheats", ("heat 6 101",), ("ok",), ("over temperature at 101 degC",), falls=True, bus=SOUND
    ),
    DeviceFault("a motor's cable comes off", ("cable 6 out",), ("cable 6 in",), ("motor 6",), falls=True, bus=SLOW),
    DeviceFault("every answer is lost", ("drop 1",), ("ok",), ("any more",), falls=True),
    DeviceFault("every answer is corrupt", ("corrupt 1",), ("ok",), ("any more",), falls=True),
    DeviceFault("the bus is off", ("busoff on",), ("busoff off",), ("any more",), falls=True),
    DeviceFault("the adapter is pulled and plugged in", ("adapter out",), ("adapter in",), ("adapter",), falls=True),
    DeviceFault("the power fails", ("power off",), ("power on",), ("any more", "disabled"), falls=True),
)
FRANKA = (
    DeviceFault("a joint meets resistance", ("reflex joint_reflex",), (), ("joint_reflex",)),
    DeviceFault("the hand meets resistance", ("reflex cartesian_reflex",), (), ("cartesian_reflex",)),
    DeviceFault("the joints need too much power", ("reflex power_limit_violation",), (), ("power_limit_violation",)),
    DeviceFault("commands are lost", ("drop on",), ("drop off",), ("communication_constraints_violation",)),
    DeviceFault("commands come late", ("rate 0.5",), ("rate 1.0",), ("only 50 % of the commands",)),
    DeviceFault("the user stop is pressed", ("user_stop",), ("release",), ("user stop is pressed",)),
    DeviceFault("the brakes close", ("brakes",), ("release",), ("joints are locked",)),
    DeviceFault(
        "the connection is cut", ("hang_up",), (), ("connection to the robot", "sent no state", "has stood for")
    ),
    DeviceFault(
        "the robot is silent", ("silent on",), ("silent off",),
        ("connection to the robot", "sent no state", "has stood for"),
    ),
    DeviceFault(
        "the power fails", ("power off",), ("power on", "release"),
        ("connection to the robot", "sent no state", "has stood for"),
    ),
    DeviceFault(
        "states repeat themselves", ("freeze on",), ("freeze off",),
        ("repeat themselves", "away from its command", "sent no state"), (*OF_DRIVER, *OF_FROZEN),
    ),
    DeviceFault("the hand is silent", ("hand silent",), ("hand ok",), ("the hand at",), bus=SOUND),
)
WORLDS_OWN = ("mujoco", "so101")    # whose setpoints the simulated servos get; of others the double tells itself
FAULTS: Mapping[str, tuple[DeviceFault, ...]] = {"so101": SO101, "yam": YAM, "franka": FRANKA}


def faults_of(system: System, only: Sequence[str] = ()) -> tuple[DeviceFault, ...]:
    """Those of its driver's doubles. only: names of those that are wanted; all of them where it is empty. Errors:
    ContractError."""
    table = FAULTS.get(driver_of(system), ())
    names = {fault.name for fault in table}
    for name in only:
        if name not in names:
            there = ", ".join(sorted(names)) or "none, its devices are no doubles"
            raise ContractError(f"{system.path}: no fault of its devices is called {name!r}; there are: {there}")
    return tuple(fault for fault in table if not only or fault.name in only)


def driver_of(system: System) -> str:
    """The driver of a system's arms."""
    drivers = {str(p.parameters["driver"]) for p in system.processes if "driver" in p.parameters}
    if len(drivers) != 1:
        named = ", ".join(sorted(drivers)) or "none"
        raise ContractError(f"{system.path}: its arms have the drivers {named}; one is needed")
    return drivers.pop()


def double_of(system: System, arm: str) -> Process:
    """The process that stands for the device of an arm. Errors: ContractError."""
    for process in system.processes:
        if process.executable == "double" and process.parameters.get("arm", "arm") == arm:
            return process
    raise ContractError(f"{system.path}: no process is the double of arm {arm!r}")
