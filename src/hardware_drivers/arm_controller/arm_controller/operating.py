# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask of an arm. Each request looks at the arm anew first, and is refused in words or done."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .controller import ArmController
from .controller_state import Cause, Fault, Refused, State
from .driver import DriverError
from .moves import slow_move

Clocks = Callable[[], tuple[int, int]]    # steady clock and ROS time [ns]


class Operator:
    """The verbs. Errors of each: Refused. clocks: read at each request."""

    def __init__(self, controller: ArmController, clocks: Clocks):
        self._controller, self._clocks = controller, clocks
        self._state, self._gate, self._feedback = controller.state, controller.gate, controller.feedback

    def _look(self) -> None:
        """What was measured before may be long past: after a pause of this process, or of the machine."""
        self._controller.look(*self._clocks())

    def arm(self) -> None:
        """Holds the measured position from now on. Also where another arm is unwell: that keeps this one from chunks,
        not from being homed or parked."""
        self._look()
        unwell = self._feedback.driver_failed or self._controller.feedback_error()
        if unwell and not self._state.armed and self._state.state != State.FAULT:
            raise Refused(unwell)
        self._state.arm()
        try:
            self._controller.hold_here()
        except Refused:
            self._state.disarm()
            raise

    def stop(self, reason: str = "stopped on request") -> None:
        """Comes to rest and holds."""
        self._take_back()
        self._state.stop(reason, cause=Cause.REQUEST)

    def pause(self) -> None:
        self._take_back()
        self._state.pause()

    def resume(self) -> None:
        """Lets the policy move the arm; an arm in a person's hand is held where it is."""
        self._take_back()
        self._state.resume()
        self._controller.forget_observations()

    def disarm(self) -> None:
        """Comes to rest, then sends no more setpoints. An arm in a person's hand, or in fault and at rest, is left to
        its device, which holds it; the fault stays."""
        if self._state.state == State.FAULT:
            if not self._controller.at_rest:
                raise Refused("the arm is still coming to rest; disarm it then")
            self._leave_to_device()
        elif self._state.guided:
            self._leave_to_device()
            self._state.disarm()
        else:
            self._state.stop("disarmed by the operator", State.DISARMED, Cause.REQUEST)

    def _leave_to_device(self) -> None:
        self._controller.let_go()
        if self._controller.shadow:
            return
        try:
            self._feedback.hold()
        except DriverError as error:
            self._controller.fail(Fault.DRIVER, str(error))
            raise Refused(f"nothing is sent any more, but the device does not say that it holds: {error}") from error

    def hand_guide(self) -> None:
        """Puts the arm in a person's hand, until resume, stop, pause or disarm."""
        if self._controller.shadow:
            raise Refused("the arm is shadowed: it is not ours to put into a hand")
        self._must_hold()
        try:
            self._feedback.guide()
        except DriverError as error:
            raise Refused(str(error)) from error
        self._state.guide()

    def _must_hold(self) -> None:
        if self._state.state != State.HOLDING or not self._controller.at_rest or self._state.guided:
            raise Refused(f"the arm is {self._state.words}; it must be holding")

    def _take_back(self) -> None:
        """An arm in a person's hand is held where it is."""
        if self._state.guided:
            self._look()
            error = self._controller.feedback_error()
            if error:
                raise Refused(f"nobody knows where the arm is: {error}")
            self._controller.hold_here()
            self._state.guided = False

    def home(self) -> None:
        self._move_to("home")

    def park(self) -> None:
        """To the rest pose; grippers keep what they hold."""
        self._move_to("rest")

    def _move_to(self, pose: str) -> None:
        """A slow straight move in joint space to a pose of the contract."""
        self._must_hold()
        if self._state.paused:
            raise Refused("the arm is paused; resume it first")
        controller = self._controller
        if controller.command is None:
            raise Refused("nothing is commanded; arm the arm first")
        contract, joints = controller.contract, controller.arm_spec.joints
        target, velocity = contract.values(pose, joints), contract.values("velocity", joints)
        if pose == "rest":    # what a gripper carries must not drop on the way
            grippers = [contract.joints[joint].is_gripper for joint in joints]
            target = np.where(grippers, controller.command, target)
        path = slow_move(controller.command, target, velocity, controller.now)
        outside = self._gate.path_error(path)
        if outside:
            raise Refused(f"on the straight way to {pose} {outside}; guide the arm by hand, or move it nearer first")
        controller.follow_own(path, f"moving to {pose}")

    def clear_fault(self) -> None:
        """Clears a fault whose cause is gone, once the arm is at rest; a device that stopped itself recovers now."""
        if self._state.state == State.FAULT and self._controller.at_rest:
            self._recover()
        self._look()
        if self._state.state == State.FAULT:
            cause = self._feedback.driver_failed or self._controller.feedback_error()
            if cause:
                raise Refused(f"the cause is still there: {cause}")
            if not self._controller.at_rest:
                raise Refused("the arm is still coming to rest; clear the fault then")
        self._state.clear_fault()
        self._controller.let_go()
        self._controller.forget_observations()

    def _recover(self) -> None:
        try:
            self._feedback.recover()
        except DriverError as error:
            raise Refused(f"the cause is still there: {error}") from error
