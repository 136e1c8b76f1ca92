# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm's seven joints through franky: one connection, and one impedance tracker while setpoints come.

The tracker's loop of 1 kHz is franky's own, in C++; what is done here a hundred times a second is to read the newest
state and to set the newest goal.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from types import ModuleType
from typing import Any

import numpy as np

from arm_controller.driver import DriverError
from arm_controller.waiting import Call, Overdue
from molmoact2_contract import Compliance

from . import words
from .health import HealthRecord
from .options import Options

# Limits of the Franka Research 3 [rad], which franky does not check.
LOWER = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])
UPPER = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])
ROUNDING = 1e-6          # [rad]
CONNECT_WITHIN = 8.0     # [s]
RECOVERED_WITHIN = 0.5   # [s] until the state says that the robot has recovered
END_WITHIN = 2.5         # [s]; franky's own stop takes two at most
IDLE_AFTER = 0.5         # [s] without a setpoint, after which the robot's own controller holds
POOR_FOR = 1.0           # [s] that the success rate may be too low
GUIDED_DAMPING = (3.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0)    # [Nm s/rad]
FRESH = (0.002, 0.05)    # [s] between two goals of which a speed is made


class ArmSession:
    """Errors of every call: DriverError. compliance: for seven joints. silent_after: without a new state for so long
    the robot is lost [s]."""

    def __init__(self, options: Options, compliance: Compliance, silent_after: float):
        self._options, self._compliance, self._silent_after = options, compliance, silent_after
        self._franky: ModuleType | None = None
        self._robot: Any = None
        self._tracker: Any = None
        self._guided = self._leaving = False
        self._goal: np.ndarray | None = None
        self._goal_at = 0.0          # steady clock [s]
        self._poor_since = 0.0       # likewise; 0: the success rate is well
        self._device_ms = -1
        self._stamp_ns, self._new_at = 0, 0.0
        self._positions = np.zeros(7)
        self.health = HealthRecord(options.min_success_rate, silent_after)

    # --- connection ---------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Connects, and sees that the robot could be moved. A robot in reflex may be connected to: the fault is told by
        `look`, and an operator clears it."""
        self._franky = _library()
        if self._options.realtime == "enforce":
            check_priority()
        self._connect()
        name, errors = self._mode()
        if name not in ("Reflex", "Guiding"):
            self._must_be_ready(name, errors)
        if name != "Reflex":    # one in reflex is told when it has recovered
            self._set_thresholds()

    def _connect(self) -> None:
        franky, options, host = self._franky, self._options, self._options.host
        assert franky is not None
        enforce, ignore = franky.RealtimeConfig.Enforce, franky.RealtimeConfig.Ignore
        realtime = enforce if options.realtime == "enforce" else ignore
        try:
            self._robot = Call(lambda: franky.Robot(host, realtime_config=realtime)).result(CONNECT_WITHIN)
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
        torques, forces = self._compliance.torque_thresholds, self._compliance.force_thresholds
        try:
            self._connected().set_collision_behavior(list(torques), list(forces))
        except Exception as error:
            raise DriverError(words.thresholds(error, self._options.host)) from error

    def close(self) -> None:
        """Ends the motion, and leaves the arm to the robot's own controller, which holds it."""
        if self._robot is not None:
            self._end()
            self._robot = None

    def _end(self) -> None:
        """Ends the motion, where there is one, and waits for that."""
        self._tracker, self._leaving, self._guided, self._goal = None, False, False, None
        try:
            if self._robot.is_in_control:
                self._robot.move(self._braking(), asynchronous=True)
            self._robot.join_motion(END_WITHIN)
        except Exception:    # what ended it was told, or the robot is gone; in either case it holds by itself
            pass

    # --- state --------------------------------------------------------------------------------------------------------
    def look(self) -> tuple[np.ndarray, int]:
        """Positions (7,) [rad] and their time, ROS [ns]: when they were new."""
        robot, now = self._connected(), time.monotonic()
        self._see_end()
        try:
            state = robot.state
        except Exception as error:
            raise DriverError(words.lost(error, self._options.host)) from error
        if state.time.to_msec() != self._device_ms:
            self._device_ms, self._new_at = state.time.to_msec(), time.monotonic()
            self._stamp_ns, self._positions = time.time_ns(), np.array(state.q, dtype=np.float64).reshape(7)
            self.health.new_at = self._new_at
            self.health.torques = np.array(state.tau_ext_hat_filtered, dtype=np.float64).reshape(7)
        elif now - self._new_at > self._silent_after:
            raise DriverError(
                f"the robot at {self._options.host} has sent no state for {now - self._new_at:.2f} s; check its power "
                "and its cable, then clear_fault, which connects anew, and arm"
            )
        text = words.mode(state.robot_mode.name, str(state.current_errors))
        if text and state.robot_mode.name != "Guiding":
            raise DriverError(text)
        self._watch(float(state.control_command_success_rate), now)
        self._leave_where_silent(now)
        return self._positions.copy(), self._stamp_ns

    def _see_end(self) -> None:
        """Notices a motion that the robot has ended."""
        if self._tracker is None and not self._leaving:
            return
        robot = self._robot
        moving = robot.is_in_control
        try:
            robot.poll_motion()    # tells once what ended a motion; returns the contrary of what its text says
        except Exception as error:
            self._tracker, self._leaving = None, False
            raise DriverError(self._why_ended(error)) from error
        if moving:
            return
        was_tracking, self._tracker, self._leaving = self._tracker is not None, None, False
        if was_tracking:
            raise DriverError(f"the robot at {self._options.host} ended the motion and gave no reason; {words.RECOVER}")

    def _why_ended(self, error: Exception) -> str:
        """What the robot says of itself is nearer to the cause than how it ended the motion."""
        text = words.motion(error, self._options.host)
        if type(error).__name__ != "ControlException":
            return text
        name, errors = self._mode()
        return text if name == "Reflex" else words.mode(name, errors) or text

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
        check_goal(goal)
        now = time.monotonic()
        if self._tracker is None:
            self._begin()
        if self._guided:
            self._tracker.set_gains(stiffness=self._compliance.stiffness, damping=self._compliance.damping)
            self._guided, self._goal = False, None
        elapsed = now - self._goal_at
        speed = np.zeros(7)
        if self._goal is not None and FRESH[0] < elapsed < FRESH[1]:
            speed = (goal - self._goal) / elapsed
        self._tracker.set_target(np.clip(goal, LOWER, UPPER), speed)
        self._goal, self._goal_at = goal.copy(), now

    def hold(self) -> None:
        """Brings the arm to rest where it is, as stiff as it tracks; then the robot's own controller holds it."""
        if self._tracker is None:
            return
        if self._guided:
            self._tracker.set_gains(stiffness=self._compliance.stiffness, damping=self._compliance.damping)
            self._guided = False
        self._tracker.set_target(np.clip(self._positions, LOWER, UPPER), np.zeros(7))
        self._goal, self._goal_at = None, time.monotonic()

    @property
    def led(self) -> bool:
        """Whether setpoints move the arm."""
        return self._tracker is not None and not self._guided

    def guide(self) -> None:
        """The arm yields, and carries its own weight and the load that is set in Desk."""
        if self._tracker is None:
            self._begin()
        self._tracker.set_gains(stiffness=np.zeros(7), damping=GUIDED_DAMPING)
        self._guided = True

    def _begin(self) -> None:
        robot = self._connected()
        self._must_be_ready(*self._mode())
        try:
            self._tracker = self._library.JointImpedanceTracker(
                robot,
                stiffness=self._compliance.stiffness,
                damping=self._compliance.damping,
                lower_joint_limits=LOWER,
                upper_joint_limits=UPPER,
            )
        except Exception as error:
            self._tracker = None
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
        # Where the robot has ended the motion meanwhile, this would begin one.
        if tracker is None or not self._robot.is_in_control:
            return
        try:
            self._robot.move(self._braking(), asynchronous=True)
            self._leaving = True
        except Exception as error:
            raise DriverError(words.motion(error, self._options.host)) from error

    def _braking(self) -> Any:
        """A motion that brings the arm to rest by damping, and then ends."""
        return self._library.TorqueStopMotion(damping=self._compliance.damping)

    # --- recovery -----------------------------------------------------------------------------------------------------
    def recover(self) -> None:
        """Connects anew where the connection is lost, and has the robot recover from a reflex. Moves nothing; may take
        seconds."""
        if not self._alive():
            self.close()
            self._connect()
        if self._mode()[0] == "Reflex":
            try:
                # What it returns is made of a state that may be older than the recovery.
                self._connected().recover_from_errors()
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
        try:
            before, deadline = self._robot.state.time.to_msec(), time.monotonic() + self._silent_after
            while time.monotonic() < deadline:
                if self._robot.state.time.to_msec() != before:
                    return True
                time.sleep(0.002)
        except Exception:    # lost
            pass
        return False

    # ------------------------------------------------------------------------------------------------------------------
    def _mode(self) -> tuple[str, str]:
        """What the robot says of itself, and the errors it names."""
        try:
            state = self._connected().state
        except DriverError:
            raise
        except Exception as error:
            raise DriverError(words.lost(error, self._options.host)) from error
        return state.robot_mode.name, str(state.current_errors)

    @staticmethod
    def _must_be_ready(name: str, errors: str) -> None:
        text = words.mode(name, errors)
        if text:
            raise DriverError(text)

    def _connected(self) -> Any:
        if self._robot is None:
            raise DriverError(f"the robot at {self._options.host} is not connected; call connect() first")
        return self._robot

    @property
    def _library(self) -> ModuleType:
        assert self._franky is not None
        return self._franky


def check_goal(goal: np.ndarray) -> None:
    """Errors: DriverError for a goal that is not (7,), not finite, or outside the robot's own limits."""
    if np.shape(goal) != (7,) or not np.isfinite(goal).all():
        raise DriverError(f"setpoint {goal!r} is not seven finite numbers; nothing was sent")
    outside = (goal < LOWER - ROUNDING) | (goal > UPPER + ROUNDING)
    if outside.any():
        joint = int(np.argmax(outside))
        raise DriverError(
            f"setpoint of joint {joint + 1} is {goal[joint]:.4f} rad, outside the robot's limits "
            f"[{LOWER[joint]:g}, {UPPER[joint]:g}]; nothing was sent"
        )


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


def _library() -> ModuleType:
    try:
        import franky
    except ImportError as error:
        raise DriverError(
            f"package franky-control is missing or does not load ({error}); install it: "
            "pip install franky-control==2.0.0"
        ) from error
    return franky
