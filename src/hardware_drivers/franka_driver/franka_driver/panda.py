# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""An older Panda (FER, system 4) through panda-python, which brings libfranka 0.9: version 5 of the protocol.

panda_py 1.1.1 does some things by itself that must not happen here, and leaves out others:
- it has the robot recover from a reflex whenever a motion begins; here a guard forbids that but to an operator;
- what ends a motion it keeps to itself until it is asked, and shows a state of long ago meanwhile;
- its object may end the process when it goes while the robot is out of reach, so that it is never let go;
- near the limits it pushes back with torques of its own (WALLS), and ends the process when a motion begins beyond them.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence, Set
from functools import partial
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np

from arm_controller.driver import DriverError
from arm_controller.waiting import Call, Overdue

from . import words
from .seen import Seen
from .session import END_WITHIN, ArmSession

VERSION = "1.1.1"    # of panda-python; the guard reads what it logs
INSTALL = f"pip install --no-deps panda-python=={VERSION}"
PORT = 1337
# Widths of the zones before the limits in which panda_py pushes back [rad]; a contract keeps out of them.
WALLS = np.array([0.12, 0.09, 0.09, 0.09, 0.0349, 0.0349, 0.0349])
EDGE = 0.005           # [rad] before a limit, within which no motion begins
SMOOTHING = 0.1        # share of a new goal that each millisecond takes: steps of 10 ms become a curve
AT_REST = 0.02         # [rad/s]
BRAKE_WITHIN = 1.0     # [s]
LEFT_WITHIN = 0.5      # [s] that a motion which is ending may keep the next one waiting
LOOK_EVERY = 0.002     # [s]
READ_WITHIN = 1.2      # [s]; libfranka waits a second for a state
RECOVERS = "automatic error recovery"    # in what panda_py logs before it does
METHODS = ("debug", "info", "warning", "error", "critical")    # of a logger

UNGUARDED = (
    "what keeps panda_py from having the robot recover by itself does not hold in this process, so the robot is not "
    f"connected to; see that nothing here replaces Python's logging, and that panda-python is the {VERSION} of PyPI"
)


class Unasked(RuntimeError):
    """panda_py was about to have the robot recover, and no operator had asked for that."""


class Guard:
    """In the place of the methods of panda_py's logger, through which it says what it is about to do: an error here
    keeps it from that. Not a filter or a handler, which any setting of logging turns off. What else panda_py says is
    told by us. name: of the logger. asked: an operator wants the recovery. heard: panda_py has said something."""

    def __init__(self) -> None:
        self.asked = self.heard = False
        self.name = f"panda_py {id(self)}"    # of no other: the logger keeps this object
        for method in METHODS:
            setattr(logging.getLogger(self.name), method, self._told)

    def _told(self, *parts: object, **_: object) -> None:
        self.heard = True
        if not self.asked and any(RECOVERS in str(part) for part in parts):
            raise Unasked("panda_py wanted to have the robot recover")

    def must_hold(self) -> None:
        """Tries it as panda_py would. Errors: DriverError."""
        try:
            logging.getLogger(self.name).warning(RECOVERS)
        except Unasked:
            self.heard = False
            return
        raise DriverError(UNGUARDED)


class Reader:
    """Keeps the newest state, in a thread: to read one takes until the robot has sent the next. free: held while
    panda_py uses the connection for anything but the motion that is under way. fastest: the highest speed of a joint
    [rad/s]."""

    def __init__(self, robot: Any, free: threading.Lock):
        self._robot, self._free = robot, free
        self._ended = threading.Event()
        self._trouble: Exception | None = None
        self._newest: Seen | None = None
        self.fastest = 0.0
        self._read()
        self._thread = threading.Thread(target=self._run, name="panda states", daemon=True)
        self._thread.start()

    def newest(self) -> Seen:
        """Errors: panda_py's, when there will be no more."""
        if self._trouble is not None:
            raise RuntimeError(str(self._trouble))
        assert self._newest is not None
        return self._newest

    def after(self, at: float, within: float) -> Seen:
        """One that is newer than a steady time [s]; waits for it [s]. Errors: as `newest`; TimeoutError."""
        deadline = time.monotonic() + within
        while (seen := self.newest()).at <= at:
            if time.monotonic() > deadline:
                raise TimeoutError("UDP receive: no new state")
            time.sleep(LOOK_EVERY / 2)
        return seen

    def end(self) -> None:
        """Waits for it: Python ends in an error where panda_py is waiting for a state meanwhile."""
        self._ended.set()
        self._thread.join(READ_WITHIN)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            try:
                self._read()
            except Exception as error:
                self._trouble = error
                return

    def _read(self) -> None:
        with self._free:
            state = self._robot.get_state()
        device_ms = state.time.to_msec()
        if self._newest is None or device_ms != self._newest.device_ms:
            self.fastest = float(np.abs(state.dq).max())
            self._newest = Seen(
                device_ms, time.monotonic(), time.time_ns(), np.array(state.q), np.array(state.tau_ext_hat_filtered),
                state.robot_mode.name.removeprefix("k"), repr(state.current_errors),
                state.control_command_success_rate,
            )    # fmt: skip


