# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where something of a system fails whose arms are real, the arms are held until somebody there has parked them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from arm_controller.driver import ArmDriver, make_driver
from molmoact2_contract import Contract, Process, System
from molmoact2_contract.qos import SENSOR_SUBSCRIBE

AT_REST = 0.15         # [rad] from the rest pose, within which an arm counts as parked
OLD = 1.0              # [s] after which a joint state says nothing any more
ANSWER_WITHIN = 2.0    # [s]


def held_arms(system: System, dead: Collection[Process] = ()) -> list[str]:
    """Real arms that may have been moved, and whose controllers run on when `dead` have ended."""
    moved = [arm for arm, p in system.controllers.items() if not p.parameters.get("shadow", True) and p not in dead]
    return [] if system.simulation else moved


def may_fall(contract: Contract, controller: Process) -> bool:
    """Whether an arm of this controller's driver can fall when the driver is closed; yes where nobody can say."""
    given = controller.parameters
    try:
        arm = contract.arm(str(given.get("arm", "arm")))
        driver = make_driver(str(given.get("driver", "")), contract, arm, list(given.get("driver_options", [])))
    except Exception:    # whatever a driver's own code fails by
        return True
    return type(driver).falls is not ArmDriver.falls


def lost(arm: str) -> str:
    """What an operator is told of an arm whose controller has ended."""
    return (
        f"THE CONTROLLER OF ARM {arm!r} HAS ENDED: nobody moves or parks it. See above for the process that may hold "
        "it; else look whether it fell."
    )


def what_next(
    failure: str, contract: Contract, arms: Iterable[str], waits: bool = True, dead: Iterable[str] = (),
    faulted: Collection[str] = (),
) -> list[str]:
    """What an operator is told, line by line. failure: what has failed, in words; arms: those that are held; waits:
    whether the first Ctrl-C does until they are parked; dead: arms whose controllers have ended; faulted: arms that
    are known to be in fault."""
    arms, begin = sorted(arms), [f"error: {failure}"]
    said = {name: arm.stopping for name, arm in contract.arms.items() if arm.stopping}
    for arm in sorted(dead):
        begin.append(lost(arm))
        if arm in said:
            begin.append(f"       If the process that drives it died, then {said[arm].process_death}.")
    if not arms:
        return [*begin, "Ctrl-C ends the rest."]
    calls = [
        f"        ros2 service call /{arm}/{verb} std_srvs/srv/Trigger"
        for arm in arms for verb in (("clear_fault", "arm", "park") if arm in faulted else ("park",))
    ]
    if waits:
        end = "Then Ctrl-C. Before that, Ctrl-C ends all of it as soon as they are parked; a second Ctrl-C ends it at"
        end += "\n       once, and an arm without brakes sinks."
    else:
        end = "Then Ctrl-C. Before that, it ends all of it at once, and an arm without brakes sinks."
    return [
        *begin,
        f"THE ARMS ARE HELD ({', '.join(arms)}): their controllers run on, and follow nothing until resume.",
        "    1. Park them; one in fault takes `clear_fault`, then `arm`, before that. `molmoact2 operate park`, or",
        *calls,
        f"    2. {end}",
        *(f"       Arm {arm!r} at its controller's end: {said[arm].close}." for arm in arms if arm in said),
    ]


class RestWatch:
    """How far arms are from their rest poses, by their joint states. Heard in the thread that spins the node."""

    def __init__(self, node: Node, contract: Contract):
        self._contract = contract
        self._heard: dict[str, tuple[float, float]] = {}    # position and when it was heard [s], by joint
        node.create_subscription(JointState, "joint_states", self._on_state, SENSOR_SUBSCRIBE)

    def _on_state(self, message: JointState) -> None:
        now = time.monotonic()
        for name, position in zip(message.name, message.position, strict=False):
            self._heard[name] = (position, now)

    def _joints(self, arm: str) -> list[str]:
        known = self._contract.joints
        return [joint for joint in self._contract.arm(arm).joints if not known[joint].is_gripper]

    def listen(self, arms: Iterable[str]) -> None:
        """Waits until all of these arms have said where they are, but not longer than a state counts."""
        wanted, until = [joint for arm in arms for joint in self._joints(arm)], time.monotonic() + OLD
        while time.monotonic() < until and any(joint not in self._heard for joint in wanted):
            time.sleep(0.01)

    def away(self, arm: str) -> str:
        """Why an arm does not count as parked, in words; empty where it does."""
        joints, heard, now = self._joints(arm), dict(self._heard), time.monotonic()
        if any(joint not in heard or now - heard[joint][1] > OLD for joint in joints):
            return f"nobody knows where arm {arm!r} is"
        off = np.abs(np.array([heard[joint][0] for joint in joints]) - self._contract.values("rest", joints))
        worst = int(np.argmax(off))
        if off[worst] <= AT_REST:
            return ""
        return f"arm {arm!r} is {off[worst]:.2f} rad from its rest pose ({joints[worst]})"


def stop_arm(node: Node, arm: str, spun: Callable[[Callable[[], Any]], Any]) -> str:
    """Asks a controller to come to rest and to follow nothing until it is resumed; why it did not, in words, or an
    empty text. spun: has a call made in the thread that spins the node."""
    client = node.create_client(Trigger, f"{arm}/stop")
    try:
        if not client.wait_for_service(ANSWER_WITHIN):
            return f"the controller of arm {arm!r} offers no stop"
        future, until = spun(lambda: client.call_async(Trigger.Request())), time.monotonic() + ANSWER_WITHIN
        while not future.done() and time.monotonic() < until:
            time.sleep(0.01)
        if not future.done():
            return f"the controller of arm {arm!r} did not answer within {ANSWER_WITHIN:g} s"
        answer = future.result()
        return "" if answer.success else f"arm {arm!r} was not stopped: {answer.message}"
    finally:
        node.destroy_client(client)
