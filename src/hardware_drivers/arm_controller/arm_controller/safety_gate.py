# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""SafetyGate: what may be followed, how fast, and whether the arm follows. It refuses or slows, never bends a path."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from molmoact2_contract import Arm, Contract

from .chunk import Chunk, ChunkRefused, Refusal
from .pace import Limits, Pace
from .path import Path
from .yielding import Yielding

LIMIT_TOLERANCE = 1e-6
TIME_TOLERANCE = 1e-6      # [s], [waypoints]
MAX_HORIZON = 256
LONGEST = 5.0              # [s]; a longer chunk would move the arm on long after its policy has died
BISECTIONS = 16
SPEED_TOLERANCE = 1e-3
WORKSPACE_TOLERANCE = 0.002    # [m]; of a path. A setpoint may lie twice as far outside before it is a fault
INWARD_SLACK = 1e-4        # [m]; of a path that leads inwards, from one sample to the next
FROZEN_WHILE, FROZEN_JOINTS = 0.25, 2    # of the tracking limit that the command moves, in so many joints
FROZEN_ALONE = 4           # so many times longer, where one joint alone is told to move


@dataclass(frozen=True)
class Step:
    """One step along a path: the setpoint (J,), the path time it belongs to, the rate of path time, 0 .. 1, and its
    change [1/s]."""

    setpoint: np.ndarray
    path_time: float
    rate: float
    change: float


@dataclass
class Repeated:
    """A measurement (J,) that repeats itself, the command (J,) when it first came, and since when joints have been told
    to move away from that, steady clock [s]."""

    measured: np.ndarray
    command: np.ndarray
    since: float = math.inf