class PandaSession(ArmSession):
    robot = "Panda"
    lower = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
    upper = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
    _library: ModuleType
    _guard: Guard
    _free: threading.Lock
    _reader: Reader
    _motion: Any = None    # panda_py's controller, until its motion is known to have ended
    _stopping: Call | None = None
    _addresses: Set[str] = frozenset()    # of the robot

    def _load(self) -> None:
        try:
            import panda_py
            import panda_py.controllers
            import panda_py.libfranka

            found = version("panda-python")
        except ImportError as error:    # one without its metadata, too: nobody knows which it is
            raise DriverError(
                f"package panda-python is missing or does not load ({error}), and a Panda needs it; install it into "
                f"the suite's environment: {INSTALL}"
            ) from error
        if found != VERSION:
            raise DriverError(
                f"package panda-python is {found}, and this driver stands on what {VERSION} does by itself; install "
                f"that into the suite's environment: {INSTALL}"
            )
        self._library = panda_py
        if self._options.realtime == "enforce" and not panda_py.libfranka.has_realtime_kernel():
            raise DriverError(words.NO_KERNEL)

    def _dial(self) -> Any:
        host, config = self._options.host, self._library.libfranka.RealtimeConfig
        # First: a connection that stands can be ended by these alone.
        found = socket.getaddrinfo(host, PORT, socket.AF_INET, socket.SOCK_STREAM)
        self._addresses = {str(address[0]) for *_, address in found}
        # Which of the two is said, as panda_py ignores it by default.
        realtime = config.kEnforce if self._options.realtime == "enforce" else config.kIgnore
        return self._library.Panda(host, self._guard.name, realtime)

    def _connect(self) -> None:
        self._guard = Guard()
        self._guard.must_hold()
        super()._connect()
        keep_for_ever(self._robot)
        self._motion, self._stopping, self._free = None, None, threading.Lock()
        try:
            if not self._guard.heard:    # it says that it has connected
                raise DriverError(UNGUARDED)
            self._reader = Reader(self._robot, self._free)
        except Exception as error:
            hang_up(self._addresses)
            self._robot = None
            if isinstance(error, DriverError):
                raise
            raise DriverError(words.lost(error, self._options.host)) from error

    def _drop(self) -> None:
        self._reader.end()
        hang_up(self._addresses)

    def _state(self) -> Seen:
        return self._reader.newest()

    def _give_thresholds(self, torques: Sequence[float], forces: Sequence[float]) -> None:
        # panda_py waits for the answer for ever, and no other thread of this process runs meanwhile; so only of a robot
        # that is there.
        self._reader.after(time.monotonic(), self._silent_after)
        with self._free:
            self._robot.get_robot().set_collision_behavior(torques, torques, forces, forces)

    def _start(self) -> Any:
        positions = self._reader.after(time.monotonic(), self._silent_after).positions
        outside = (positions < self.lower + EDGE) | (positions > self.upper - EDGE)
        if outside.any():
            joint = int(np.argmax(outside))
            raise DriverError(
                f"joint {joint + 1} is at {positions[joint]:.4f} rad, at or beyond the robot's limits "
                f"[{self.lower[joint]:g}, {self.upper[joint]:g}]; guide the arm away (Desk, programming mode)"
            )
        if self._stopping is not None:
            try:
                self._stopping.result(LEFT_WITHIN)
            except Overdue:
                raise DriverError(f"the last motion of the robot at {self._options.host} does not end") from None
            self._stopping = None
        motion = self._library.controllers.JointPosition(
            self._compliance.stiffness, self._compliance.damping, SMOOTHING
        )
        with self._free:
            try:
                self._robot.start_controller(motion)
            except Unasked as error:
                raise DriverError(f"the robot is in reflex; {words.RECOVER}") from error
        self._motion = motion
        return motion

    def _is_moved(self) -> bool:
        if self._stopping is not None:
            try:
                self._stopping.result(0.0)
            except Overdue:
                return True
            self._motion = self._stopping = None
            self._robot.raise_error()
            return False
        try:
            self._robot.raise_error()
        except Exception:
            self._motion = None
            with self._free:
                self._robot.stop_controller()    # it has ended, and panda_py shows new states only when it is told so
            with contextlib.suppress(Exception):
                self._reader.after(time.monotonic(), self._silent_after)
            raise
        return self._motion is not None

    def _set_gains(self, stiffness: Sequence[float], damping: Sequence[float]) -> None:
        self._tracker.set_stiffness(stiffness)
        self._tracker.set_damping(damping)

    def _aim(self, goal: np.ndarray, speed: np.ndarray) -> None:
        self._tracker.set_control(goal, speed)

    def _brake(self, tracker: Any) -> bool:
        tracker.set_stiffness(np.zeros(7))
        tracker.set_damping(self._compliance.damping)
        tracker.set_control(self._positions, np.zeros(7))
        self._stopping = Call(partial(_stop_at_rest, self._robot, self._reader, self._free))
        return True

    def _finish(self) -> None:
        if self._motion is not None and self._stopping is None:
            self._brake(self._motion)
        if self._stopping is not None:
            self._stopping.result(END_WITHIN)
        self._motion = self._stopping = None
        self._robot.raise_error()    # of a motion that is over

    def _recover_robot(self) -> None:
        self._guard.asked = True
        try:
            with self._free:
                # Teaching is off, and nothing begins; of panda_py's recoveries the one that lets other threads run.
                self._robot.teaching_mode(False)
        finally:
            self._guard.asked = False


def _stop_at_rest(robot: Any, reader: Reader, free: threading.Lock) -> None:
    deadline = time.monotonic() + BRAKE_WITHIN
    while reader.fastest > AT_REST and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    with free:
        robot.stop_controller()


def keep_for_ever(thing: object) -> None:
    """A Panda that has moved asks the robot for a state when it goes, and ends the process where none comes; any one
    logs then, and ends the process where Python is ending. So it never goes; its connection is ended by `hang_up`."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def hang_up(addresses: Set[str]) -> None:
    """Ends this process' connections to a robot, whoever holds them. A motion that waits for it ends with them."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as mine:
                tcp = mine.family == socket.AF_INET and mine.type == socket.SOCK_STREAM
                if tcp and mine.getpeername()[0] in addresses and mine.getpeername()[1] == PORT:
                    mine.shutdown(socket.SHUT_RDWR)
