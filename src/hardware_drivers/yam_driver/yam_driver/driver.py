# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm driver of an I2RT YAM: one arm, one CAN bus, one process.

What happens physically, because a YAM has no brakes:
  connect   reads only; motors that are off stay off, and nothing moves.
  write     the first one switches the motors on where the arm is; from then on they hear a command 250 times a second.
  stop      holds, with the motors on. guide: they carry the arm and yield.
  a fault   of one motor: that one is limp, until recover() and a setpoint; the others take the controller's ramp to
            rest, for a second, and hold. Without the bus: all let go after their own timeout.
  close     at the rest pose: the motors are switched off. Elsewhere: the arm sinks, damped, for two seconds and is then
            switched off. limp() switches off at once.
  death     of the process: all motors let go after their own timeout (0.4 s), and the arm falls.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence

import numpy as np

from arm_controller.driver import ArmDriver, ArmState, DriverError, Reading
from molmoact2_contract import Arm, Contract

from .channel import parse_channel
from .double.arm import GRIPPER_LIMITS
from .double.place import CHANNEL, default_link
from .hardware import Hardware, find_hardware
from .loop import ANSWER, SINK, ArmLoop

OPTIONS = {
    "channel": "CAN interface (can0), serial adapter (slcan:/dev/ttyACM0), or double",
    "arm_type": "yam, yam_pro, yam_ultra, yam_ultra_2 or big_yam; yam if left out",
    "gripper": "linear_4310, crank_4310, linear_3507 or flexible_4310; linear_4310 if left out",
    "gripper_limits": "what the gripper's motor reads closed,open [rad]; `molmoact2 yam gripper` finds them",
}
FOR_THE_DOUBLE = 60.0    # [s]; it is started beside the controller
AT_REST = 0.15       # [rad] from the rest pose within which the arm may lose its torque
ROUNDING = 1e-3      # [rad] by which a setpoint may lie outside a limit
BEYOND_MODEL = 0.05  # [rad] by which a contract may go beyond the model's range: home lies at an end of it

logger = logging.getLogger("yam_driver")


