# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm driver of SO-100 and SO-101 followers.

What stopping means on this arm: the servos hold their last goal, whoever sent it and whether that program still lives,
until their torque or their power goes off; then the arm falls, for it has no brakes. So stop() and close() leave it
holding, and only release() switches the torque off.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from arm_controller import driver
from arm_controller.driver import ArmDriver, ArmState, DriverError
from molmoact2_contract import Arm, Contract

from .bus import TIMEOUT, NoAnswer
from .calibration import GRIPPER, MOTORS, Calibration, CalibrationError, Units, load_calibration
from .double.arm import NAME as DOUBLE
from .double.arm import default_link, double_calibration
from .hand import Hand
from .health import HealthRecord
from .identify import ArmError
from .port import PortError
from .registers import BAUD_RATES, OVERLOAD
from .rest import must_rest
from .servos import ArmServos, Control
from .watch import Reading, Watch

BEYOND = 0.0175        # [rad] (one degree), gripper: share; so far past its range's end a goal is sent as that end
FIRST_STEP = 0.2       # [rad]; the first setpoint lies no farther from where the arm is
SAME = 0.003           # [rad] (two counts), gripper: share; so near to each other goals are the same
BLIND_FOR = 1.0        # [s]; of an arm that is not well setpoints are sent so long, for a ramp to rest
FOR_THE_DOUBLE = 30.0    # [s]; it is started beside the controller, and waits for the simulated world
DOUBLES_TIMEOUT = 0.06   # [s]; it shares a computer with everything else
TRY_AGAIN = 0.25       # [s] between two tries to open a port that has gone
OPTIONS = ("port", "calibration", "baud", "at_close")
AT_CLOSE = ("hold", "release")

Value = TypeVar("Value")

logger = logging.getLogger("so101_driver")


