# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm driver that hands setpoints to a joint_trajectory_controller of ros2_control. No ROS in this process."""

from __future__ import annotations

import math
import pickle
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from arm_controller.driver import ArmDriver, ArmState, DriverError
from arm_controller.waiting import Call, Overdue
from molmoact2_contract import Arm, Contract

from .wire import Goal, Measured, Plan, Ready, Trouble, receive, send

PATIENCE = 20.0    # [s] for the other system to be there
START_WITHIN = 40.0    # [s] for the bridge to start, on a busy machine
RECOVER_WITHIN = 1.0    # [s] of a request; what takes longer goes on, and is asked for again
DEAF_FOR = 0.25    # [s] that the bridge may take no goal
LEADS = (0.02, 0.5)
KNOWN = (
    "controller", "joint_states", "joints", "lead", "gripper_controller", "gripper_joint", "gripper_closed",
    "gripper_open",
)


@dataclass(frozen=True)
class Units:
    """The other system's units: value = scale * ROS value + offset, per joint (J,)."""

    scale: np.ndarray
    offset: np.ndarray

    def to_ros(self, device: np.ndarray) -> np.ndarray:
        return (device - self.offset) / self.scale

    def to_device(self, ros: np.ndarray) -> np.ndarray:
        return ros * self.scale + self.offset


class Ros2ControlDriver(ArmDriver):
    """One arm of another system. What fails stays failed until an operator clears it (`recover`).

    Where setpoints cease, or a process of ours dies, the other system's controller holds the last point it was given.
    """

    def __init__(self, plan: Plan, units: Units):
        self._plan, self._units = plan, units
        self._bridge: subprocess.Popen | None = None
        self._socket: socket.socket | None = None
        self._measured: Measured | None = None
        self._broken = ""
        self._recovery: Call | None = None
        self._deaf_since = 0.0    # steady clock [s]; 0: the bridge takes goals

    def connect(self) -> None:
        """Starts the bridge and waits for the other system; moves nothing. Errors: DriverError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = pickle.dumps(self._plan).hex()
        command = [sys.executable, "-m", "ros2_control_driver.bridge", str(theirs.fileno()), words]
        self._bridge = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._socket, self._deaf_since = ours, 0.0
        deadline = time.monotonic() + self._plan.patience + START_WITHIN
        while True:
            select.select([ours], [], [], max(deadline - time.monotonic(), 0.0))
            try:
                message = self._next()
            except DriverError:
                self.close()
                raise
            if isinstance(message, Ready):
                return
            if time.monotonic() > deadline:
                self.close()
                raise DriverError("the bridge to ros2_control did not start; see the lines above")

    def _next(self) -> Ready | Measured | None:
        """What the bridge has said, one thing; keeps what was measured. Errors: DriverError."""
        assert self._socket is not None
        try:
            message = receive(self._socket)
        except EOFError:
            raise self._break("the bridge to ros2_control has ended; see the lines above, then clear_fault") from None
        if isinstance(message, Trouble):
            raise self._break(message.text)
        if isinstance(message, Measured):
            self._measured = message
        return message

    def read(self) -> ArmState:
        """Errors: DriverError."""
        self._must_be_sound()
        while self._next() is not None:
            pass
        assert self._measured is not None
        return ArmState(self._units.to_ros(np.array(self._measured.positions)), self._measured.stamp_ns)

    def write(self, positions: np.ndarray) -> None:
        """Errors: DriverError."""
        self._send(positions, time.time_ns())

    def _send(self, positions: np.ndarray, stamp_ns: int) -> None:
        self._must_be_sound()
        if np.shape(positions) != self._units.scale.shape or not np.isfinite(positions).all():
            raise DriverError(f"setpoint {positions!r} is not {len(self._units.scale)} finite numbers; nothing sent")
        assert self._socket is not None
        device = self._units.to_device(np.asarray(positions, dtype=np.float64))
        if send(self._socket, Goal(tuple(device.tolist()), stamp_ns)):
            self._deaf_since = 0.0
        elif not self._deaf_since:
            self._deaf_since = time.monotonic()
        elif time.monotonic() - self._deaf_since > DEAF_FOR:
            raise self._break("the bridge to ros2_control takes no more goals; free the processor, then clear_fault")

    def stop(self) -> None:
        """Gives the controller the measured position as its goal, from whenever it arrives on. Errors: DriverError."""
        self._send(self.read().positions, 0)

    def recover(self) -> None:
        """Starts the bridge anew. Errors: DriverError."""
        if not self._broken:
            return
        if self._recovery is None:
            self._recovery = Call(self._reconnect)
        try:
            self._recovery.result(RECOVER_WITHIN)
        except Overdue:
            raise DriverError(f"the bridge is being started anew, for: {self._broken}; ask again") from None
        except DriverError:
            self._recovery = None
            raise
        self._recovery, self._broken = None, ""

    def _reconnect(self) -> None:
        self.close()
        self.connect()

    def close(self) -> None:
        """Ends the bridge; the other system's controller holds its last point."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._bridge is not None:
            try:
                self._bridge.wait(2.0)
            except subprocess.TimeoutExpired:
                self._bridge.kill()
                self._bridge.wait()
            self._bridge = None

    # ------------------------------------------------------------------------------------------------------------------
    def _must_be_sound(self) -> None:
        if self._broken:
            raise DriverError(self._broken)
        if self._socket is None:
            raise DriverError("the driver is not connected; call connect() first")

    def _break(self, text: str) -> DriverError:
        self._broken = text
        return DriverError(text)


