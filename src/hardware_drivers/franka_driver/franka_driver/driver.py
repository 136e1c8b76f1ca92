# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm driver of a Franka Research 3, or of an older Panda, with or without its hand."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from arm_controller.driver import ArmDriver, ArmState, DriverError, Reading
from arm_controller.waiting import Call, Overdue
from molmoact2_contract import Arm, Compliance, Contract

from . import hand, session
from .double.place import HOST, default_host
from .hand import Hand
from .options import Options, parse
from .panda import PandaSession
from .research3 import Research3Session
from .session import ArmSession

RECOVER_WITHIN = 1.0    # [s] of a request; a recovery that takes longer goes on, and is asked for again
FOR_THE_DOUBLE = 60.0   # [s]; it is started beside the controller
LOOK_AGAIN = 0.2        # [s] between two tries to connect to it
RAMP = 1.0              # [s] after the hand has failed in which setpoints move the arm, for a ramp to rest
SESSIONS: dict[str, type[ArmSession]] = {"research3": Research3Session, "panda": PandaSession}
SILENT_SHARE = 0.75     # of the contract's joint_state_timeout: the driver names a silent robot before the controller


class FrankaDriver(ArmDriver):
    """One arm. What fails stays failed until an operator clears it (`recover`); the robot is asked nothing meanwhile.

    Where setpoints cease, or this process dies, the robot's own controller holds the arm, with its motors on.
    """

    close_within = session.END_WITHIN + hand.END_WITHIN + 1.5    # the last: the connections themselves

    def __init__(self, contract: Contract, arm: Arm, options: Options, patience: float = 0.0, real: bool = True):
        """patience: how long to wait for a robot that refuses connections [s]. Errors: DriverError where the contract
        is not of such a robot."""
        self.real = real
        of_robot = SESSIONS[options.robot]
        self._joints, self._gripper = _layout(contract, arm, of_robot)
        self._count, self._patience = len(arm.joints), patience
        self._session = of_robot(options, _compliance(contract, arm), SILENT_SHARE * contract.joint_state_timeout)
        self._hand = Hand(options) if self._gripper is not None else None
        self._broken, self._ramps_until = "", 0.0    # steady clock [s]
        self._recovery: Call | None = None

    def connect(self) -> None:
        """Connects to robot and hand; moves nothing. Errors: DriverError."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._session.open()
                break
            except DriverError as error:
                if "refuses connections" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(LOOK_AGAIN)
        try:
            if self._hand is not None:
                self._hand.open()
        except DriverError:
            self._session.close()
            raise

    def read(self) -> ArmState:
        """Errors: DriverError."""
        if not self._ramps_down:
            self._must_be_sound()
        try:
            arm, stamp = self._session.look()
        except DriverError as error:
            raise self._break(error) from error
        self._look_at_hand()
        positions = np.empty(self._count)
        positions[self._joints] = arm
        if self._hand is not None:
            positions[self._gripper] = self._hand.share
        return ArmState(positions, stamp)

    def write(self, positions: np.ndarray) -> None:
        """For a second after the hand has failed it moves the arm alone: a ramp to rest. Errors: DriverError."""
        if not self._ramps_down:
            self._must_be_sound()
        if np.shape(positions) != (self._count,) or not np.isfinite(positions).all():
            raise DriverError(f"setpoint {positions!r} is not {self._count} finite numbers; nothing was sent")
        try:
            self._session.follow(np.asarray(positions, dtype=np.float64)[self._joints])
        except DriverError as error:
            raise self._break(error) from error
        if self._hand is not None and not self._broken:
            self._hand.aim(float(positions[self._gripper]))

    def stop(self) -> None:
        """Ends the motion where the arm is; the robot holds. Errors: DriverError."""
        self._must_be_sound()
        try:
            self._session.hold()
        except DriverError as error:
            raise self._break(error) from error

    def held(self) -> np.ndarray | None:
        """What the hand was told last; the arm is held where it is."""
        held = np.full(self._count, np.nan)
        if self._hand is not None and self._hand.aimed is not None:
            held[self._gripper] = self._hand.aimed
        return held

    def guide(self) -> None:
        """The arm yields and carries its own weight; the hand stays as it is. Errors: DriverError."""
        self._must_be_sound()
        try:
            self._session.guide()
        except DriverError as error:
            raise self._break(error) from error

    def recover(self) -> None:
        """Has the robot recover from a reflex, and connects anew what was lost; moves nothing. Errors: DriverError."""
        if not self._broken:
            return
        if self._recovery is None:
            self._ramps_until = 0.0    # the session is the recovery's from now on
            self._recovery = Call(self._recover)
        try:
            self._recovery.result(RECOVER_WITHIN)
        except Overdue:
            raise DriverError("the robot is still recovering; ask again") from None
        except DriverError:
            self._recovery = None
            raise
        self._recovery, self._broken = None, ""

    def _recover(self) -> None:
        self._session.recover()
        if self._hand is not None:
            if self._hand.trouble:
                self._hand.close()
                self._hand.open()
            self._hand.forget()

    def health(self) -> Sequence[Reading]:
        """Commands in time, torques from outside, reflexes; a Franka tells no temperatures."""
        return self._session.health.readings()

    def close(self) -> None:
        """Ends the motion and the connections; the robot's own controller holds the arm, the hand what it holds."""
        self._session.close()
        if self._hand is not None:
            self._hand.close()

    # ------------------------------------------------------------------------------------------------------------------
    def _look_at_hand(self) -> None:
        """One that has failed ends the arm's motion: by the controller's ramp, where it is one that setpoints lead."""
        if self._hand is None or not self._hand.trouble:
            return
        error = DriverError(self._broken or self._hand.trouble)
        if self._broken:    # ramping down
            raise error
        if not self._session.led:
            raise self._break(error)
        self._broken, self._ramps_until = str(error), time.monotonic() + RAMP
        self._session.health.failed(self._broken)
        raise error

    @property
    def _ramps_down(self) -> bool:
        """Whether the hand has failed just now and the arm is led still; a motion that is left after that is ended."""
        if not self._ramps_until:
            return False
        if time.monotonic() < self._ramps_until and self._session.led:    # and begins no motion anew
            return True
        self._ramps_until = 0.0
        self._session.abandon()
        return False

    def _must_be_sound(self) -> None:
        if self._broken:
            raise DriverError(self._broken)

    def _break(self, error: DriverError) -> DriverError:
        """Returns what is wrong: where the hand had failed before, that."""
        self._ramps_until = 0.0
        if not self._broken:
            self._broken = str(error)
            self._session.health.failed(self._broken)
        self._session.abandon()
        return DriverError(self._broken)


