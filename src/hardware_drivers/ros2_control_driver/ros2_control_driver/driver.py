# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm driver that hands setpoints to a joint_trajectory_controller of ros2_control. No ROS in this process."""

from __future__ import annotations

import importlib.util
import math
import pickle
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arm_controller.driver import ArmDriver, ArmState, DriverError, Reading
from arm_controller.waiting import Call, Overdue
from molmoact2_contract import Arm, Contract

from .wire import ACTION, AUTO, TOPIC, Goal, Measured, Plan, Ready, Trouble, receive, send

PATIENCE = 20.0    # [s] for the other system to be there
SETTLED = 2.0      # [s] that all must be well at the start; discovery takes less
START_WITHIN = 40.0    # [s] for the bridge to start, on a busy machine
RECOVER_WITHIN = 1.0    # [s] of a request; what takes longer goes on, and is asked for again
DEAF_FOR = 0.25    # [s] that the bridge may take no goal
LEADS = (0.02, 0.5)
ACTION_LEADS = (0.1, 1.0)
ACTION_LEAD = 0.3    # [s], where the contract lets an arm lag so much
KNOWN = (
    "controller", "joint_states", "joints", "via", "lead", "gripper_controller", "gripper_joint", "gripper_closed",
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

    def __init__(self, plan: Plan, units: Units, grippers: Sequence[bool]):
        """grippers: which of the joints are (J,)."""
        self._plan, self._units, self._grippers = plan, units, np.array(grippers)
        self._bridge: subprocess.Popen | None = None
        self._socket: socket.socket | None = None
        self._measured: Measured | None = None
        self._broken = ""
        self._recovery: Call | None = None
        self._deaf_since = 0.0    # steady clock [s]; 0: the bridge takes goals
        self._sent = self._untaken = 0
        self._goal: np.ndarray | None = None    # last that was taken, ROS units

    def connect(self) -> None:
        """Starts the bridge and waits for the other system; moves nothing. Errors: DriverError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = pickle.dumps(self._plan).hex()
        command = [sys.executable, "-m", "ros2_control_driver.bridge", str(theirs.fileno()), words]
        # A session of its own: a terminal's Ctrl-C goes to all of the terminal's.
        self._bridge = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        self._socket, self._deaf_since, self._goal = ours, 0.0, None
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
            self._deaf_since, self._sent = 0.0, self._sent + 1
            self._goal = np.array(positions, dtype=np.float64)
            return
        self._untaken += 1
        if not self._deaf_since:
            self._deaf_since = time.monotonic()
        elif time.monotonic() - self._deaf_since > DEAF_FOR:
            raise self._break("the bridge to ros2_control takes no more goals; free the processor, then clear_fault")

    def stop(self) -> None:
        """Gives the controller the measured position as its goal, from whenever it arrives on; a gripper keeps its own.
        Errors: DriverError."""
        here = self.read().positions
        self._send(here if self._goal is None else np.where(self._grippers, self._goal, here), 0)

    def held(self) -> np.ndarray | None:
        """What the controller was given last."""
        return self._goal

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

    def health(self) -> Sequence[Reading]:
        """How old the newest joint states are, and what became of setpoints; of its hardware the other system tells
        nothing on this way."""
        told = [Reading("setpoints handed over", self._sent, ""), Reading("setpoints not taken", self._untaken, "")]
        if self._measured is not None:
            told.append(Reading("age of joint states", (time.time_ns() - self._measured.stamp_ns) / 1e6, "ms"))
        return told

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


def create(
    contract: Contract, arm: Arm, options: dict[str, str], patience: float = PATIENCE, settled: float = SETTLED
) -> Ros2ControlDriver:
    """Makes the driver. options, all optional but those of a gripper: controller (name of the
    joint_trajectory_controller), joint_states (topic), joints (the other system's names, in the contract's order,
    grippers apart), via (topic, action or auto), lead [s], gripper_joint, gripper_closed, gripper_open (its joint and
    its positions there), gripper_controller (where it has one of its own). Errors: DriverError."""
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
    via = _via(options)
    lead = _number(options, "lead", 0.1)
    if via != ACTION and not LEADS[0] <= lead <= LEADS[1]:
        raise DriverError(f"option lead is {lead:g} s; it must be from {LEADS[0]:g} to {LEADS[1]:g}")
    action_lead = _action_lead(contract, arm, options) if via != TOPIC else ACTION_LEAD
    plan = Plan(
        names, options.get("joint_states", "/joint_states"),
        tuple((name, tuple(sorted(joints))) for name, joints in groups.items()), via, lead, action_lead, patience,
        settled,
    )
    return Ros2ControlDriver(plan, Units(scale, offset), [contract.joints[joint].is_gripper for joint in arm.joints])


def _via(options: dict[str, str]) -> str:
    via = options.get("via", TOPIC)
    if via not in (TOPIC, ACTION, AUTO):
        raise DriverError(f"option via is {via!r}; it must be one of {TOPIC}, {ACTION}, {AUTO}")
    if via == ACTION and importlib.util.find_spec("control_msgs") is None:
        raise DriverError(
            "option via=action needs the messages of ros2_control, which are not here; install them "
            "(sudo apt install ros-jazzy-control-msgs), or choose via=topic"
        )
    return via


def _action_lead(contract: Contract, arm: Arm, options: dict[str, str]) -> float:
    """By the action an arm lags by the lead, which must not be taken for a joint that does not follow."""
    joints = [contract.joints[name] for name in arm.joints if not contract.joints[name].is_gripper]
    slowest = min(joints, key=lambda joint: joint.tracking / joint.velocity)
    most = min(slowest.tracking / slowest.velocity, ACTION_LEADS[1])
    lead = _number(options, "lead", min(ACTION_LEAD, most))
    if not ACTION_LEADS[0] <= lead <= ACTION_LEADS[1]:
        raise DriverError(
            f"option lead is {lead:g} s; by the action it must be from {ACTION_LEADS[0]:g} to {ACTION_LEADS[1]:g}"
        )
    if lead > most:
        raise DriverError(
            f"option lead is {lead:g} s, and by the action the arm lags by that: at its velocity of "
            f"{slowest.velocity:g} rad/s {slowest.name!r} is farther behind than its tracking of {slowest.tracking:g} "
            f"rad; at most {most:.3f}, or lower `velocity` or raise `tracking` in {contract.path}"
        )
    return lead


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