class SO101Driver(ArmDriver):
    """One follower arm.

    port: of the bus; calibration, and the source it is from; patience: how long to wait for the port to appear [s].
    timeout: for an answer of the bus, of which there are three tries [s]. at_close: "hold", or "release", which
    switches the torque off at close where this driver has moved the arm and it is at its rest pose, and holds
    elsewhere.
    """

    def __init__(self, contract: Contract, arm: Arm, port: str, calibration: Calibration, source: str,
                 baud: int = BAUD_RATES[0], at_close: str = "hold", patience: float = 0.0, timeout: float = TIMEOUT,
                 real: bool = True):
        self._contract, self._arm, self._port, self._baud, self._at_close = contract, arm, port, baud, at_close
        self._calibration, self._source, self._patience = calibration, source, patience
        self._timeout, self.real = timeout, real
        unknown = [joint for joint in arm.joints if joint not in MOTORS]
        if unknown or len(arm.joints) != len(MOTORS):
            raise DriverError(f"arm {arm.name!r} has joints {', '.join(arm.joints)}; an SO-101 has {', '.join(MOTORS)}")
        self._units = Units(calibration, arm.joints)
        self._check_range()
        self._rest = contract.values("rest", arm.joints)
        self._gripper = np.array([joint == GRIPPER for joint in arm.joints])
        self._servos: ArmServos | None = None
        self._watch: Watch | None = None
        self._hand: Hand | None = None
        self._moved = False            # this driver has driven the arm; else it stands as somebody left it
        self._on = False               # this driver has seen to it that the torque of every servo is on
        self._doubtful = False         # something failed since that was known
        self._fallen = ""              # motors that lost their torque, until an operator has cleared that
        self._goals = np.full(len(arm.joints), np.nan)    # what servos that are on hold at, ROS units
        self._readings: dict[str, Reading] = {}    # the newest; empty where the servos did not answer
        self._eased = False            # the gripper's overload was ended once already
        self._read_at = self._tried_at = -np.inf    # steady clock [s]
        self._lost = ""
        self._health = HealthRecord()

    def _check_range(self) -> None:
        """The contract must not allow what this arm cannot reach: its servos would stop short, silently."""
        lower = self._contract.values("lower", self._arm.joints)
        upper = self._contract.values("upper", self._arm.joints)
        short = (lower < self._units.lower - BEYOND) | (upper > self._units.upper + BEYOND)
        if short.any():
            joint = int(np.argmax(short))
            least, most = self._units.lower[joint], self._units.upper[joint]
            raise DriverError(
                f"the contract lets {self._arm.joints[joint]!r} go from {lower[joint]:g} to {upper[joint]:g} rad, but "
                f"by calibration {self._source} this arm reaches {least:.3f} to {most:.3f}: narrow `position` in "
                f"{self._contract.path}, or calibrate again and sweep that joint to both of its stops"
            )

    # --- the interface ------------------------------------------------------------------------------------------------
    def connect(self) -> None:
        """Opens the bus, checks that it is this arm, and sets what a follower needs; moves nothing and switches nothing
        on or off. Whether the arm is well the first reading tells, so that one that holds and is hot can be parked.
        Errors: DriverError."""
        self._moved = False
        deadline = time.monotonic() + self._patience
        while not os.path.exists(self._port) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._ask(lambda: self._attach(thorough=True))

    def read(self) -> ArmState:
        """Positions in ROS units. Errors: DriverError, also for a servo that is not well or has lost its torque."""
        if self._servos is None:
            self._attach_again()
        return self._ask(self._read)

    def write(self, positions: np.ndarray) -> None:
        """Sends one setpoint in ROS units; the first one, and the first after recover(), switches servos on that are
        off. Errors: DriverError, also where the last reading failed, or a servo has lost its torque since."""
        goals = self._sound(positions)
        self._ask(lambda: self._write(goals))

    def stop(self) -> None:
        """Holds where the arm is, and what its gripper holds; servos that are off stay off. Errors: DriverError."""
        self._ask(self._hold)

    def held(self) -> np.ndarray:
        """What servos that are on hold at, whoever told them; NaN for those that are off."""
        return self._goals.copy()

    def recover(self) -> None:
        """Ends the overload protection of joints, lets a hot arm be parked, and lets the next setpoint switch on what
        has lost its torque. Errors: DriverError."""
        if self._servos is not None:    # a port that has gone is found again by reading
            self._ask(self._recover)

    def guide(self) -> None:
        """The arm gives way to a firm hand and stays where it is left (hand.py); its torque stays on. Hands are
        followed in read(). Errors: DriverError."""
        if not self._on or not self._readings:
            raise DriverError("the arm is not held by this driver; arm it first")
        bent = np.where(self._gripper, self._units.to_ros(self._counts(self._readings)) - self._goals, 0.0)
        self._hand = Hand(self._goals, self._units.lower, self._units.upper, bent)

    def health(self) -> Sequence[driver.Reading]:
        """What each servo said with its last position, and how the bus does."""
        return self._health.readings(self._servos.bus if self._servos is not None else None)

    def close(self) -> None:
        """Leaves the bus. The servos hold their last goals, for ever, unless at_close is "release", this driver has
        moved the arm, and it is at its rest pose."""
        if self._servos is None:
            return
        try:
            if self._at_close == "release" and self._moved:
                self.release()
        except DriverError as error:    # it holds, which is what a close does otherwise
            logger.warning("arm %s is closed with its torque on: %s", self._arm.name, error)
        finally:
            self._leave()

    def release(self, limp: bool = False) -> None:
        """Switches the torque off: the arm falls unless it rests. limp: wherever it is. Errors: DriverError, also where
        the arm is not at its rest pose."""
        self._ask(lambda: self._release(limp))

    # --- what they do; errors: ArmError, NoAnswer, PortError ----------------------------------------------------------
    def _attach(self, thorough: bool) -> None:
        self._servos = ArmServos(
            self._port, self._baud, self._calibration, self._source, self._arm.joints, thorough, self._timeout
        )
        try:
            self._servos.set_up()
            self._goals = self._told(self._servos.controls())
        except BaseException:
            self._leave()
            raise
        self._watch = Watch(self._servos.temperature_limits, self._servos.supplies)
        self._doubtful, self._hand, self._fallen = False, None, ""

    def _attach_again(self) -> None:
        """After the port has gone: the arm that is there now is looked at anew, as it may be another."""
        now = time.monotonic()
        if not self._lost:
            raise DriverError(f"the driver of arm {self._arm.name!r} is not connected; call connect() first")
        if now - self._tried_at < TRY_AGAIN:
            raise DriverError(self._lost)
        self._tried_at = now
        self._ask(lambda: self._attach(thorough=False))

    def _read(self) -> ArmState:
        servos = self._connected()
        # The beginning of the reading: an answer that had to be asked for again is never younger than it says.
        stamp, began = time.time_ns(), time.monotonic()
        readings = self._readings = servos.read()
        steady = time.monotonic()
        positions = self._units.to_ros(self._counts(readings))
        assert self._watch is not None
        problem = self._watch.check(readings, servos.ids, steady)
        limp = self._limp(servos)
        self._health.take(readings, self._watch, time.monotonic() - began)
        if limp:
            self._on, self._fallen = False, limp
            problem = "; ".join(filter(None, [problem, f"{limp} lost torque: a dip of the power, or another program"]))
        if problem:
            raise ArmError(problem)
        self._read_at = steady
        if self._hand is not None:
            self._goals = self._hand.follow(positions, steady)
            servos.send(self._named(self._goals))
        return ArmState(positions, stamp)

    def _limp(self, servos: ArmServos) -> str:
        """Servos that should be on and are not."""
        if not self._on:
            return ""
        limp = ", ".join(servos.limp()) if self._doubtful else servos.next_is_limp()
        self._doubtful = False
        return limp

    def _write(self, goals: np.ndarray) -> None:
        servos = self._connected()
        if self._fallen:    # nobody's setpoint may lift what has fallen, into whoever reaches for it
            raise ArmError(f"{self._fallen} lost torque and stays limp until clear_fault and arm")
        if not self._readings or time.monotonic() - self._read_at > BLIND_FOR:
            raise ArmError("setpoints are sent only while the arm's positions are read; the servos hold at the last")
        if not self._on:
            self._switch_on(servos, goals)
        self._ease(servos, goals)
        servos.send(self._named(goals))
        self._goals, self._hand = goals, None

    def _switch_on(self, servos: ArmServos, goals: np.ndarray) -> None:
        counts = self._counts(servos.read())
        off = np.abs(self._units.to_ros(counts) - goals)
        off[np.abs(goals - self._goals) < SAME] = 0.0    # what a servo holds at already moves nothing
        if (off > FIRST_STEP).any():
            joint = int(np.argmax(off))
            raise ArmError(
                f"the first setpoint of {self._arm.joints[joint]} lies {off[joint]:.2f} from where it is; nothing is "
                "switched on: begin at the measured positions"
            )
        self._moved = True
        servos.switch_on(self._inside(counts))
        self._on, self._doubtful = True, False

    def _ease(self, servos: ArmServos, goals: np.ndarray) -> None:
        """Jaws that open get the torque back that an overload has taken from them; while they hold something that would
        drop it. Tried once for each overload."""
        reading = self._readings[GRIPPER]
        if not reading.error & OVERLOAD:
            self._eased = False
        elif not self._eased and (goals >= self._units.to_ros(self._counts(self._readings)))[self._gripper].all():
            servos.end_overload({GRIPPER: self._inside(self._counts(self._readings))[GRIPPER]})
            self._eased = True

    def _hold(self) -> None:
        servos = self._connected()
        here, controls = self._inside(self._counts(servos.read())), servos.controls()
        here[GRIPPER] = controls[GRIPPER].goal
        held = {name: goal for name, goal in here.items() if controls[name].torque}
        if held:
            servos.hold(held)
        self._goals, self._hand = self._told({name: Control(name in held, goal) for name, goal in here.items()}), None

    def _recover(self) -> None:
        servos = self._connected()
        readings, controls = servos.read(), servos.controls()
        here = self._inside(self._counts(readings))
        overloaded = [name for name, reading in readings.items() if reading.error & OVERLOAD]
        # What the gripper holds it goes on holding.
        servos.end_overload({n: here[n] for n in overloaded if n != GRIPPER or not controls[n].torque})
        controls = servos.controls()
        self._goals, self._fallen, self._doubtful = self._told(controls), "", False
        self._on = self._on and all(control.torque for control in controls.values())
        assert self._watch is not None
        self._watch.cleared(time.monotonic())

    def _release(self, limp: bool) -> None:
        servos = self._connected()
        if not limp:
            must_rest(self._arm.joints, self._units.to_ros(self._counts(servos.read())), self._rest)
        servos.switch_off()
        self._on, self._hand, self._goals[:] = False, None, np.nan

    # --- helpers ------------------------------------------------------------------------------------------------------
    def _ask(self, call: Callable[[], Value]) -> Value:
        try:
            return call()
        except (PortError, NoAnswer, ArmError) as error:
            self._health.errors += 1
            raise self._failure(error) from error

    def _failure(self, error: PortError | NoAnswer | ArmError) -> DriverError:
        """What a failure is to the controller; the driver remembers what it means for the next call. Nobody guides an
        arm that has failed."""
        self._hand = None
        if isinstance(error, PortError):
            self._lost = str(error)
            self._leave()
            return DriverError(self._lost)
        if isinstance(error, NoAnswer):
            self._doubtful, self._readings = True, {}
            named = str(error) + self._names(error)
            return DriverError(f"{named}; look at the arm's power supply and its cables")
        return DriverError(str(error))

    def _names(self, error: NoAnswer) -> str:
        of = [name for name, motor in self._calibration.items() if motor.id in (*error.silent, *error.garbled)]
        return f" ({', '.join(of)})"

    def _sound(self, positions: np.ndarray) -> np.ndarray:
        """A setpoint that may be sent. Errors: DriverError; nothing is bent into the range but the last degree."""
        goals = np.asarray(positions, dtype=np.float64)
        if goals.shape != (len(self._arm.joints),) or not np.isfinite(goals).all():
            raise DriverError(f"setpoint {positions!r} is not {len(self._arm.joints)} finite numbers; nothing was sent")
        beyond = np.maximum(self._units.lower - goals, goals - self._units.upper)
        if (beyond > BEYOND).any():
            joint = int(np.argmax(beyond))
            raise DriverError(
                f"setpoint {goals[joint]:.3f} of {self._arm.joints[joint]!r} is outside its calibrated range "
                f"[{self._units.lower[joint]:.3f}, {self._units.upper[joint]:.3f}]; nothing was sent"
            )
        return np.clip(goals, self._units.lower, self._units.upper)

    def _counts(self, readings: dict[str, Reading]) -> np.ndarray:
        return np.array([float(readings[joint].position) for joint in self._arm.joints])

    def _inside(self, counts: np.ndarray) -> dict[str, int]:
        """By motor. A servo brings a goal beyond its range into it, and would move."""
        inside = np.clip(counts, self._units.lower_counts, self._units.upper_counts).astype(int).tolist()
        return dict(zip(self._arm.joints, inside, strict=True))

    def _told(self, controls: dict[str, Control]) -> np.ndarray:
        """What servos hold at (J,), ROS units; NaN for those that are off."""
        told = [controls[joint] for joint in self._arm.joints]
        goals = self._units.to_ros(np.array([control.goal if control.torque else np.nan for control in told]))
        return np.clip(goals, self._units.lower, self._units.upper)    # as a servo itself does

    def _named(self, goals: np.ndarray) -> dict[str, int]:
        counts = self._units.to_counts(goals).astype(int).tolist()
        return dict(zip(self._arm.joints, counts, strict=True))

    def _connected(self) -> ArmServos:
        if self._servos is None:
            raise ArmError(self._lost or f"the driver of arm {self._arm.name!r} is not connected; call connect() first")
        return self._servos

    def _leave(self) -> None:
        if self._servos is not None:
            self._health.leave(self._servos.bus)
            self._servos.close()
        self._servos, self._hand, self._on, self._readings = None, None, False, {}
        self._goals[:] = np.nan


