# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm driver of SO-100 and SO-101 followers.

What stopping means on this arm: the servos hold their last goal, whoever sent it and whether that program still lives,
until their torque or their power goes off; then the arm falls, for it has no brakes. So stop() and close() leave it
holding, and only release() switches the torque off.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from arm_controller import driver
from arm_controller.driver import ArmDriver, ArmState, DriverError
from molmoact2_contract import Arm, Contract

from .bus import TIMEOUT, NoAnswer
from .calibration import MOTORS, Calibration, CalibrationError, Units, load_calibration
from .double.arm import NAME as DOUBLE
from .double.arm import default_link, double_calibration
from .hand import Hand
from .health import HealthRecord
from .identify import ArmError
from .port import PortError
from .registers import BAUD_RATES
from .servos import ArmServos
from .watch import Reading, Watch

BEYOND = 0.0175        # [rad] (one degree), gripper: share; so far past its range's end a goal is sent as that end
FIRST_STEP = 0.2       # [rad]; the first setpoint lies no farther from where the arm is
AT_REST = 0.15         # [rad]; so near to its rest pose an arm may lose its torque
BLIND_FOR = 1.0        # [s]; without a reading setpoints are sent so long, for a ramp to rest
FOR_THE_DOUBLE = 30.0    # [s]; it is started beside the controller, and waits for the simulated world
DOUBLES_TIMEOUT = 0.06   # [s]; it shares a computer with everything else
TRY_AGAIN = 0.25       # [s] between two tries to open a port that has gone
OPTIONS = ("port", "calibration", "baud", "at_close")
AT_CLOSE = ("hold", "release")

Value = TypeVar("Value")


