# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The bridge: a process with a ROS node between a driver and a joint_trajectory_controller.

A process of its own, because rclpy holds Python's lock while the middleware works, and setpoints must not wait for
that. Where the driver's process ends, this one ends, and the controller of the other system holds its last point. By a
signal it does not end: the driver's process goes on until the arm is at rest, and needs it for that.
"""

from __future__ import annotations

import math
import pickle
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from molmoact2_contract.qos import SENSOR_SUBSCRIBE

from .topic_sink import TopicSink
from .wire import ACTION, PACKET, TOPIC, Goal, Measured, Plan, Ready, Trouble, receive, send

if TYPE_CHECKING:
    from .action_sink import ActionSink

WATCH = 0.2          # [s] between two looks at who is there
UNKNOWN = "_NODE_NAME_UNKNOWN_"    # rclpy's, of who is not wholly discovered
CLOCKS_APART = 0.05  # [s] that the stamps of joint states may differ from this machine's clock, at the start
FRESH = 0.5          # [s]; older joint states are none, at the start
OURS = "arm_controller"


class Bridge(Node):
    """trouble: why it cannot go on; empty while it can."""

    def __init__(self, plan: Plan, driver: socket.socket):
        super().__init__("ros2_control_bridge")
        self._plan, self._driver = plan, driver
        self._values: dict[str, tuple[float, int]] = {}    # position and stamp [ns] by joint
        self.trouble = ""
        self._sinks = self._make_sinks()
        self._sink, self._opened = self._sinks[0], False
        self.create_subscription(JointState, plan.states, self._on_states, SENSOR_SUBSCRIBE)
        self.create_timer(WATCH, self._watch)
        self._deadline = time.monotonic() + plan.patience
        self._ready, self._well_since = False, 0.0

    def _make_sinks(self) -> list[TopicSink | ActionSink]:
        """The ways that may be taken, the one to be preferred first."""
        topic = TopicSink(self, self._plan)
        if self._plan.via == TOPIC:
            return [topic]
        try:
            from .action_sink import ActionSink
        except ImportError as error:
            if self._plan.via == ACTION:
                self._end(f"via=action needs the package control_msgs, which does not load ({error}); install it anew")
            return [topic]
        action = ActionSink(self, self._plan, self._end)
        return [action] if self._plan.via == ACTION else [topic, action]

    # --- states -------------------------------------------------------------------------------------------------------
    def _on_states(self, message: JointState) -> None:
        stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        if len(message.position) != len(message.name):
            return    # it carries no positions, e.g. only efforts
        for name, position in zip(message.name, message.position, strict=True):
            if name in self._plan.joints:
                self._values[name] = (position, stamp)
        if len(self._values) == len(self._plan.joints) and self._ready:
            send(self._driver, self._measured())

    def _measured(self) -> Measured:
        values = [self._values[name] for name in self._plan.joints]
        return Measured(tuple(v for v, _ in values), min(stamp for _, stamp in values))

    # --- who is there -------------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        if not self._opened:
            self._sink = next((sink for sink in self._sinks if not sink.missing()), self._sinks[0])
        now, error = time.monotonic(), self._sink.rival() or self._other_system_error()
        self._well_since = 0.0 if error else self._well_since or now
        if error and (self._ready or now > self._deadline):
            self._end(error)
        elif not error and not self._ready and now - self._well_since > self._plan.settled:
            self._begin()

    def _begin(self) -> None:
        """Only who has found that nobody else is there begins to speak: of two programs the second withdraws."""
        self._opened = True
        if self._sink.open():
            self._ready = True
            send(self._driver, self._measured())
            send(self._driver, Ready())

    def _other_system_error(self) -> str:
        """What is wrong with the other system; empty where nothing is."""
        missing = self._sink.missing()
        if missing:
            return missing
        publishers = [i.node_name for i in self.get_publishers_info_by_topic(self._plan.states)]
        if OURS in publishers:
            return (
                f"{self._plan.states} is also what the suite's own {OURS} publishes; give that another name in the "
                "system file (remap: {joint_states: molmoact2/joint_states}, for the policy too)"
            )
        if self._ready:
            return ""
        return f"who publishes {self._plan.states} is not known yet" if UNKNOWN in publishers else self._states_error()

    def _states_error(self) -> str:
        plan = self._plan
        missing = [name for name in plan.joints if name not in self._values]
        if missing:
            came = ", ".join(sorted(self._values)) or "none of the arm's joints"
            return (
                f"{plan.states} says nothing of {', '.join(missing)} (it says of {came}); start the "
                "joint_state_broadcaster, or name the other system's joints with the option joints"
            )
        measured = self._measured()
        bad = [n for n, p in zip(plan.joints, measured.positions, strict=True) if not math.isfinite(p)]
        if bad:
            return f"the position of {bad[0]} on {plan.states} is not a number; is its hardware connected?"
        age = (time.time_ns() - measured.stamp_ns) / 1e9
        if age < -CLOCKS_APART or age > FRESH:
            return (
                f"the joint states are {age:+.3f} s old by this machine's clock; they stand still, or the clocks of "
                "the two machines differ (chrony): goals would be taken for past ones"
            )
        return ""

    # --- goals --------------------------------------------------------------------------------------------------------
    @property
    def takes_all(self) -> bool:
        """Whether each goal counts, and not the newest alone."""
        return self._sink.takes_all

    def go(self, goal: Goal) -> None:
        """From any thread."""
        self._sink.go(goal)

    def _end(self, text: str) -> None:
        if not self.trouble:
            self.trouble = text
            send(self._driver, Trouble(text))


def _take_goals(bridge: Bridge, driver: socket.socket, ended: threading.Event) -> None:
    """In a thread: waits for the driver. Of goals that wait on a topic only the newest counts; a path has them all."""
    while True:
        try:
            packet = driver.recv(PACKET)
            goals = [pickle.loads(packet)] if packet else []
            while packet and (newer := receive(driver)) is not None:
                goals = [*goals, newer] if bridge.takes_all else [newer]
        except (OSError, EOFError):
            goals = []
        if not goals:
            ended.set()
            return
        for goal in goals if not bridge.trouble else ():
            bridge.go(goal)


def main() -> int:
    driver = socket.socket(fileno=int(sys.argv[1]))
    plan: Plan = pickle.loads(bytes.fromhex(sys.argv[2]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)    # its own would end this process
    bridge = Bridge(plan, driver)
    ended = threading.Event()
    threading.Thread(target=_take_goals, args=(bridge, driver, ended), daemon=True).start()
    executor = SingleThreadedExecutor()
    executor.add_node(bridge)
    while not ended.is_set() and not bridge.trouble:
        executor.spin_once(timeout_sec=0.1)
    bridge.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
