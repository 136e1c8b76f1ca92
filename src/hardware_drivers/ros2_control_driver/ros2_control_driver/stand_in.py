# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for another system: a joint_trajectory_controller's checks, and joints that go where they are told.

    python -m ros2_control_driver.stand_in joint1 joint2 ... [--controller NAME] [--start 0 0.5 ...]

What it checks is what joint_trajectory_controller checks (names, order of times, a trajectory that ends in the past,
sizes, a last velocity that is not zero, state tolerance). It says "ready", then "took N" (1, 10, 100) or "refused WHY",
and obeys lines: "silence" (no joint states), "block" (the joints stand still), "stamp S" (clock differs by S seconds),
"ask" (where the joints are), "end".
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

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
    """The controller and the joint_state_broadcaster of a system."""

    def __init__(self, controller: str, joints: list[str], start: list[float]):
        super().__init__(controller)
        self._joints = joints
        self._at = np.array(start, dtype=float)
        self._from, self._goal, self._begin, self._end = self._at.copy(), self._at.copy(), 0.0, 0.0
        self.silent = self.blocked = False
        self.clock_off, self.taken = 0.0, 0
        self._states = self.create_publisher(JointState, "/joint_states", 10)
        self.create_subscription(JointTrajectory, f"{controller}/joint_trajectory", self._on_trajectory, 10)
        self.create_timer(PERIOD, self._tick)

    def _now(self) -> float:
        return time.time() + self.clock_off

    def _on_trajectory(self, message: JointTrajectory) -> None:
        error = trajectory_error(message, self._joints, self._now())
        if error:
            print(f"refused {error}", flush=True)
            return
        point = message.points[-1]
        order = [message.joint_names.index(joint) for joint in self._joints]
        start = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9 or self._now()
        self._from, self._goal = self._wanted(), np.array(point.positions)[order]
        self._begin, self._end = self._now(), start + point.time_from_start.nanosec * 1e-9 + point.time_from_start.sec
        self.taken += 1
        if self.taken in (1, 10, 100):
            print(f"took {self.taken}", flush=True)

    def _wanted(self) -> np.ndarray:
        span = self._end - self._begin
        share = 1.0 if span <= 0 else min(max((self._now() - self._begin) / span, 0.0), 1.0)
        return self._from + share * (self._goal - self._from)

    def _tick(self) -> None:
        wanted = self._wanted()
        if not self.blocked:
            self._at = wanted
        elif np.abs(wanted - self._at).max() > TOLERANCE:
            self._from = self._goal = self._at.copy()
            print("held state tolerance", flush=True)
        if self.silent:
            return
        message = JointState(name=self._joints, position=self._at.tolist())
        message.header.stamp.sec = int(self._now())
        message.header.stamp.nanosec = int(self._now() % 1 * 1e9)
        self._states.publish(message)


def main() -> int:
    parser = argparse.ArgumentParser(description="A stand-in for a system that ros2_control runs.")
    parser.add_argument("joints", nargs="+")
    parser.add_argument("--controller", default="joint_trajectory_controller")
    parser.add_argument("--start", nargs="*", type=float, default=None, help="positions at the start (default: 0)")
    args = parser.parse_args()
    rclpy.init(args=[])
    node = StandIn(args.controller, args.joints, args.start or [0.0] * len(args.joints))
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
                return 0
            if verb == "stamp":
                node.clock_off = float(words[0])
            elif verb == "ask":
                print(f"at {' '.join(str(float(v)) for v in node._at)}", flush=True)
                continue
            else:
                node.silent, node.blocked = node.silent or verb == "silence", node.blocked or verb == "block"
            print(f"done {verb}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