class SO101Driver(ArmDriver):
    """One follower arm.

    port: of the bus; calibration, and the source it is from; patience: how long to wait for the port to appear [s].
    timeout: for an answer of the bus, of which there are three tries [s]. at_close: "hold", or "release", which
    switches the torque off at close where the arm is at its rest pose, and holds elsewhere.
    """

    def __init__(self, contract: Contract, arm: Arm, port: str, calibration: Calibration, source: str,
                 baud: int = BAUD_RATES[0], at_close: str = "hold", patience: float = 0.0, timeout: float = TIMEOUT):
        self._contract, self._arm, self._port, self._baud, self._at_close = contract, arm, port, baud, at_close
        self._calibration, self._source, self._patience = calibration, source, patience
        self._timeout = timeout
        unknown = [joint for joint in arm.joints if joint not in MOTORS]
        if unknown or len(arm.joints) != len(MOTORS):
            raise DriverError(f"arm {arm.name!r} has joints {', '.join(arm.joints)}; an SO-101 has {', '.join(MOTORS)}")
        self._units = Units(calibration, arm.joints)
        self._check_range()
        self._rest = contract.values("rest", arm.joints)
        self._servos: ArmServos | None = None
        self._watch: Watch | None = None
        self._hand: Hand | None = None
        self._on = False               # this driver has seen to it that the torque of every servo is on
        self._doubtful = False         # something failed since that was known
        self._goals: np.ndarray | None = None    # sent last, ROS units
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
        """Opens the bus, checks that it is this arm and that it is well, and sets what a follower needs; moves nothing
        and switches nothing on or off. Errors: DriverError."""
        deadline = time.monotonic() + self._patience
        while not os.path.exists(self._port) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._ask(lambda: self._attach(thorough=True))
        try:
            self._ask(self._read)
        except DriverError:
            self._leave()
            raise

    def read(self) -> ArmState:
        """Positions in ROS units. Errors: DriverError, also for a servo that is not well or has lost its torque."""
        if self._servos is None:
            self._attach_again()
        return self._ask(self._read)

    def write(self, positions: np.ndarray) -> None:
        """Sends one setpoint in ROS units; the first one switches servos on that are off. Errors: DriverError."""
        goals = self._sound(positions)
        self._ask(lambda: self._write(goals))

    def stop(self) -> None:
        """Holds where the arm is; servos that are off stay off. Errors: DriverError."""
        self._ask(self._hold)

    def guide(self) -> None:
        """The arm gives way to a firm hand and stays where it is left (hand.py); its torque stays on. Hands are
        followed in read(). Errors: DriverError."""
        if not self._on or self._goals is None:
            raise DriverError("the arm is not held by this driver; arm it first")
        self._hand = Hand(self._goals, self._units.lower, self._units.upper)

    def health(self) -> Sequence[driver.Reading]:
        """What each servo said with its last position, and how the bus does."""
        return self._health.readings(self._servos.bus if self._servos is not None else None)

    def close(self) -> None:
        """Leaves the bus. The servos hold their last goals, for ever, unless at_close is "release" and the arm is at
        its rest pose."""
        if self._servos is None:
            return
        try:
            if self._at_close == "release":
                self.release()
        except DriverError:
            pass    # it holds, which is what a close does otherwise
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
        except BaseException:
            self._leave()
            raise
        self._watch = Watch(self._servos.temperature_limits)
        self._doubtful, self._hand, self._goals = False, None, None

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
        readings = servos.read()
        steady = time.monotonic()
        positions = self._units.to_ros(self._counts(readings))
        assert self._watch is not None
        problem = self._watch.check(readings, servos.ids, steady)
        limp = self._limp(servos)
        self._health.take(readings, self._watch, time.monotonic() - began)
        if limp:
            self._on, self._hand = False, None
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
        if time.monotonic() - self._read_at > BLIND_FOR:
            raise ArmError("setpoints are sent only while the arm's positions are read")
        if not self._on:
            self._switch_on(servos, goals)
        servos.send(self._named(goals))
        self._goals, self._hand = goals, None

    def _switch_on(self, servos: ArmServos, goals: np.ndarray) -> None:
        counts = self._counts(servos.read())
        off = np.abs(self._units.to_ros(counts) - goals)
        if (off > FIRST_STEP).any():
            joint = int(np.argmax(off))
            raise ArmError(
                f"the first setpoint of {self._arm.joints[joint]} lies {off[joint]:.2f} from where it is; nothing is "
                "switched on: begin at the measured positions"
            )
        # A servo brings a goal beyond its range into it, and would move.
        inside = np.clip(counts, self._units.lower_counts, self._units.upper_counts)
        servos.switch_on(dict(zip(self._arm.joints, inside.astype(int).tolist(), strict=True)))
        self._on, self._doubtful = True, False

    def _hold(self) -> None:
        servos = self._connected()
        counts = self._counts(servos.read())
        limp = servos.limp()
        inside = np.clip(counts, self._units.lower_counts, self._units.upper_counts).astype(int)
        named = dict(zip(self._arm.joints, inside.tolist(), strict=True))
        held = {name: goal for name, goal in named.items() if name not in limp}
        if held:
            servos.hold(held)
        self._goals, self._hand = self._units.to_ros(inside), None

    def _release(self, limp: bool) -> None:
        servos = self._connected()
        positions = self._units.to_ros(self._counts(servos.read()))
        off = np.abs(positions - self._rest)
        off[[self._contract.joints[joint].is_gripper for joint in self._arm.joints]] = 0.0
        if not limp and (off > AT_REST).any():
            joint = int(np.argmax(off))
            raise ArmError(
                f"{self._arm.joints[joint]} is {off[joint]:.2f} rad from its rest pose, and the arm would fall: "
                "park it first, or support it with a hand and ask for --limp"
            )
        servos.switch_off()
        self._on, self._hand, self._goals = False, None, None

    # --- helpers ------------------------------------------------------------------------------------------------------
    def _ask(self, call: Callable[[], Value]) -> Value:
        try:
            return call()
        except (PortError, NoAnswer, ArmError) as error:
            self._health.errors += 1
            raise self._failure(error) from error

    def _failure(self, error: PortError | NoAnswer | ArmError) -> DriverError:
        """What a failure is to the controller; the driver remembers what it means for the next call."""
        if isinstance(error, PortError):
            self._lost = str(error)
            self._leave()
            return DriverError(self._lost)
        if isinstance(error, NoAnswer):
            self._doubtful = True
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
        self._servos, self._hand, self._on = None, None, False


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
    patience, timeout = (FOR_THE_DOUBLE, DOUBLES_TIMEOUT) if port == DOUBLE else (0.0, TIMEOUT)
    port = default_link() if port == DOUBLE else port
    return SO101Driver(contract, arm, port, calibration, source, int(baud), at_close, patience, timeout)