def _layout(contract: Contract, arm: Arm, of_robot: type[ArmSession]) -> tuple[np.ndarray, int | None]:
    """Places of the robot's seven joints and of its gripper, which may be absent, in the arm's order.

    Errors: DriverError where joints are too many, too few, in another order, or have wider limits than the robot.
    """
    joints = [i for i, name in enumerate(arm.joints) if not contract.joints[name].is_gripper]
    grippers = [i for i, name in enumerate(arm.joints) if contract.joints[name].is_gripper]
    if len(joints) != 7 or len(grippers) > 1:
        raise DriverError(
            f"arm {arm.name!r} of the contract has {len(joints)} joints and {len(grippers)} grippers; "
            "a Franka has 7 and at most one"
        )
    numbers = [re.search(r"(\d+)$", arm.joints[i]) for i in joints]
    if all(numbers) and [int(n[1]) for n in numbers if n] != list(range(1, 8)):
        raise DriverError(f"the contract's joints are in the order {', '.join(arm.joints)}; the robot's is 1 to 7")
    for place, lower, upper in zip(joints, of_robot.lower, of_robot.upper, strict=True):
        joint = contract.joints[arm.joints[place]]
        if joint.lower < lower - 1e-9 or joint.upper > upper + 1e-9:
            raise DriverError(
                f"the contract lets {arm.joints[place]!r} go from {joint.lower:g} to {joint.upper:g} rad; "
                f"a {of_robot.robot} goes from {lower:g} to {upper:g}"
            )
    return np.array(joints), grippers[0] if grippers else None


def _compliance(contract: Contract, arm: Arm) -> Compliance:
    """Errors: DriverError where the contract gives none: nobody else says how hard the arm may be pushed."""
    if arm.compliance is None:
        raise DriverError(
            f"{contract.path}: arm {arm.name!r} has no compliance; give it stiffness, damping, torque_thresholds and "
            "force_thresholds, as config/embodiments/franka_droid.yaml does"
        )
    return arm.compliance


def create(contract: Contract, arm: Arm, options: dict[str, str]) -> FrankaDriver:
    """Makes the driver; options: those of `Options`; host=double is the double of this ROS domain. Errors:
    DriverError."""
    parsed = parse(options)
    if parsed.host == HOST:
        return FrankaDriver(contract, arm, replace(parsed, host=default_host()), FOR_THE_DOUBLE, real=False)
    return FrankaDriver(contract, arm, parsed)
