# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `arm_controller`: one arm. Thin: topics and services around the setpoint process, which moves the arm."""

from __future__ import annotations

import os
import queue
import sys
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from molmoact2_contract import ContractError, load_contract
from molmoact2_contract.qos import CHUNK, DIAGNOSTICS, SENSOR_PUBLISH, STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus

from .controller import WHEN_LATE
from .controller_state import State
from .core_client import CoreClient
from .driver import ArmDriver, DriverError, make_driver
from .joining import RULES
from .messages import chunk_of, cut_off, diagnostics_message, health_status, joint_state_message, status_message
from .running import DriverNode, run_node
from .setpoint_process import Settings

STATUS_PERIOD = 0.1
SILENT = 0.5    # [s]; what the setpoint process said before that is not said again as if it held
VERBS = ("arm", "disarm", "stop", "pause", "resume", "hand_guide", "home", "park", "clear_fault")


class ArmControllerNode(DriverNode):
    """driver: one to use instead of the one that the parameters name (tests); it is sent to the setpoint process."""

    def __init__(self, driver: ArmDriver | None = None, **options: Any):
        super().__init__("arm_controller", **options)
        settings = self._settings(driver)
        arm = self._arm = settings.arm
        self._joining, self._shadow = settings.joining, settings.shadow
        self._shown: tuple = ()
        self._told_ns = self._refused = 0
        self._texts: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ticked = self.create_guard_condition(self._after_tick)
        self._joint_states = self.create_publisher(JointState, "joint_states", SENSOR_PUBLISH)
        self._status = self.create_publisher(ControllerStatus, f"{arm.name}/status", STATUS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.create_subscription(ActionChunk, "policy/action_chunk", self._on_chunk, CHUNK)
        self.create_subscription(PolicyStatus, "policy/status", self._on_policy, STATUS)
        for peer in settings.peers:
            self.create_subscription(ControllerStatus, f"{peer}/status", self._on_peer, STATUS)
        for verb in VERBS:
            self.create_service(Trigger, f"{arm.name}/{verb}", partial(self._operate, verb))
        self.create_timer(STATUS_PERIOD, self._beat)
        self.create_timer(1.0, self._publish_diagnostics)
        # Last of all: whatever fails before this leaves no process behind.
        self._core = CoreClient(settings, self._ticked.trigger, self._texts.put)
        rate = settings.contract.setpoint_hz
        self.get_logger().info(f"arm {arm.name!r}: {rate:g} setpoints a second, shadow {settings.shadow}")
        if self._core.privileges:
            self.get_logger().info(f"setpoints may be late on a busy machine: {self._core.privileges}")

    def _settings(self, driver: ArmDriver | None) -> Settings:
        """Reads and checks the parameters. Errors: ContractError, DriverError."""
        declare = self._declare
        contract = load_contract(declare("contract", "", "path or name of the embodiment contract"))
        arm = contract.arm(declare("arm", "arm", "name of the arm in the contract"))
        simulation = declare("simulation", False, "whether the arm is simulated")
        name = declare("driver", "", "name of the arm driver")
        driver_options = declare("driver_options", [""], "options of the driver, key=value")
        driver = driver or make_driver(name, contract, arm, driver_options)
        shadow = declare("shadow", driver.real or not simulation, "compute and publish everything, move nothing")
        auto_arm = declare("auto_arm", False, "arm at the start; only a simulated arm, or a double of one")
        alone = declare("alone", False, "move this arm although the robot's other arms have no controller running")
        if auto_arm and not simulation:
            raise ContractError("auto_arm is true but simulation is not: a real arm is armed by an operator")
        if simulation and driver.real:
            shadow = self._doubted(name, auto_arm)
        joining = self._choice("joining", tuple(RULES), "how a new chunk takes over: splice, rtc, ensemble")
        when_late = self._choice("when_late", WHEN_LATE, "while no new chunk has come: hold at the end, or slow down")
        return Settings(
            contract=contract,
            arm=arm,
            driver=driver,
            shadow=shadow,
            auto_arm=auto_arm,
            peers=() if alone else tuple(a for a in contract.arms if a != arm.name),
            joining=joining,
            when_late=when_late,
        )

    def _doubted(self, driver: str, auto_arm: bool) -> bool:
        """A real device in a system that says it is none: in shadow, whatever else is said. Errors: ContractError."""
        text = f"simulation is true, but with these driver_options the driver {driver!r} moves a real arm"
        if auto_arm:
            raise ContractError(f"{text}, which is armed by an operator: name the double, or take a system for the arm")
        self.get_logger().error(f"{text}: it is in shadow, and nothing is sent; use a system with simulation: false")
        return True

    def _declare(self, name: str, default: Any, description: str) -> Any:
        return self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True)).value

    def _choice(self, name: str, allowed: tuple[str, ...], description: str) -> str:
        value = self._declare(name, allowed[0], description)
        if value not in allowed:
            raise ContractError(f"parameter {name} is {value!r}; it must be one of {', '.join(allowed)}")
        return value

    @property
    def error(self) -> str:
        """Why the setpoint process ended by itself; empty while it runs."""
        return f"the setpoint process ended with exit code {self._core.exit_code}" if self._core.ended else ""

    # --- from the setpoint process ------------------------------------------------------------------------------------
    def _after_tick(self) -> None:
        """Tells what has happened since it was told last."""
        while not self._texts.empty():
            self.get_logger().warning(self._texts.get())
        now = self._core.snapshot
        if now.measured is not None and now.measured_ns != self._told_ns:
            self._told_ns = now.measured_ns
            self._joint_states.publish(joint_state_message(self._arm.joints, now))
        if now.refused != self._refused:
            self._refused = now.refused
            self.get_logger().warning(f"refused {now.refusal_text}", throttle_duration_sec=1.0)
        shown = (now.state, now.paused, now.guided, now.fault, now.accepted, now.refused, now.waits)
        if shown == self._shown:
            return
        if shown[:1] != self._shown[:1]:
            text = f"{now.state.name.lower()}: {now.reason}"
            # rclpy ties a line of code to one severity, so these are two.
            if now.state == State.FAULT:
                self.get_logger().error(text)
            else:
                self.get_logger().info(text)
        self._shown = shown
        self._publish_status()

    # --- to the setpoint process --------------------------------------------------------------------------------------
    def _on_chunk(self, message: ActionChunk) -> None:
        chunk = chunk_of(message)
        # One that is too large for a packet is refused all the same, by what is too large in it.
        if not (self._core.tell("chunk", chunk) or self._core.tell("chunk", cut_off(chunk))):
            self.get_logger().error("a chunk could not be passed on to the setpoint process", throttle_duration_sec=1.0)

    def _on_policy(self, message: PolicyStatus) -> None:
        self._core.tell("policy", message.process_id, message.episode_id)

    def _on_peer(self, message: ControllerStatus) -> None:
        refused = (message.refused_chunks, message.last_refused_chunk_id)
        waits = message.waits_for_resume
        self._core.tell("peer", message.header.frame_id, message.state, message.fault_text, *refused, waits)

    def _operate(self, verb: str, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self._core.operate(verb)
        self.get_logger().info(f"{verb}: {response.message}")
        return response

    def _beat(self) -> None:
        self._core.tell("alive")
        if self._core.silent > SILENT and not self._core.ended:
            text = f"the setpoint process has been silent for {self._core.silent:.1f} s; no status is published"
            self.get_logger().error(text, throttle_duration_sec=1.0)
            return
        self._publish_status()

    def _publish_status(self) -> None:
        now, stamp = self._core.snapshot, self.get_clock().now().to_msg()
        self._status.publish(status_message(now, self._arm, self._joining, self._shadow, stamp))

    def _publish_diagnostics(self) -> None:
        now, stamp = self._core.snapshot, self.get_clock().now().to_msg()
        silent = self._core.silent if self._core.silent > SILENT else 0.0
        message = diagnostics_message(now, self._arm, self._core.privileges, silent, stamp)
        if self._core.health is not None:
            message.status.append(health_status(self._core.health, self._arm, self._core.health_age))
        self._diagnostics.publish(message)

    def close(self) -> None:
        """Brings the arm to rest, then lets go of it."""
        self._core.close()
        self._publish_status()


    def abandon(self) -> None:
        """The arm comes to rest, and one that would fall is held on: nobody has said that it may be let go."""
        self._core.abandon()


def main() -> int:
    """Runs the node until SIGINT or SIGTERM. Whatever ends it, the arm comes to rest."""
    status = run_node("arm_controller", ArmControllerNode, DriverError)
    if status:
        # At a usual exit multiprocessing would end the setpoint process, which may be holding an arm.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
