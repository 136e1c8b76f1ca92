# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A double of a device as a process of a system: a program without ROS, and a node that is its operator.

The program must answer in time like the device itself, so it has a process of its own, in which no middleware holds
Python's lock. It takes a fault a line and answers a line, "done ..." or "error ..."; to "ask" it answers with what it
is like in JSON, to "trail" with where its arm was and what that was told since it was last asked (trail.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import threading
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from arm_controller.running import DriverNode
from molmoact2_contract import ContractError, load_contract

from .bus import default_address
from .mirror import Mirror
from .nodes import fixed

PR_SET_PDEATHSIG = 1    # prctl(2)
PRIORITY = 45       # of the real-time class; below the controller, which never waits for more than an answer
BEGIN_WITHIN = 60.0    # [s]
ANSWER_WITHIN = 5.0    # [s]
END_WITHIN = 5.0       # [s]
SHOWN = 50.0        # [1/s] that the world's arm is told where the double is, and its trail is published
TRAIL = QoSProfile(depth=200)    # of messages, each of 20 ms; none may be lost


class DoubleError(RuntimeError):
    """The program of a double did not begin, refused a line, or has ended; the text says which."""


class Program:
    """A double's program. Errors of each call: DoubleError."""

    def __init__(self, command: Sequence[str]):
        self._command = list(command)
        self._lock, self._rest = threading.Lock(), b""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, preexec_fn=_of_device
        )
        try:
            self.greeting = self._line(BEGIN_WITHIN)
        except DoubleError:
            self.close()
            raise

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def say(self, line: str) -> str:
        """Its answer, without the "done"."""
        with self._lock:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(f"{line}\n".encode())
            except OSError as error:
                raise DoubleError(f"the double's program has ended: {' '.join(self._command)}") from error
            answer = self._line(ANSWER_WITHIN)
        verdict, _, rest = answer.partition(" ")
        if verdict.rstrip(":") != "done":
            raise DoubleError(answer.removeprefix("error").lstrip(": "))
        return rest

    def ask(self) -> dict[str, Any]:
        return json.loads(self.say("ask"))

    def _line(self, patience: float) -> str:
        assert self._process.stdout is not None
        until = time.monotonic() + patience
        while b"\n" not in self._rest:
            if not select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                raise DoubleError(f"the double's program did not answer within {patience:g} s")
            data = self._process.stdout.read(65536)
            if not data:
                raise DoubleError(f"the double's program has ended: {' '.join(self._command)}")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _of_device() -> None:
    """In the program: it ends with its node, and does not answer late because a computer is busy."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    with contextlib.suppress(OSError):    # not permitted
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))


class DoubleNode(DriverNode):
    """Runs a double's program. Each setting of the parameter `fault` is a line for it; its value is the last.

    Where the parameter `mirror` is true the arm of the simulated world follows the double's. To whoever subscribes to
    `seen` and `told` under its name it tells where the double's arm was and what that was told: joints in ROS units,
    times on the clocks of trail.py.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("double", **options)
        self._program: Program | None = None
        self._error = ""
        self.add_on_set_parameters_callback(self._on_parameters)
        self._contract = load_contract(self._declare("contract", "", "path or name of the embodiment contract"))
        self._declare("simulation", True, "always true: this node is a simulation")
        self._arm = self._contract.arm(self._declare("arm", "arm", "the arm that it stands for"))
        mirror = self._declare("mirror", True, "whether the simulated world's arm goes where this one is")
        address = self._declare("address", "", "path of the world's unix socket; empty: the default")
        command, forms = self._of_device()
        self._program = Program(command)
        self.declare_parameter("fault", "ok", ParameterDescriptor(description=forms))
        self._trails = {
            kind: self.create_publisher(JointTrajectory, f"{self.get_name()}/{kind}", TRAIL)
            for kind in ("seen", "told")
        }
        self._ending = threading.Event()
        given = (self._contract, self._arm, address or default_address()) if mirror else None
        self._showing = threading.Thread(target=self._show, args=(given,), name="mirror", daemon=True)
        self._showing.start()
        self.get_logger().info(f"arm {self._arm.name!r}: {self._program.greeting}")

    def _declare(self, name: str, default: Any, description: str) -> Any:
        return self.declare_parameter(name, default, fixed(description)).value

    @abstractmethod
    def _of_device(self) -> tuple[list[str], str]:
        """Declares what the device needs; returns the program's command, and what faults there are in words."""

    @abstractmethod
    def _positions(self, told: dict[str, Any]) -> np.ndarray:
        """The arm's joints (J,) in ROS units, from an answer to "ask" or a row of its trail."""

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "fault" and self._program is not None:
                try:
                    self._program.say(parameter.value)
                except DoubleError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _show(self, given: tuple[Any, Any, str] | None) -> None:
        """given: what a mirror is made of; None: no world shows the arm."""
        assert self._program is not None
        try:
            mirror = Mirror(*given) if given else None
        except Exception as error:    # also what the world refuses
            self._error = f"the simulated world cannot show the arm: {error}"
            return
        while not self._ending.wait(1.0 / SHOWN):
            try:
                if mirror is not None:
                    mirror.show(self._positions(self._program.ask()))
                self._tell_trail()
            except DoubleError as error:
                self._error = str(error)
                break
        if mirror is not None:
            mirror.close()

    def _tell_trail(self) -> None:
        assert self._program is not None
        if not any(publisher.get_subscription_count() for publisher in self._trails.values()):
            return
        for kind, rows in json.loads(self._program.say("trail")).items():
            if rows:
                points = [
                    JointTrajectoryPoint(
                        positions=self._positions(row).tolist(),
                        time_from_start=Duration(nanoseconds=round(row["time"] * 1e9)).to_msg(),
                    )
                    for row in rows
                ]
                self._trails[kind].publish(JointTrajectory(joint_names=list(self._arm.joints), points=points))

    @property
    def error(self) -> str:
        code = self._program.exit_code if self._program is not None else None
        return self._error or ("" if code is None else f"the double's program ended with exit code {code}")

    def close(self) -> None:
        self._ending.set()
        self._showing.join()
        if self._program is not None:
            self._program.close()


REFUSALS = (ContractError, DoubleError)
