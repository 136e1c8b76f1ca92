# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm's seven joints, as the driver leads them: one connection, and one impedance tracker while setpoints come.

The tracker's loop of 1 kHz is a library's own, in C++; what is done here a hundred times a second is to read the newest
state and to set the newest goal. What the libraries of the two robots do differently is in research3.py and panda.py.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from arm_controller.driver import DriverError
from arm_controller.waiting import Call, Overdue
from molmoact2_contract import Compliance

from . import words
from .health import HealthRecord
from .options import Options
from .seen import Seen

ROUNDING = 1e-6          # [rad]
CONNECT_WITHIN = 8.0     # [s]
RECOVERED_WITHIN = 0.5   # [s] until the state says that the robot has recovered
END_WITHIN = 2.5         # [s]; the libraries' own stops take two at most
IDLE_AFTER = 0.5         # [s] without a setpoint, after which the robot's own controller holds
POOR_FOR = 1.0           # [s] that the success rate may be too low
GUIDED_DAMPING = (3.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0)    # [Nm s/rad]
FRESH = (0.002, 0.05)    # [s] between two goals of which a speed is made


class ArmSession(ABC):
    """Errors of every call: DriverError. compliance: for seven joints. silent_after: without a new state for so long
    the robot is lost [s]. lower, upper: the robot's limits (7,) [rad], which the libraries do not check."""

    robot = ""
    lower: np.ndarray
    upper: np.ndarray

    def __init__(self, options: Options, compliance: Compliance, silent_after: float):
        self._options, self._compliance, self._silent_after = options, compliance, silent_after
        self._robot: Any = None      # the library's
        self._tracker: Any = None    # likewise, while setpoints or a person move the arm
        self._guided = self._leaving = False
        self._goal: np.ndarray | None = None
        self._goal_at = 0.0          # steady clock [s]
        self._poor_since = 0.0       # likewise; 0: the success rate is well
        self._device_ms = -1
        self._stamp_ns, self._new_at = 0, 0.0
        self._positions = np.zeros(7)
        self.health = HealthRecord(options.min_success_rate, silent_after)

    # --- what a library does; errors: its own -------------------------------------------------------------------------
    @abstractmethod
    def _load(self) -> None:
        """Imports it, and sees that it may run in real time where that is asked for. Errors: DriverError."""

    @abstractmethod
    def _dial(self) -> Any:
        """Connects; returns the robot."""

    @abstractmethod
    def _drop(self) -> None:
        """Ends the connection; no motion is under way."""

    @abstractmethod
    def _state(self) -> Seen:
        """The newest state, which may be known already."""

    @abstractmethod
    def _give_thresholds(self, torques: Sequence[float], forces: Sequence[float]) -> None:
        """Of the collision reflex."""

    @abstractmethod
    def _start(self) -> Any:
        """Begins a motion where the arm is, as stiff as the contract says; returns its tracker."""

    @abstractmethod
    def _is_moved(self) -> bool:
        """Whether a motion of ours is under way. Tells once, as an error, what has ended one that was not to end."""

    @abstractmethod
    def _set_gains(self, stiffness: Sequence[float], damping: Sequence[float]) -> None:
        """Of the tracker."""

    @abstractmethod
    def _aim(self, goal: np.ndarray, speed: np.ndarray) -> None:
        """Of the tracker, (7,) [rad], [rad/s]."""

    @abstractmethod
    def _brake(self, tracker: Any) -> bool:
        """Has the arm come to rest by damping, and the motion then end; does not wait. Returns whether there is a
        motion still."""

    @abstractmethod
    def _finish(self) -> None:
        """As _brake, where there is a motion, and waits for END_WITHIN at most."""

    @abstractmethod
    def _recover_robot(self) -> None:
        """From a reflex; may take seconds."""

    # --- connection ---------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Connects, and sees that the robot could be moved. A robot in reflex may be connected to: the fault is told by
        `look`, and an operator clears it."""
        if self._options.realtime == "enforce":
            check_priority()
        self._load()
        self._connect()
        try:
            name, errors = self._mode()
            if name not in ("Reflex", "Guiding"):
                self._must_be_ready(name, errors)
            if name != "Reflex":    # one in reflex is told when it has recovered
                self._set_thresholds()
        except DriverError:
            self.close()
            raise

    def _connect(self) -> None:
        host = self._options.host
        try:
            self._robot = Call(self._dial).result(CONNECT_WITHIN)
        except Overdue:
            raise DriverError(
                f"the robot at {host} did not answer within {CONNECT_WITHIN:g} s; check its power, its cable and the "
                "address, and that no other program is connected to it: a robot talks to one at a time"
            ) from None
        except Exception as error:
            raise DriverError(words.connection(error, host)) from error
        self._tracker, self._guided, self._leaving, self._poor_since = None, False, False, 0.0
        self._device_ms, self._new_at = -1, time.monotonic()

    def _set_thresholds(self) -> None:
        """Of the robot's own collision reflex: the contract's, on each connection."""
        self._connected()
        try:
            self._give_thresholds(self._compliance.torque_thresholds, self._compliance.force_thresholds)
        except DriverError:
            raise
        except Exception as error:
            raise DriverError(words.thresholds(error, self._options.host)) from error

    def close(self) -> None:
        """Ends the motion, and leaves the arm to the robot's own controller, which holds it."""
        if self._robot is not None:
            self._end()
            self._drop()
            self._robot = None

    def _end(self) -> None:
        """Ends the motion, where there is one, and waits for that."""
        self._tracker, self._leaving, self._guided, self._goal = None, False, False, None
        with contextlib.suppress(Exception):    # what ended it was told, or the robot is gone; it holds by itself
            self._finish()

    # --- state --------------------------------------------------------------------------------------------------------
    def look(self) -> tuple[np.ndarray, int]:
        """Positions (7,) [rad] and their time, ROS [ns]: when they were new."""
        self._connected()
        now = time.monotonic()
        self._see_end()
        seen = self._seen()
        if seen.device_ms != self._device_ms:
            self._device_ms, self._new_at = seen.device_ms, seen.at
            self._stamp_ns, self._positions = seen.stamp_ns, seen.positions
            self.health.new_at, self.health.torques = seen.at, seen.torques
        elif now - self._new_at > self._silent_after:
            raise DriverError(
                f"the robot at {self._options.host} has sent no state for {now - self._new_at:.2f} s; check its power "
                "and its cable, then clear_fault, which connects anew, and arm"
            )
        text = words.mode(seen.mode, seen.errors)
        if text and seen.mode != "Guiding":
            raise DriverError(text)
        self._watch(seen.rate, now)
        self._leave_where_silent(now)
        return self._positions.copy(), self._stamp_ns

    def _seen(self) -> Seen:
        try:
            return self._state()
        except DriverError:
            raise
        except Exception as error:
            raise DriverError(words.lost(error, self._options.host)) from error

    def _see_end(self) -> None:
        """Notices a motion that the robot has ended."""
        if self._tracker is None and not self._leaving:
            return
        try:
            moved = self._is_moved()
        except Exception as error:
            self._tracker, self._leaving = None, False
            raise DriverError(self._why_ended(error)) from error
        if moved:
            return
        was_tracking, self._tracker, self._leaving = self._tracker is not None, None, False
        if was_tracking:
            raise DriverError(f"the robot at {self._options.host} ended the motion and gave no reason; {words.RECOVER}")

    def _why_ended(self, error: Exception) -> str:
        """What the robot says of itself is nearer to the cause than how it ended the motion."""
        text = words.motion(error, self._options.host)
        if words.tells_lost(error):
            return text
        name, errors = self._mode()
        named = name == "Reflex" and words.tells_reflex(text)
        return text if named else words.mode(name, errors) or text

    def _watch(self, rate: float, now: float) -> None:
        """The share of commands that reach the robot in time; only while there are any."""
        least = self._options.min_success_rate
        self.health.rate = rate if self._tracker is not None else None
        if self._tracker is None or rate >= least:
            self._poor_since = 0.0
        elif not self._poor_since:
            self._poor_since = now
        elif now - self._poor_since > POOR_FOR:
            raise DriverError(
                f"only {100 * rate:.0f} % of the commands reach the robot in time, for {POOR_FOR:g} s; at least "
                f"{100 * least:.0f} % must (min_success_rate): {words.REFLEXES['communication_constraints_violation']}"
            )

    # --- motion -------------------------------------------------------------------------------------------------------
    def follow(self, goal: np.ndarray) -> None:
        """Sets the goal (7,) [rad]; the first one begins the motion, from where the arm is."""
        self._check(goal)
        now = time.monotonic()
        if self._tracker is None:
            self._begin()
        if self._guided:
            self._set_gains(self._compliance.stiffness, self._compliance.damping)
            self._guided, self._goal = False, None
        elapsed = now - self._goal_at
        speed = np.zeros(7)
        if self._goal is not None and FRESH[0] < elapsed < FRESH[1]:
            speed = (goal - self._goal) / elapsed
        self._aim(np.clip(goal, self.lower, self.upper), speed)
        self._goal, self._goal_at = goal.copy(), now

    def _check(self, goal: np.ndarray) -> None:
        """Errors: DriverError for a goal that is not (7,), not finite, or outside the robot's own limits."""
        if np.shape(goal) != (7,) or not np.isfinite(goal).all():
            raise DriverError(f"setpoint {goal!r} is not seven finite numbers; nothing was sent")
        outside = (goal < self.lower - ROUNDING) | (goal > self.upper + ROUNDING)
        if outside.any():
            joint = int(np.argmax(outside))
            raise DriverError(
                f"setpoint of joint {joint + 1} is {goal[joint]:.4f} rad, outside the robot's limits "
                f"[{self.lower[joint]:g}, {self.upper[joint]:g}]; nothing was sent"
            )

    def hold(self) -> None:
        """Brings the arm to rest where it is, as stiff as it tracks; then the robot's own controller holds it."""
        if self._tracker is None:
            return
        if self._guided:
            self._set_gains(self._compliance.stiffness, self._compliance.damping)
            self._guided = False
        self._aim(np.clip(self._positions, self.lower, self.upper), np.zeros(7))
        self._goal, self._goal_at = None, time.monotonic()

    @property
    def led(self) -> bool:
        """Whether setpoints move the arm."""
        return self._tracker is not None and not self._guided

    def guide(self) -> None:
        """The arm yields, and carries its own weight and the load that is set in Desk."""
        if self._tracker is None:
            self._begin()
        self._set_gains((0.0,) * 7, GUIDED_DAMPING)
        self._guided = True

    def _begin(self) -> None:
        self._connected()
        self._must_be_ready(*self._mode())
        try:
            self._tracker = self._start()
        except DriverError:
            raise
        except Exception as error:
            raise DriverError(words.motion(error, self._options.host)) from error
        self._goal, self._guided, self._leaving = None, False, False

    def _leave_where_silent(self, now: float) -> None:
        """Where no setpoints come any more the robot is asked to hold by itself."""
        if self._tracker is not None and not self._guided and now - self._goal_at > IDLE_AFTER:
            self._leave()

    def abandon(self) -> None:
        """Ends the motion where something is wrong; whatever that is, it was told already."""
        with contextlib.suppress(DriverError):
            self._leave()

    def _leave(self) -> None:
        tracker, self._tracker, self._guided, self._goal = self._tracker, None, False, None
        if tracker is None:
            return
        try:
            self._leaving = self._brake(tracker)
        except Exception as error:
            raise DriverError(words.motion(error, self._options.host)) from error

    # --- recovery -----------------------------------------------------------------------------------------------------
    def recover(self) -> None:
        """Connects anew where the connection is lost, and has the robot recover from a reflex. Moves nothing; may take
        seconds."""
        if not self._alive():
            self.close()
            self._connect()
        if self._mode()[0] == "Reflex":
            try:
                self._recover_robot()
            except Exception as error:
                raise DriverError(words.motion(error, self._options.host)) from error
        deadline = time.monotonic() + RECOVERED_WITHIN
        while self._mode()[0] != "Idle" and time.monotonic() < deadline:
            time.sleep(0.002)
        self._must_be_ready(*self._mode())
        self._set_thresholds()

    def _alive(self) -> bool:
        """Whether the connection is of use: its states are new ones."""
        if self._robot is None:
            return False
        self._end()
        with contextlib.suppress(Exception):    # lost
            before, deadline = self._state().device_ms, time.monotonic() + self._silent_after
            while time.monotonic() < deadline:
                if self._state().device_ms != before:
                    return True
                time.sleep(0.002)
        return False

    # ------------------------------------------------------------------------------------------------------------------
    def _mode(self) -> tuple[str, str]:
        """What the robot says of itself, and the errors it names."""
        self._connected()
        seen = self._seen()
        return seen.mode, seen.errors

    @staticmethod
    def _must_be_ready(name: str, errors: str) -> None:
        text = words.mode(name, errors)
        if text:
            raise DriverError(text)

    def _connected(self) -> Any:
        if self._robot is None:
            raise DriverError(f"the robot at {self._options.host} is not connected; call connect() first")
        return self._robot


def check_priority() -> None:
    """Whether a thread may have the real-time priority that libfranka gives its own. Errors: DriverError."""
    trouble: list[str] = []

    def try_it() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_max(os.SCHED_FIFO)))
        except OSError as error:
            trouble.append(str(error.strerror))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    if trouble:
        raise DriverError(
            f"real-time priority is not permitted ({trouble[0]}), and libfranka needs it; allow this user rtprio 99 in "
            "/etc/security/limits.d and log in anew, or set the option realtime=ignore where a double or no motion is "
            "meant"
        )
