# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `arm_controller`: one arm. Thin: topics and services around ArmController."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from molmoact2_contract import ContractError, load_contract
from molmoact2_contract.qos import CHUNK, DIAGNOSTICS, SENSOR_PUBLISH, STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus

from .controller import WHEN_LATE, ArmController
from .controller_state import Fault, Refused, State
from .driver import ArmDriver, DriverError, make_driver
from .joining import RULES
from .messages import chunk_of, diagnostics_message, joint_state_message, status_message
from .setpoint_loop import SetpointLoop

STATUS_PERIOD = 0.1
STOP_PATIENCE = 3.0


class ArmControllerNode(Node):
    """driver: one to use instead of the one that the parameters name (tests)."""

    def __init__(self, driver: ArmDriver | None = None, **options: Any):
        super().__init__("arm_controller", **options)
        declare = self._declare
        contract = load_contract(declare("contract", "", "path or name of the embodiment contract"))
        arm = contract.arm(declare("arm", "arm", "name of the arm in the contract"))
        simulation = declare("simulation", False, "whether the arm is simulated")
        shadow = declare("shadow", not simulation, "compute and publish everything, move nothing")
        auto_arm = declare("auto_arm", False, "arm at the start; only where simulation is true")
        alone = declare("alone", False, "move this arm although the robot's other arms have no controller running")
        if auto_arm and not simulation:
            raise ContractError("auto_arm is true but simulation is not: a real arm is armed by an operator")
        joining = self._choice("joining", tuple(RULES), "how a new chunk takes over: splice, rtc, ensemble")
        when_late = self._choice("when_late", WHEN_LATE, "while no new chunk has come: hold at the end, or slow down")
        name = declare("driver", "", "name of the arm driver")
        driver_options = declare("driver_options", [""], "options of the driver, key=value")
        self._driver = driver or make_driver(name, contract, arm, driver_options)
        self._driver.connect()
        peers = () if alone else tuple(a for a in contract.arms if a != arm.name)
        self.controller = ArmController(
            contract, arm, self._driver, shadow=shadow, peers=peers, joining=joining, when_late=when_late
        )
        self._auto_arm = auto_arm
        self._lock = threading.Lock()
        self._shown: tuple = ()
        self._told_ns = 0
        self._not_armed = self._told_not_armed = ""
        self._ticked = self.create_guard_condition(self._after_tick)
        self._joint_states = self.create_publisher(JointState, "joint_states", SENSOR_PUBLISH)
        self._status = self.create_publisher(ControllerStatus, f"{arm.name}/status", STATUS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.create_subscription(ActionChunk, "policy/action_chunk", self._on_chunk, CHUNK)
        self.create_subscription(PolicyStatus, "policy/status", self._on_policy, STATUS)
        for peer in peers:
            self.create_subscription(ControllerStatus, f"{peer}/status", self._on_peer, STATUS)
        core = self.controller
        verbs: dict[str, Callable[[], None]] = {
            "arm": core.arm,
            "disarm": core.disarm,
            "stop": lambda: core.state.stop("stopped by the operator"),
            "pause": core.state.pause,
            "resume": core.state.resume,
            "hand_guide": self._hand_guide,
            "home": lambda: core.move_to("home"),
            "park": lambda: core.move_to("rest"),
            "clear_fault": core.clear_fault,
        }
        for verb, action in verbs.items():
            self.create_service(Trigger, f"{arm.name}/{verb}", partial(self._operate, verb, action))
        self.create_timer(STATUS_PERIOD, self._publish_status)
        self.create_timer(1.0, self._publish_diagnostics)
        self._loop = SetpointLoop(core.period, self._tick)
        self._loop.start()
        self.get_logger().info(f"arm {arm.name!r}: {contract.setpoint_hz:g} setpoints a second, shadow {shadow}")

    def _declare(self, name: str, default: Any, description: str) -> Any:
        return self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True)).value

    def _choice(self, name: str, allowed: tuple[str, ...], description: str) -> str:
        value = self._declare(name, allowed[0], description)
        if value not in allowed:
            raise ContractError(f"parameter {name} is {value!r}; it must be one of {', '.join(allowed)}")
        return value

    @property
    def loop_error(self) -> Exception | None:
        """Why the setpoint loop ended by itself; None while it runs."""
        return self._loop.error

    # --- setpoint thread ----------------------------------------------------------------------------------------------
    def _tick(self) -> None:
        with self._lock:
            try:
                self.controller.tick(time.monotonic_ns(), self.get_clock().now().nanoseconds)
            except Exception as error:    # a defect of ours must hold the arm, not end the loop
                self.controller.state.fail(Fault.INTERNAL, f"the controller failed in itself: {error!r}")
            if self._auto_arm:
                self._try_arm()
        self._ticked.trigger()

    def _try_arm(self) -> None:
        try:
            self.controller.arm()
            self._auto_arm = False
        except Refused as refused:    # e.g. before the other arm's controller was heard; tried again at the next tick
            self._not_armed = str(refused)

    # --- executor thread ----------------------------------------------------------------------------------------------
    def _after_tick(self) -> None:
        """Tells what the last tick did; no publishing and no logging stand on the setpoint path."""
        with self._lock:
            measured, changed = self.controller.measured, self._changed()
        if measured is not None and measured.stamp_ns != self._told_ns:
            self._told_ns = measured.stamp_ns
            self._joint_states.publish(joint_state_message(self.controller.arm_spec.joints, measured))
        if changed:
            self._publish_status()

    def _changed(self) -> bool:
        """Whether what a watcher acts on has changed; a new state is logged with its reason."""
        state, counters = self.controller.state, self.controller.counters
        shown = (state.state, state.paused, state.fault, counters.accepted, counters.refused)
        if self._not_armed != self._told_not_armed:
            self._told_not_armed = self._not_armed
            self.get_logger().warning(f"auto_arm waits: {self._not_armed}")
        if shown == self._shown:
            return False
        if shown[:1] != self._shown[:1]:
            text = f"{state.state.name.lower()}: {self.controller.reason}"
            # rclpy ties a line of code to one severity, so these are two.
            if state.state == State.FAULT:
                self.get_logger().error(text)
            else:
                self.get_logger().info(text)
        self._shown = shown
        return True

    def _on_chunk(self, message: ActionChunk) -> None:
        chunk = chunk_of(message)
        with self._lock:
            refused = self.controller.accept(chunk, time.monotonic(), self.get_clock().now().nanoseconds / 1e9)
        if refused:
            self.get_logger().warning(f"refused {refused}", throttle_duration_sec=1.0)

    def _on_policy(self, message: PolicyStatus) -> None:
        with self._lock:
            self.controller.hear_policy(message.process_id, message.episode_id, time.monotonic())

    def _on_peer(self, message: ControllerStatus) -> None:
        known = message.state in State.__members__.values()
        state, text = (State(message.state), message.fault_text) if known else (State.FAULT, "its state is unknown")
        with self._lock:
            self.controller.hear_peer(
                message.header.frame_id, state, text, message.refused_chunks, time.monotonic()
            )

    def _operate(
        self, verb: str, action: Callable[[], None], _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        with self._lock:
            try:
                action()
                response.success, response.message = True, self.controller.state.reason
            except Refused as refused:
                response.success, response.message = False, str(refused)
        self.get_logger().info(f"{verb}: {response.message}")
        return response

    def _hand_guide(self) -> None:
        raise Refused("this driver offers no hand guiding; disarm, or park and switch the arm off")

    def _publish_status(self) -> None:
        with self._lock:
            message = status_message(self.controller, self.get_clock().now().to_msg())
        self._status.publish(message)

    def _publish_diagnostics(self) -> None:
        with self._lock:
            message = diagnostics_message(self.controller, self.get_clock().now().to_msg())
        self._diagnostics.publish(message)

    def close(self) -> None:
        """Brings the arm to rest, then lets go of it."""
        with self._lock:
            if self.controller.state.state == State.FOLLOWING:
                self.controller.state.stop("the controller is being ended")
        deadline = time.monotonic() + STOP_PATIENCE
        while not self.controller.at_rest and time.monotonic() < deadline:
            time.sleep(self.controller.period)
        self._publish_status()
        self._loop.close()
        self._driver.close()


def main() -> int:
    """Runs the node until SIGINT or SIGTERM. Whatever ends it, the arm comes to rest first."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    # Until the driver is connected, which may take long, a signal simply ends the process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        node = ArmControllerNode()
    except KeyboardInterrupt:
        rclpy.try_shutdown()
        return 0
    except (ContractError, DriverError, ParameterException) as error:
        print(f"error: arm_controller: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ended = ""
    try:
        while not stop.is_set() and node.loop_error is None:
            executor.spin_once(timeout_sec=0.2)
        if node.loop_error is not None:
            ended = f"the setpoint loop ended: {node.loop_error!r}"
    except ExternalShutdownException:
        pass
    except Exception as error:    # a defect in a callback
        ended = f"a callback failed: {error!r}"
    if ended:
        print(f"error: arm_controller: {ended}", file=sys.stderr)
    node.close()
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if ended else 0


if __name__ == "__main__":
    sys.exit(main())