def create(contract: Contract, arm: Arm, options: dict[str, str]) -> SO101Driver:
    """Makes the driver. options: port; calibration, name or path of a LeRobot calibration file ("double" in both: the
    double's); and where they differ from the usual baud, at_close. Errors: DriverError."""
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise DriverError(f"driver so101 has no option {', '.join(unknown)}; it has: {', '.join(OPTIONS)}")
    for needed, example in (("port", "port=/dev/ttyACM0"), ("calibration", "calibration=my_arm")):
        if not options.get(needed):
            raise DriverError(f"driver so101 needs the option {needed}, e.g. {example} (docs/robots/so101.md)")
    baud, at_close = options.get("baud", str(BAUD_RATES[0])), options.get("at_close", AT_CLOSE[0])
    if baud not in map(str, BAUD_RATES):
        raise DriverError(f"option baud is {baud!r}; these servos know {', '.join(map(str, BAUD_RATES))}")
    if at_close not in AT_CLOSE:
        raise DriverError(f"option at_close is {at_close!r}; it must be one of {', '.join(AT_CLOSE)}")
    port, source = options["port"], options["calibration"]
    try:
        calibration = double_calibration() if source == DOUBLE else load_calibration(source)
    except CalibrationError as error:
        raise DriverError(str(error)) from error
    if port != DOUBLE:
        return SO101Driver(contract, arm, port, calibration, source, int(baud), at_close)
    return SO101Driver(
        contract, arm, default_link(), calibration, source, int(baud), at_close, FOR_THE_DOUBLE, DOUBLES_TIMEOUT,
        real=False,
    )
