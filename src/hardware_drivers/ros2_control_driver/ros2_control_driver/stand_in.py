# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for another system: a joint_trajectory_controller's checks, and joints that go where they are told.

    python -m ros2_control_driver.stand_in joint1 joint2 ... [--controller NAME] [--start 0 0.5 ...] [--interface topic]

What it checks is what joint_trajectory_controller checks (names, order of times, a trajectory that ends in the past,
sizes, a last velocity that is not zero, state tolerance), by its topic, its action or both. It says "ready", then
"took N" (1, 10, 100), or "refused WHY", and by the action also "ended HOW"; and obeys lines: "silence" (no joint
states), "block" (the joints stand still), "stamp S" (clock differs by S seconds), "deactivate" (goals are refused),
"give_up" (the running goal is canceled, as another program could), "ask" (where the joints are), "end".
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

if TYPE_CHECKING:
    from .stand_in_action import Goals

PERIOD = 0.01       # [s]
TOLERANCE = 0.5     # [rad]; a joint that is farther from its trajectory is held


def trajectory_error(message: JointTrajectory, joints: list[str], now: float) -> str:
    """Why a joint_trajectory_controller refuses a trajectory; empty where it takes it. now: ROS time [s]."""
    if sorted(message.joint_names) != sorted(joints):
        return f"joints {list(message.joint_names)} are not the controller's {joints}"
    if not message.points:
        return "it has no points"
    times = [point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in message.points]
    start = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
    if start and start + times[-1] < now:
        return f"it ends {now - start - times[-1]:.3f} s in the past"
    if any(abs(velocity) > 1e-7 for velocity in message.points[-1].velocities):
        return "the velocity of its last point is not zero"
    if any(after <= before for before, after in zip(times, times[1:], strict=False)):
        return "its times do not increase"
    for number, point in enumerate(message.points):
        for what in ("positions", "velocities", "accelerations"):
            values = getattr(point, what)
            if len(values) != len(joints) and (values or what == "positions"):
                return f"point {number} has {len(values)} {what} for {len(joints)} joints"
        if not np.isfinite(point.positions).all():
            return f"point {number} has a position that is not a number"
    return ""


class StandIn(Node):
    """The controller and the joint_state_broadcaster of a system. interface: "topic", "action" or "both"."""

    def __init__(self, controller: str, joints: list[str], start: list[float], interface: str = "topic"):
        super().__init__(controller)
        self._joints = joints
        self._at = np.array(start, dtype=float)
        self._times = np.zeros(1)    # of the running trajectory [s], ROS time
        self._points = self._at[None]
        self.silent = self.blocked = self.inactive = False
        self.clock_off, self.taken = 0.0, 0
        self._states = self.create_publisher(JointState, "/joint_states", 10)
        if interface != "action":
            self.create_subscription(JointTrajectory, f"{controller}/joint_trajectory", self._on_trajectory, 10)
        self._goals: Goals | None = None
        if interface != "topic":
            from .stand_in_action import Goals

            self._goals = Goals(self, controller)
        self.create_timer(PERIOD, self._tick)

    def now(self) -> float:
        """ROS time as this system has it [s]."""
        return time.time() + self.clock_off

    def _on_trajectory(self, message: JointTrajectory) -> None:
        error = self.error_of(message)
        if error:
            print(f"refused {error}", flush=True)
        else:
            self.follow(message)

    def error_of(self, message: JointTrajectory) -> str:
        """Why a trajectory is refused; empty where it is not."""
        return "it is not active" if self.inactive else trajectory_error(message, self._joints, self.now())

    def follow(self, message: JointTrajectory) -> None:
        """Follows it in the place of the one before it, from where that one is now."""
        order = [message.joint_names.index(joint) for joint in self._joints]
        now = self.now()
        start = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9 or now
        times = [start + p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points]
        points = [np.array(point.positions)[order] for point in message.points]
        # What is over when it comes is not gone back to.
        ahead = sum(time <= now for time in times)
        self._points = np.array([self._wanted(now), *points[ahead:]])
        self._times = np.array([now, *times[ahead:]])
        self.taken += 1
        if self.taken in (1, 10, 100):
            print(f"took {self.taken}", flush=True)

    def _wanted(self, now: float) -> np.ndarray:
        return np.array([np.interp(now, self._times, column) for column in self._points.T])

    @property
    def arrived(self) -> bool:
        """Whether the running trajectory is over."""
        return self.now() >= self._times[-1]

    def hold(self) -> None:
        """Stays where the joints are."""
        self._times, self._points = np.array([self.now()]), self._at[None].copy()

    def _tick(self) -> None:
        wanted = self._wanted(self.now())
        if not self.blocked:
            self._at = wanted
        elif np.abs(wanted - self._at).max() > TOLERANCE:
            self.hold()
            print("held state tolerance", flush=True)
            if self._goals is not None:
                self._goals.abort("Aborted due to path tolerance violation")
        if self._goals is not None and self.arrived:
            self._goals.succeed()
        if self.silent:
            return
        message = JointState(name=self._joints, position=self._at.tolist())
        message.header.stamp.sec = int(self.now())
        message.header.stamp.nanosec = int(self.now() % 1 * 1e9)
        self._states.publish(message)

    def obey(self, verb: str, words: list[str]) -> None:
        """Does what a line says."""
        if verb == "stamp":
            self.clock_off = float(words[0])
        elif verb == "give_up" and self._goals is not None:
            self._goals.give_up()
        else:
            self.silent = self.silent or verb == "silence"
            self.blocked = self.blocked or verb == "block"
            self.inactive = self.inactive or verb == "deactivate"

    @property
    def at(self) -> list[float]:
        """Where the joints are."""
        return self._at.tolist()


def main() -> int:
    parser = argparse.ArgumentParser(description="A stand-in for a system that ros2_control runs.")
    parser.add_argument("joints", nargs="+")
    parser.add_argument("--controller", default="joint_trajectory_controller")
    parser.add_argument("--interface", choices=["topic", "action", "both"], default="topic")
    parser.add_argument("--start", nargs="*", type=float, default=None, help="positions at the start (default: 0)")
    args = parser.parse_args()
    rclpy.init(args=[])
    node = StandIn(args.controller, args.joints, args.start or [0.0] * len(args.joints), args.interface)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line.strip())
        lines.put("end")

    threading.Thread(target=listen, daemon=True).start()
    print("ready", flush=True)
    while True:
        executor.spin_once(timeout_sec=0.05)
        while not lines.empty():
            verb, *words = lines.get().split()
            if verb == "end":
                executor.shutdown()
                node.destroy_node()
                rclpy.try_shutdown()    # says goodbye: who is killed is heard of for many seconds yet
                return 0
            if verb == "ask":
                print(f"at {' '.join(map(str, node.at))}", flush=True)
                continue
            node.obey(verb, words)
            print(f"done {verb}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