class YamDriver(ArmDriver):
    """One YAM with its gripper. The arm's joints in the contract are its motors 1 .. 6, then the gripper."""

    close_within = ANSWER + SINK + ANSWER + ANSWER    # to begin sinking, to sink, to switch off, and for its last turn

    def __init__(
        self, contract: Contract, arm: Arm, channel: str, hardware: Hardware, gripper: tuple[float, float],
        patience: float = 0.0, real: bool = True,
    ):
        """gripper: what its motor reads closed and open [rad]. patience: how long to wait for a serial adapter to
        appear [s]. Errors: DriverError where the contract's arm is none."""
        self._arm, self._patience, self.real = arm, patience, real
        _check_joints(contract, arm, hardware)
        self._lower, self._upper = contract.values("lower", arm.joints), contract.values("upper", arm.joints)
        self._max_step, self._rest = contract.values("max_step", arm.joints), contract.values("rest", arm.joints)
        self._make = (parse_channel(channel), hardware, arm.joints, gripper, contract.values("velocity", arm.joints))
        self._loop: ArmLoop | None = None

    def connect(self) -> None:
        """Opens the bus and checks every motor; moves nothing, and enables nothing. Errors: DriverError."""
        deadline = time.monotonic() + self._patience
        while not os.path.exists(self._make[0].port) and time.monotonic() < deadline:
            time.sleep(0.05)
        loop = ArmLoop(*self._make)
        loop.open()
        self._loop = loop

    def read(self) -> ArmState:
        """Errors: DriverError with what is wrong with the arm, as long as it is."""
        measured = self._connected().read()
        return ArmState(measured.positions.copy(), measured.stamp_ns)

    def write(self, positions: np.ndarray) -> None:
        """Sends one setpoint; the first one, and the first after recover(), switches motors on that are off. For a
        second after a fault that leaves the others holding it switches nothing on, and moves them: a ramp to rest.
        Errors: DriverError; nothing of a setpoint that is refused is sent."""
        loop = self._connected()
        wanted = self._checked(positions)
        if not loop.ramps_down:
            try:
                self._switch_on_what_is_off(loop, wanted)
            except DriverError:
                if not loop.ramps_down:    # else it went wrong just now, and this is the ramp's first setpoint
                    raise
        self._check_step(wanted, loop.command)
        loop.set_target(wanted)

    def _switch_on_what_is_off(self, loop: ArmLoop, wanted: np.ndarray) -> None:
        loop.read()
        if not loop.all_on:
            self._check_step(wanted, loop.read().positions)
            loop.switch_on()

    def _checked(self, positions: np.ndarray) -> np.ndarray:
        wanted = np.asarray(positions, dtype=np.float64)
        if wanted.shape != (len(self._arm.joints),):
            count = len(self._arm.joints)
            raise DriverError(f"a setpoint of shape {wanted.shape} for {count} joints; nothing was sent")
        if not np.isfinite(wanted).all():
            joint = self._arm.joints[int(np.argmin(np.isfinite(wanted)))]
            raise DriverError(f"the setpoint of {joint!r} is not a number; nothing was sent")
        outside = np.maximum(self._lower - wanted, wanted - self._upper)
        if (outside > ROUNDING).any():
            i = int(np.argmax(outside))
            raise DriverError(
                f"the setpoint of {self._arm.joints[i]!r}, {wanted[i]:.3f}, lies outside {self._lower[i]:g} .. "
                f"{self._upper[i]:g}; nothing was sent"
            )
        return np.clip(wanted, self._lower, self._upper)

    def _check_step(self, wanted: np.ndarray, at: np.ndarray) -> None:
        # A gripper that holds something is far from where it is commanded to.
        step = np.abs(wanted - at)[:-1]
        if (step > self._max_step[:-1]).any():
            i = int(np.argmax(step / self._max_step[:-1]))
            raise DriverError(
                f"the setpoint of {self._arm.joints[i]!r} leaps by {step[i]:.3f} rad, more than its max_step "
                f"{self._max_step[i]:g}; nothing was sent"
            )

    def stop(self) -> None:
        """Holds where the arm is, and what its gripper holds; motors that are off stay off. Errors: DriverError."""
        loop = self._connected()
        loop.read()
        loop.hold()

    def held(self) -> np.ndarray | None:
        """What is commanded, while no hand guides the arm; NaN for a motor that is not on."""
        return self._loop.held if self._loop is not None else None

    def recover(self) -> None:
        """An operator clears a fault: an arm that stopped for heat may move for a time, to be parked, and the next
        setpoint may switch on what has let go. Errors: DriverError."""
        self._connected().grant()

    def guide(self) -> None:
        """The motors carry the arm and yield to a hand; the gripper is free. Errors: DriverError."""
        self._connected().guide()

    def health(self) -> Sequence[Reading]:
        """Temperatures and torque of each motor as it answered last, and how the bus does."""
        return self._loop.health() if self._loop is not None else ()

    def limp(self) -> None:
        """Switches the motors off at once: the arm falls. Errors: DriverError."""
        self._connected().switch_off()

    def close(self) -> None:
        """At the rest pose the motors are switched off; elsewhere the arm sinks, damped, and is then switched off."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            self._let_down(loop)
        except DriverError as error:
            logger.error("the motors could not be switched off, and let go by their own timeout: %s", error)
        finally:
            loop.close()

    @property
    def falls(self) -> bool:
        """The motors carry it, away from its rest pose."""
        loop = self._loop
        return loop is not None and loop.driven and bool((self._away(loop) > AT_REST).any())

    def _away(self, loop: ArmLoop) -> np.ndarray:
        """How far each joint is from its rest pose [rad], without the gripper: (J - 1,)."""
        return np.abs(loop.last_positions - self._rest)[:-1]

    def _let_down(self, loop: ArmLoop) -> None:
        if not loop.driven:
            return
        away = self._away(loop)
        if (away <= AT_REST).all():
            loop.switch_off()
            return
        joint = self._arm.joints[int(np.argmax(away))]
        logger.warning(
            "%s is closed %.2f rad from its rest pose (%s): it sinks, and is then switched off; park it first",
            self._arm.name, float(away.max()), joint,
        )
        loop.sink()

    @property
    def cycle_times(self) -> list[float]:
        """How long the newest exchanges with all motors took [s]."""
        return list(self._loop.cycle_times) if self._loop is not None else []

    def _connected(self) -> ArmLoop:
        if self._loop is None:
            raise DriverError(f"the driver of arm {self._arm.name!r} is not connected; call connect() first")
        return self._loop


def _check_joints(contract: Contract, arm: Arm, hardware: Hardware) -> None:
    grippers = [contract.joints[joint].is_gripper for joint in arm.joints]
    count = len(hardware.motors)
    if len(grippers) != count or any(grippers[:-1]) or not grippers[-1]:
        raise DriverError(
            f"arm {arm.name!r} of the contract has joints {', '.join(arm.joints)}; a YAM has {count - 1} and then its "
            "gripper; name a contract of a YAM"
        )
    lower, upper = contract.values("lower", arm.joints)[:-1], contract.values("upper", arm.joints)[:-1]
    # i2rt itself takes three times that, and presses the arm against its stop.
    beyond = np.maximum(hardware.limits[:, 0] - lower, upper - hardware.limits[:, 1])
    if (beyond > BEYOND_MODEL + ROUNDING).any():
        i = int(np.argmax(beyond))
        raise DriverError(
            f"the contract lets {arm.joints[i]!r} go {lower[i]:g} .. {upper[i]:g}, and the arm's model "
            f"{hardware.limits[i, 0]:.3f} .. {hardware.limits[i, 1]:.3f}: more than {BEYOND_MODEL:g} rad beyond it, "
            "where the arm presses against its stop; correct the contract, or option arm_type"
        )


def create(contract: Contract, arm: Arm, options: dict[str, str]) -> YamDriver:
    """Makes the driver; OPTIONS says which options there are. Errors: DriverError."""
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise DriverError(f"driver yam has no option {', '.join(unknown)}; it has: {', '.join(OPTIONS)}")
    if not options.get("channel"):
        raise DriverError(f"driver yam needs option channel: {OPTIONS['channel']}")
    patience, real = 0.0, options["channel"] != CHANNEL
    if not real:
        options = {"gripper_limits": GRIPPER_LIMITS} | options | {"channel": f"slcan:{default_link(arm.name)}"}
        patience = FOR_THE_DOUBLE
    parse_channel(options["channel"])
    hardware = find_hardware(options.get("arm_type", "yam"), options.get("gripper", "linear_4310"))
    gripper = _gripper_limits(options, hardware)
    return YamDriver(contract, arm, options["channel"], hardware, gripper, patience, real)


def _gripper_limits(options: dict[str, str], hardware: Hardware) -> tuple[float, float]:
    known = hardware.gripper.get_gripper_limits(hardware.arm)
    text = options.get("gripper_limits")
    if text is None and known is not None:
        return float(known[0]), float(known[1])
    if text is None:
        raise DriverError(
            f"the limits of gripper {hardware.gripper.value} are not known, and finding them moves it, which "
            f"connecting must not: run `molmoact2 yam gripper --channel {options['channel']} --move` once, and give "
            "option gripper_limits=closed,open as it says"
        )
    try:
        closed, opened = map(float, text.split(","))
    except ValueError:
        raise DriverError(f"option gripper_limits={text!r} must be two numbers, closed,open [rad]") from None
    if not 0.5 < abs(opened - closed) < 12.0:
        raise DriverError(
            f"option gripper_limits={text!r} spans {abs(opened - closed):.2f} rad; a gripper's motor turns 0.5 to 12 "
            "rad from closed to open"
        )
    return closed, opened
