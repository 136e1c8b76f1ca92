# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A leader arm as a source of motion: its pose as short plans that a controller takes like a policy's. No ROS here.

A plan is a point that follows the leader no faster than a share of the contract's velocities. It begins where the
follower is, and comes to the leader slowly until the two agree: nothing leaps at the start.
"""

from __future__ import annotations

import numpy as np

from arm_controller.driver import ArmState, DriverError
from molmoact2_contract import Arm, Contract, NormTag

from .bus import NoAnswer
from .calibration import Calibration, Units
from .identify import ArmError
from .port import PortError
from .servos import ArmServos

SHARE = 0.8            # of the contract's velocities
SLOW = 0.15            # of them, until leader and follower agree
AGREED = 0.05          # [rad], gripper: share
LASTS = 0.5            # [s]; so long the follower goes on when the leader falls silent


class LeaderArm:
    """A leader's servos. They are read and never written; a person moves them, so their torque must be off. Errors of
    each call: DriverError."""

    def __init__(self, port: str, baud: int, calibration: Calibration, source: str, joints: tuple[str, ...]):
        self._joints, self._units = joints, Units(calibration, joints)
        try:
            self._servos = ArmServos(port, baud, calibration, source, joints)
        except (ArmError, NoAnswer, PortError) as error:
            raise DriverError(f"leader: {error}") from error
        held = [name for name, servo in self._servos.servos.items() if servo.torque]
        if held:
            self._servos.close()
            raise DriverError(
                f"leader: {', '.join(held)} hold, and cannot be led by hand; take the leader in your hand and release "
                "it: `molmoact2 so101 release --limp`"
            )

    def read(self, now_ns: int) -> ArmState:
        """Positions in ROS units. now_ns: ROS time [ns]."""
        try:
            readings = self._servos.read()
        except (NoAnswer, PortError) as error:
            raise DriverError(f"leader: {error}") from error
        counts = np.array([float(readings[joint].position) for joint in self._joints])
        return ArmState(self._units.to_ros(counts), now_ns)

    def close(self) -> None:
        self._servos.close()


class LeaderPlan:
    """Plans of one arm, of the timing of a norm tag. Positions are float64 (J,), ROS units; times ROS time [s]."""

    def __init__(self, contract: Contract, arm: Arm, tag: NormTag):
        self._lower, self._upper = contract.values("lower", arm.joints), contract.values("upper", arm.joints)
        self._velocity = contract.values("velocity", arm.joints)
        self._dt, self._offset = tag.dt, tag.first_offset
        self.horizon = max(2, round(LASTS / tag.dt))
        self._at: np.ndarray | None = None
        self._time = 0.0
        self.agreed = False

    def begin(self, measured: np.ndarray, now: float) -> None:
        """The next plan begins where the follower is."""
        self._at, self._time, self.agreed = measured.copy(), now, False

    def waypoints(self, leader: np.ndarray, now: float) -> np.ndarray:
        """A plan for a leader who is there now, float64 (horizon, J). begin() comes first."""
        assert self._at is not None, "begin() comes first"
        goal = np.clip(leader, self._lower, self._upper)
        self._at = self._towards(goal, max(now - self._time, 0.0))
        self._time = now
        self.agreed = self.agreed or bool((np.abs(goal - self._at) < AGREED).all())
        times = (np.arange(self.horizon) + self._offset) * self._dt
        return np.array([self._towards(goal, time) for time in times])

    def _towards(self, goal: np.ndarray, seconds: float) -> np.ndarray:
        assert self._at is not None
        most = self._velocity * (SHARE if self.agreed else SLOW) * seconds
        return self._at + np.clip(goal - self._at, -most, most)