def create(contract: Contract, arm: Arm, options: dict[str, str], patience: float = PATIENCE) -> Ros2ControlDriver:
    """Makes the driver. options, all optional but those of a gripper: controller (name of the
    joint_trajectory_controller), joint_states (topic), joints (the other system's names, in the contract's order,
    grippers apart), lead [s], gripper_joint, gripper_closed, gripper_open (its joint and its positions there),
    gripper_controller (where it has one of its own). Errors: DriverError."""
    unknown = sorted(set(options) - set(KNOWN))
    if unknown:
        raise DriverError(f"driver ros2_control has no option {', '.join(unknown)}; it has: {', '.join(KNOWN)}")
    scale, offset = np.ones(len(arm.joints)), np.zeros(len(arm.joints))
    names = _names(contract, arm, options)
    places = [i for i, joint in enumerate(arm.joints) if not contract.joints[joint].is_gripper]
    controller = options.get("controller", "joint_trajectory_controller")
    groups = {controller: places}
    for gripper in (i for i, joint in enumerate(arm.joints) if contract.joints[joint].is_gripper):
        closed, opened = _number(options, "gripper_closed"), _number(options, "gripper_open")
        if closed == opened:
            raise DriverError(f"options gripper_closed and gripper_open are both {closed:g}; they must differ")
        scale[gripper], offset[gripper] = opened - closed, closed
        groups.setdefault(options.get("gripper_controller", controller), []).append(gripper)
    lead = _number(options, "lead", 0.1)
    if not LEADS[0] <= lead <= LEADS[1]:
        raise DriverError(f"option lead is {lead:g} s; it must be from {LEADS[0]:g} to {LEADS[1]:g}")
    topics = tuple((f"{name}/joint_trajectory", tuple(sorted(joints))) for name, joints in groups.items())
    plan = Plan(names, options.get("joint_states", "/joint_states"), topics, lead, patience)
    return Ros2ControlDriver(plan, Units(scale, offset))


def _names(contract: Contract, arm: Arm, options: dict[str, str]) -> tuple[str, ...]:
    """The other system's names, in the arm's order."""
    joints = [joint for joint in arm.joints if not contract.joints[joint].is_gripper]
    given = [name.strip() for name in options["joints"].split(",")] if "joints" in options else joints
    if len(given) != len(joints) or not all(given):
        raise DriverError(
            f"option joints names {len(given)} joints; the contract's arm has {len(joints)}: {', '.join(joints)}"
        )
    arms, grippers = iter(given), [joint for joint in arm.joints if contract.joints[joint].is_gripper]
    if grippers and "gripper_joint" not in options:
        raise DriverError(f"the contract has the gripper {grippers[0]!r}; name its joint with the option gripper_joint")
    if len(grippers) > 1:
        raise DriverError(f"arm {arm.name!r} has {len(grippers)} grippers; this driver moves one at most")
    names = tuple(options["gripper_joint"] if joint in grippers else next(arms) for joint in arm.joints)
    if len(set(names)) != len(names):
        raise DriverError(f"a joint is named twice: {', '.join(names)}")
    return names


def _number(options: dict[str, str], key: str, default: float | None = None) -> float:
    if key not in options and default is not None:
        return default
    try:
        value = float(options[key])
    except (KeyError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DriverError(f"option {key} is {options.get(key, 'missing')!r}; it must be a number")
    return value