class SafetyGate:
    """Checks and limits for one arm, all from the contract."""

    def __init__(self, contract: Contract, arm: Arm):
        self._contract, self._arm = contract, arm
        self.lower, self.upper = contract.values("lower", arm.joints), contract.values("upper", arm.joints)
        self._period = 1.0 / contract.setpoint_hz
        names = ("velocity", "acceleration", "jerk", "lower", "upper", "soft_zone")
        self._limits = Limits(*(contract.values(name, arm.joints) for name in names))
        self._max_step = contract.values("max_step", arm.joints)
        self._tracking = contract.values("tracking", arm.joints)
        self._timings = {(t.dt, t.first_offset) for t in contract.norm_tags.values()}
        self._off_track_since: float | None = None
        self._sent: np.ndarray | None = None
        self._repeated: Repeated | None = None
        self._grippers = np.array([contract.joints[joint].is_gripper for joint in arm.joints])

    # --- chunks -------------------------------------------------------------------------------------------------------
    def waypoints(self, chunk: Chunk, measured: np.ndarray, now: float) -> np.ndarray:
        """This arm's waypoints of a chunk, float64 (H, J), when all of it is sound.

        measured: the arm's measured positions (J,); now: clock time [s]. Errors: ChunkRefused.
        """
        if chunk.chunk_id == 0:
            raise ChunkRefused(Refusal.SHAPE, "its chunk_id is 0, which stands for no chunk; count from 1")
        self._check_joints(chunk)
        table = self._table(chunk)
        self._check_timing(chunk)
        columns = [chunk.joint_names.index(joint) for joint in self._arm.joints]
        waypoints = table[:, columns]
        self._check_limits(waypoints)
        self._check_steps(chunk, waypoints, measured, now)
        return waypoints

    def _check_joints(self, chunk: Chunk) -> None:
        names = chunk.joint_names
        if len(set(names)) != len(names):
            raise ChunkRefused(Refusal.JOINTS, f"it names a joint twice: {', '.join(names)}")
        unknown = [n for n in names if n not in self._contract.joints]
        if unknown:
            contract = self._contract.path.name
            raise ChunkRefused(Refusal.JOINTS, f"joint {unknown[0]!r} is not in the contract {contract}")
        missing = [n for n in self._arm.joints if n not in names]
        if missing:
            raise ChunkRefused(Refusal.JOINTS, f"joint {missing[0]!r} of arm {self._arm.name!r} is missing")

    @staticmethod
    def _table(chunk: Chunk) -> np.ndarray:
        joints = len(chunk.joint_names)
        if not 1 <= chunk.horizon <= MAX_HORIZON:
            raise ChunkRefused(Refusal.SHAPE, f"it has {chunk.horizon} waypoints; 1 to {MAX_HORIZON} are followed")
        if chunk.positions.size != chunk.horizon * joints:
            raise ChunkRefused(
                Refusal.SHAPE,
                f"{chunk.positions.size} positions do not fit {chunk.horizon} waypoints of {joints} joints",
            )
        table = chunk.positions.reshape(chunk.horizon, joints)
        if not np.isfinite(table).all():
            waypoint, joint = np.argwhere(~np.isfinite(table))[0]
            raise ChunkRefused(
                Refusal.NOT_FINITE,
                f"waypoint {waypoint} of joint {chunk.joint_names[joint]!r} is {table[waypoint, joint]}",
            )
        return table

    def _check_timing(self, chunk: Chunk) -> None:
        if not all(map(math.isfinite, (chunk.dt, chunk.first_offset, chunk.stamp))):
            raise ChunkRefused(Refusal.TIMING, "its dt, first_offset or stamp is not finite")
        lasts = (chunk.horizon - 1 + chunk.first_offset) * chunk.dt
        if lasts > LONGEST:
            raise ChunkRefused(Refusal.SHAPE, f"it lasts {lasts:.1f} s; chunks of up to {LONGEST:g} s are followed")
        for dt, offset in self._timings:
            if abs(chunk.dt - dt) <= TIME_TOLERANCE and abs(chunk.first_offset - offset) <= TIME_TOLERANCE:
                return
        known = "; ".join(f"{dt:.6g} s and {offset:g}" for dt, offset in sorted(self._timings))
        raise ChunkRefused(
            Refusal.TIMING,
            f"its dt of {chunk.dt:.6g} s and first_offset of {chunk.first_offset:g} are of no norm tag of the contract "
            f"({known})",
        )

    def _check_limits(self, waypoints: np.ndarray) -> None:
        outside = (waypoints < self.lower - LIMIT_TOLERANCE) | (waypoints > self.upper + LIMIT_TOLERANCE)
        if outside.any():
            waypoint, joint = np.argwhere(outside)[0]
            raise ChunkRefused(
                Refusal.LIMITS,
                f"waypoint {waypoint} of {self._arm.joints[joint]!r} is {waypoints[waypoint, joint]:.4f}, outside "
                f"[{self.lower[joint]:g}, {self.upper[joint]:g}]",
            )

    def _check_steps(self, chunk: Chunk, waypoints: np.ndarray, measured: np.ndarray, now: float) -> None:
        """The plan must pass by where the arm is, between the waypoint after its observation, where an arm is that has
        stood since, and the one due next, where an arm is that has moved as planned; and it must not leap."""
        times = chunk.stamp + (np.arange(chunk.horizon) + chunk.first_offset) * chunk.dt
        over = int((times <= now).sum())
        if over == chunk.horizon:
            return    # wholly in the past, which the scheduler refuses by that name
        off = np.abs(waypoints[: over + 1] - measured)
        nearest = off[np.argmin((off / self._max_step).max(axis=1))]
        if (nearest > self._max_step).any():
            joint = int(np.argmax(nearest / self._max_step))
            self._implausible("where it begins, it lies", nearest[joint], "the measured position", joint)
        steps = np.abs(np.diff(waypoints, axis=0))
        if (steps > self._max_step).any():
            index, joint = np.argwhere(steps > self._max_step)[0]
            self._implausible(f"waypoint {index + 1} lies", steps[index, joint], "the one before", joint)

    def _implausible(self, where: str, step: float, other: str, joint: int) -> None:
        raise ChunkRefused(
            Refusal.STEP,
            f"{where} {step:.3f} from {other} in {self._arm.joints[joint]!r}; {self._max_step[joint]:g} is plausible",
        )

    # --- setpoints ----------------------------------------------------------------------------------------------------
    def pace(self, path: Path, share: float = 1.0) -> Pace:
        """How fast a path may be run; share: of what the limits allow."""
        return Pace(path, self._limits, self._period, share)

    def advance(self, path: Path, pace: Pace, last: Step, dt: float, wanted: float) -> Step:
        """One step of `dt` seconds along a path, as fast as allowed.

        last: the step before, on this path; wanted: a rate, 0 to come to rest .. 1 to keep the clock's pace. Velocity
        limits hold at every step; the rate changes only as fast as the acceleration and jerk limits allow, and falls in
        time to come to rest at the path's end.
        """
        path_time, rate = last.path_time, last.rate
        rate = pace.next_rate(path_time, rate, last.change, dt, wanted)
        start = path.sample(path_time)
        allowed = self._limits.velocity * dt * (1 + 1e-9)

        def fits(candidate: float) -> bool:
            return bool((np.abs(path.sample(path_time + candidate * dt) - start) <= allowed).all())

        if not fits(rate):
            low, high = 0.0, rate
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                low, high = (middle, high) if fits(middle) else (low, middle)
            rate = low
        time = min(path_time + rate * dt, path.end)
        # Between sound waypoints the cubic may pass a limit by a rounding error, never by more.
        return Step(np.clip(path.sample(time), self.lower, self.upper), time, rate, (rate - last.rate) / dt)

    def path_error(self, path: Path) -> str:
        """Where a path leaves the workspace; empty where it does not. Outside, it may only lead inwards."""
        samples = path.sample(np.append(np.arange(path.start, path.end, self._period), path.end))
        depths = self._arm.depths(samples)
        if not depths.size:
            return ""
        nearest = np.minimum.accumulate(depths, axis=0)    # to the inside, so far
        permitted = np.maximum(np.concatenate([depths[:1], nearest[:-1]]) + INWARD_SLACK, WORKSPACE_TOLERANCE)
        worst = int(np.argmax((depths - permitted).max(axis=1)))
        return self._arm.outside(samples[worst], permitted[worst])

    def inside(self, measured: np.ndarray) -> np.ndarray:
        """The nearest position (J,) within the limits."""
        return np.clip(measured, self.lower, self.upper)

    def start(self, measured: np.ndarray) -> np.ndarray:
        """The first setpoint for an arm that is at `measured` (J,): that, or the nearest within the limits.

        Errors: ValueError where going there would be a step, or where that is not a number.
        """
        inside = self.inside(measured)
        off = np.abs(inside - measured)
        if not (off <= self._limits.velocity * self._period).all():
            joint = int(np.argmax(off / self._limits.velocity))
            raise ValueError(
                f"{self._arm.joints[joint]!r} is {off[joint]:.3f} outside its limits "
                f"[{self.lower[joint]:g}, {self.upper[joint]:g}]; move the arm inside by hand"
            )
        return inside

    def gripping(self, start: np.ndarray, held: np.ndarray) -> np.ndarray:
        """A first setpoint (J,) whose grippers keep the goals (J,) that the device holds at; NaN: not known. At the
        measured position of jaws that hold something, which is where it blocks them, they would let it go."""
        keeps = self._grippers & np.isfinite(held)
        return np.where(keeps, self.inside(np.where(keeps, held, start)), start)

    def yielded(self, measured: np.ndarray, command: np.ndarray) -> np.ndarray:
        """Where an arm that does not follow is left: where it is, but for grippers, which keep what they hold."""
        return np.where(self._grippers, command, self.inside(measured))

    def yielding(self, command: np.ndarray, velocity: np.ndarray, measured: np.ndarray) -> Yielding:
        """The way of a command (J,), which moves at a velocity (J,), to where an arm is that does not follow it."""
        return Yielding(self._limits, command, velocity, self.yielded(measured, command))

    def setpoint_error(self, setpoint: np.ndarray, dt: float, yields: bool = False) -> str:
        """The last check before the driver: why a setpoint must not be sent `dt` seconds after the one before; empty
        where it may. It is then taken for sent. yields: it goes to where the arm is, inside the workspace or not."""
        if not np.isfinite(setpoint).all():
            return f"setpoint is not finite: {setpoint}"
        outside = (setpoint < self.lower - LIMIT_TOLERANCE) | (setpoint > self.upper + LIMIT_TOLERANCE)
        if outside.any():
            joint = int(np.argmax(outside))
            return f"setpoint of {self._arm.joints[joint]!r} is {setpoint[joint]:.4f}, outside its limits"
        before = self._arm.depths(setpoint if self._sent is None else self._sent)
        permitted = np.maximum(before + 2 * INWARD_SLACK, 2 * WORKSPACE_TOLERANCE)
        leaves = "" if yields else self._arm.outside(setpoint, permitted)
        if leaves:
            return f"setpoint leaves the workspace: {leaves}"
        if self._sent is not None:
            speed = np.abs(setpoint - self._sent) / dt
            if (speed > self._limits.velocity * (1 + SPEED_TOLERANCE)).any():
                joint = int(np.argmax(speed / self._limits.velocity))
                return (
                    f"setpoint of {self._arm.joints[joint]!r} is {speed[joint]:.2f} per second away from the last one, "
                    f"over {self._limits.velocity[joint]:g}"
                )
        self._sent = setpoint.copy()
        return ""

    # --- feedback -----------------------------------------------------------------------------------------------------
    def tracking(self, command: np.ndarray, measured: np.ndarray) -> tuple[float, str]:
        """The tracking error nearest to its limit, and its joint."""
        error = np.abs(command - measured)
        joint = int(np.argmax(error / self._tracking))
        return float(error[joint]), self._arm.joints[joint]

    def off_track(self, command: np.ndarray, measured: np.ndarray, steady: float) -> str:
        """Why the arm counts as off its command, once that lasted longer than the contract's tracking_time; else empty.

        steady: steady-clock time [s].
        """
        error = np.abs(command - measured)
        if not (error > self._tracking).any():
            self._off_track_since = None
            return ""
        if self._off_track_since is None:
            self._off_track_since = steady
        if steady - self._off_track_since < self._contract.tracking_time:
            return ""
        joint = int(np.argmax(error / self._tracking))
        return (
            f"{self._arm.joints[joint]!r} is {error[joint]:.3f} away from its command for "
            f"{self._contract.tracking_time:g} s ({self._tracking[joint]:g} is allowed); "
            "free the arm, then clear_fault and arm"
        )

    def frozen(self, command: np.ndarray, measured: np.ndarray, steady: float) -> str:
        """Why the feedback counts as frozen: it repeats itself to the last bit, for the contract's tracking_time, while
        joints have been told to move; else empty. One joint alone may be blocked, which is a matter of tracking: it is
        waited for longer. So may a gripper be. steady: steady-clock time [s]."""
        if self._repeated is None or not np.array_equal(self._repeated.measured, measured):
            self._repeated = Repeated(measured.copy(), command.copy())
            return ""
        moved = np.where(self._grippers, 0.0, np.abs(command - self._repeated.command) / self._tracking)
        moving = int((moved > FROZEN_WHILE).sum())
        if not moving:
            return ""
        self._repeated.since = min(self._repeated.since, steady)
        several = moving >= min(FROZEN_JOINTS, int((~self._grippers).sum()))
        if steady - self._repeated.since < self._contract.tracking_time * (1 if several else FROZEN_ALONE):
            return ""
        joint = int(np.argmax(moved))
        return (
            f"the joint states repeat themselves while {self._arm.joints[joint]!r} was told to move, by "
            f"{abs(command[joint] - self._repeated.command[joint]):.3f}; check the arm's power and its bus"
        )

    def forget(self) -> None:
        """Nothing is being commanded any more."""
        self._off_track_since, self._sent, self._repeated = None, None, None
