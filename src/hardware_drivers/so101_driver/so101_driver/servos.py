# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The servos of one arm on its bus: found, checked, read, sent, switched on and off. Counts here; no ROS units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import settings
from .bus import TIMEOUT, NoAnswer, ServoBus
from .calibration import Calibration
from .identify import ArmError, Servo, check_calibration, identify
from .port import Port
from .registers import (
    ACCELERATION,
    CONTROL,
    FEEDBACK,
    GOAL_POSITION,
    GOAL_VELOCITY,
    LOCK,
    MAX_TEMPERATURE,
    TORQUE_ENABLE,
    TORQUE_LIMIT,
)
from .supply import Supply
from .watch import Reading

FASTEST = 254    # of the acceleration registers: the controller limits acceleration, not the servo
HOLD_TRIES = OFF_TRIES = 3


@dataclass(frozen=True)
class Control:
    """What a servo is told. torque: whether it is on; goal [counts]."""

    torque: bool
    goal: int


class ArmServos:
    """An arm whose servos answer. Motors go by name, in the order given. Errors of each call: ArmError, NoAnswer,
    PortError.

    thorough: also listens for two servos of one id, which takes a tenth of a second. timeout: for an answer [s].
    supplied: also looks at the supply.
    """

    def __init__(
        self, path: str, baud: int, calibration: Calibration, source: str, motors: Sequence[str], thorough: bool = True,
        timeout: float = TIMEOUT, supplied: bool = True,
    ):
        self.motors = tuple(motors)
        self.ids = {name: calibration[name].id for name in motors}
        self.bus = ServoBus(Port(path, baud), baud, timeout)
        try:
            self.servos: dict[str, Servo] = identify(self.bus, self.ids, baud, thorough, supplied)
            check_calibration(self.servos, calibration, source)
        except BaseException:
            self.close()
            raise
        self._next = 0

    def close(self) -> None:
        """The servos go on as they are."""
        self.bus.port.close()

    @property
    def temperature_limits(self) -> dict[str, int]:
        """At which each servo drops its torque by itself [deg C]."""
        most = settings.MOST_TEMPERATURE
        return {name: min(servo.value(MAX_TEMPERATURE), most) for name, servo in self.servos.items()}

    @property
    def supplies(self) -> dict[str, Supply]:
        return {name: Supply.of(servo.eeprom) for name, servo in self.servos.items()}

    def set_up(self) -> None:
        """Brings the servos' settings to what a follower needs; moves nothing."""
        settings.apply(self.bus, self.servos)

    # --- reading ------------------------------------------------------------------------------------------------------
    def read(self) -> dict[str, Reading]:
        answers = self.bus.sync_read(list(self.ids.values()), FEEDBACK)
        return {name: Reading.of(answers[servo]) for name, servo in self.ids.items()}

    def controls(self) -> dict[str, Control]:
        answers = self.bus.sync_read(list(self.ids.values()), CONTROL)

        def of(block: bytes) -> Control:
            return Control(bool(TORQUE_ENABLE.within(block, CONTROL[0])), GOAL_POSITION.within(block, CONTROL[0]))

        return {name: of(answers[servo].data) for name, servo in self.ids.items()}

    def limp(self) -> list[str]:
        """The motors whose torque is off."""
        return [name for name, control in self.controls().items() if not control.torque]

    def next_is_limp(self) -> str:
        """The next motor in turn, where its torque is off; else empty. Asked at each cycle, all are seen in six."""
        name = self.motors[self._next % len(self.motors)]
        self._next += 1
        control = self.bus.read(self.ids[name], CONTROL).data
        return "" if TORQUE_ENABLE.within(control, CONTROL[0]) else name

    # --- writing ------------------------------------------------------------------------------------------------------
    def send(self, goals: Mapping[str, int]) -> None:
        """Goals by motor, in one frame that nobody answers; a lost one is replaced by the next."""
        self.bus.sync_write(GOAL_POSITION, {self.ids[name]: goal for name, goal in goals.items()})

    def switch_on(self, present: Mapping[str, int]) -> None:
        """Switches the torque on where it is off, each servo where it is, so that none moves. Speed and most torque are
        set of all: a servo that another program left on has that program's."""
        off = self.limp()
        for name, servo in self.ids.items():
            self.bus.write(servo, ACCELERATION, FASTEST)
            self.bus.write(servo, GOAL_VELOCITY, 0)
            self.bus.write(servo, TORQUE_LIMIT, settings.torque_limit(name))
            if name in off:
                self.bus.write(servo, GOAL_POSITION, present[name])
                self.bus.write(servo, TORQUE_ENABLE, 1)
                self.bus.write(servo, LOCK, 1)
        still = self.limp()
        if still:
            raise ArmError(f"{', '.join(still)} did not switch on; the others hold. Switch the arm's power off and on")

    def hold(self, goals: Mapping[str, int]) -> None:
        """Sets goals and reads them back, so that it is known that they are held."""
        for _ in range(HOLD_TRIES):
            self.send(goals)
            answers = self.bus.sync_read([self.ids[name] for name in goals], CONTROL)
            held = {name: GOAL_POSITION.within(answers[self.ids[name]].data, CONTROL[0]) for name in goals}
            if held == dict(goals):
                return
        wrong = ", ".join(name for name in goals if held[name] != goals[name])
        raise ArmError(f"{wrong} did not take the goal to hold at; another program may be on the bus")

    def end_overload(self, present: Mapping[str, int]) -> None:
        """Ends the overload protection of motors: their torque goes off and on again, each where it is. One whose
        torque is off stays off."""
        for name, goal in present.items():
            servo = self.ids[name]
            on = TORQUE_ENABLE.within(self.bus.read(servo, CONTROL).data, CONTROL[0])
            if on:
                self.bus.write(servo, GOAL_POSITION, goal)
            self.bus.write(servo, TORQUE_ENABLE, 0)
            if on:
                self.bus.write(servo, TORQUE_ENABLE, 1)

    def switch_off(self) -> None:
        """The arm falls, unless it rests on something."""
        switch_off(self.bus, self.ids)


def switch_off(bus: ServoBus, ids: Mapping[str, int]) -> None:
    """Switches servos off, by motor name; all at once, so that one that is silent does not leave the others on. The arm
    falls, unless it rests on something. Errors: ArmError says who is still on, or does not say; PortError."""
    for _ in range(OFF_TRIES):
        bus.sync_write(TORQUE_ENABLE, dict.fromkeys(ids.values(), 0))
        on, silent = _still_on(bus, ids)
        if not on and not silent:
            return
    texts = [f"{', '.join(on)} did not switch off"] if on else []
    texts += [f"{', '.join(silent)} did not answer, and may be on"] if silent else []
    raise ArmError(f"{'; '.join(texts)}; of the others the torque is off. Switch the arm's power off")


def _still_on(bus: ServoBus, ids: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The motors whose torque is on, and those that do not answer."""
    on, silent = [], []
    for name, servo in ids.items():
        try:
            if TORQUE_ENABLE.within(bus.read(servo, CONTROL).data, CONTROL[0]):
                on.append(name)
        except NoAnswer:
            silent.append(name)
    return on, silent
