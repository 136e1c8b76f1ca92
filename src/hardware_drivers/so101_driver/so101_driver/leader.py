# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A leader arm as a source of motion: its pose as short plans that a controller takes like a policy's. No ROS here.

A plan is a point that follows the leader no faster than a share of the contract's velocities. It begins where the
follower is, and comes to the leader slowly until the two agree: nothing leaps at the start. A leader that nobody seems
to hold leads nothing.
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
NEAR = 0.5             # [rad]; a leader begins no farther from the follower
AHEAD = 1.0            # [rad]; a leader gets no farther away from the point that the follower is led along
FALLS = 2.0            # times the contract's velocity; an arm that is let go falls faster, a hand leads slower


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

    @property
    def at(self) -> np.ndarray | None:
        """The point now, (J,); None before the first begin()."""
        return self._at

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


class LeaderWatch:
    """Whether a leader may lead. Joints are float64 (J,), ROS units; times ROS time [s].

    stopped: why it may not any more, until an operator begins anew; empty where it may. Grippers are not looked at: a
    trigger is snapped and let go all the time.
    """

    def __init__(self, contract: Contract, arm: Arm):
        self._names = arm.joints
        self._counts = np.array([not contract.joints[joint].is_gripper for joint in arm.joints])
        self._most = FALLS * contract.values("velocity", arm.joints)
        self._last: tuple[np.ndarray, float] | None = None
        self.stopped = ""

    def begin(self) -> None:
        """An operator begins anew."""
        self.stopped = ""

    def look(self, leader: np.ndarray, at: np.ndarray, begun: float, done: float, led: bool) -> str:
        """Why nothing may be sent now; empty where it may. at: where the follower is, or while it is led the point
        that it is led along; begun, done: times around the reading of the leader; led: whether the follower is."""
        last, self._last = self._last, (leader.copy(), begun)
        away = np.where(self._counts, np.abs(leader - at), 0.0)
        if led and not self.stopped:
            self.stopped = self._falling(leader, last, done) or self._ahead(away)
        if self.stopped or led:
            return self.stopped
        joint = int(np.argmax(away))
        if away[joint] <= NEAR:
            return ""
        return (
            f"the leader's {self._names[joint]} is {away[joint]:.2f} rad from the follower's, more than {NEAR:g}: "
            "bring the leader to the follower's pose"
        )

    def _falling(self, leader: np.ndarray, last: tuple[np.ndarray, float] | None, done: float) -> str:
        if last is None or done <= last[1]:
            return ""
        # In the longest time it can have taken: an answer that was asked for again is no fall.
        speed = np.where(self._counts, np.abs(leader - last[0]) / (done - last[1]), 0.0)
        joint = int(np.argmax(speed / self._most))
        if speed[joint] <= self._most[joint]:
            return ""
        return (
            f"the leader's {self._names[joint]} moved at {speed[joint]:.1f} rad/s, more than {self._most[joint]:g}: it "
            f"was let go, or knocked; {_ANEW}"
        )

    def _ahead(self, away: np.ndarray) -> str:
        joint = int(np.argmax(away))
        if away[joint] <= AHEAD:
            return ""
        return (
            f"the leader's {self._names[joint]} is {away[joint]:.2f} rad ahead of the follower, more than {AHEAD:g}; "
            f"{_ANEW}, and lead slower"
        )


_ANEW = "hold the leader at the follower's pose and call policy/reset, which begins a new episode"
