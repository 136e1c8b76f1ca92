# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Witnesses of an arm: where it was and what it was told, by the simulated world or a double, and by no controller."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod

import numpy as np
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from molmoact2_contract import Arm, Contract
from mujoco_driver.bus import BusClient, BusError, default_address
from mujoco_driver.double_node import TRAIL
from mujoco_driver.scene import build

from .judgement import BUS_SPAN, CATCHING_UP, LATE, SPEED, Judge, Trace

PERIOD, TIMEOUT, PATIENCE = 0.01, 0.5, 20.0    # [s]
LOOK = 2.0      # [s] that it takes to see the arm at most
STALE = 1.0     # [s] without news after which nothing is known of an arm


class Witness:
    """Of one arm, until closed. braking: whether the arm itself is judged by how it comes to rest. Setpoints are told
    on the steady clock, and the arm is seen on one of its own."""

    def __init__(self, arm: Arm, contract: Contract, judge: Judge, braking: bool):
        self._arm, self._judge, self._braking = arm, judge, braking
        self._acceleration = contract.values("acceleration", arm.joints)
        self._seen: list[tuple[float, np.ndarray]] = []
        self._told: list[tuple[float, np.ndarray]] = []
        self._lock = threading.Lock()

    @abstractmethod
    def close(self) -> None: ...

    def wait(self, patience: float) -> bool:
        """Whether the arm is seen to go on, within so many seconds."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with self._lock:
                if len(self._seen) > 1:
                    return True
            time.sleep(PERIOD)
        return False

    def look_anew(self) -> None:
        """Forgets what was seen and told, and sees the arm again. Errors: RuntimeError."""
        with self._lock:
            self._seen.clear()
            self._told.clear()
        if not self.wait(PATIENCE):
            raise RuntimeError(f"arm {self._arm.name!r} has not been seen for {PATIENCE:g} s")

    def forget_told(self) -> None:
        """What was told until now was no motion: an arm that is armed is told where it is."""
        with self._lock:
            self._told.clear()

    def motion_error(self, cut_off: bool, falls: bool = False, timely: bool = True) -> str:
        """Which promise the arm or its setpoints broke since this was last asked; empty where none. cut_off: setpoints
        could not but end at speed; falls: the arm's own motion is not judged; timely: setpoints came as they were
        sent."""
        self.wait(LOOK)
        with self._lock:
            seen, told = Trace.of(self._seen), Trace.of(self._told)
            # What lies across two rows is judged with the second.
            self._seen = [s for s in self._seen if s[0] > self._seen[-1][0] - self._judge.memory]
            self._told = [s for s in self._told if s[0] > self._told[-1][0] - self._judge.memory]
        if len(seen.times) < 2:
            return "the arm was not seen"
        own = "" if falls else self._judge.arm(seen, self._braking and not cut_off)
        return own or self._judge.setpoints(told, time.monotonic(), cut_off, timely)

    def moved(self, seconds: float) -> float:
        """How far any joint has moved in the last so many seconds [ROS units]."""
        with self._lock:
            seen = [p for t, p in self._seen if t > self._seen[-1][0] - seconds]
        return float(np.ptp(np.array(seen), axis=0).max()) if seen else np.inf

    def brakes_for(self) -> float:
        """How long the joint that would take longest to come to rest would take at its limit of acceleration [s]."""
        with self._lock:
            seen = [s for s in self._seen if s[0] >= self._seen[-1][0] - BUS_SPAN]
        if len(seen) < 2:
            return 0.0
        (first, before), (last, after) = seen[0], seen[-1]
        return float((np.abs(after - before) / (last - first) / self._acceleration).max())


class WorldsWitness(Witness):
    """Asks the simulated world, on the steady clock. bus: whether its servos hear of setpoints over a driver's bus."""

    def __init__(self, contract: Contract, arm: Arm, bus: bool = False):
        judge = Judge(contract, arm, BUS_SPAN, SPEED, LATE) if bus else Judge(contract, arm)
        super().__init__(arm, contract, judge, braking=False)
        self._grippers = np.array([contract.joints[joint].is_gripper for joint in arm.joints])
        self._heard_ns = time.monotonic_ns()
        self._closed = threading.Event()
        self._servos: list[int] = []
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def look_anew(self) -> None:
        self._heard_ns = time.monotonic_ns()
        super().look_anew()

    def _watch(self) -> None:
        bus: BusClient | None = None
        while not self._closed.wait(PERIOD):
            try:
                if bus is None or bus.closed:
                    bus = BusClient(default_address(), TIMEOUT)
                if not self._servos:
                    self._identify(bus)
                self._listen(bus)
            except BusError:    # the world is being started, or stands still
                continue
        if bus is not None:
            bus.close()

    def _identify(self, bus: BusClient) -> None:
        servos = {servo.name: index for index, servo in enumerate(bus.identify())}
        model = build(bus.state().scene).model
        self._columns = np.array([model.joint(joint).qposadr[0] for joint in self._arm.joints])
        self._ranges = np.array([model.joint(joint).range for joint in self._arm.joints])
        self._servos = [servos[joint] for joint in self._arm.joints]
        self._latest = np.full(len(self._servos), np.nan)    # the newest goal of each servo

    def _listen(self, bus: BusClient) -> None:
        state, writes = bus.state(), bus.history(self._heard_ns)
        with self._lock:
            self._seen.append((state.stamp_ns / 1e9, self._in_ros_units(state.qpos[self._columns])))
            for write in writes:
                self._heard_ns = write.steady_ns
                given = np.array([write.goals.get(servo, np.nan) for servo in self._servos])
                self._latest = np.where(np.isfinite(given), given, self._latest)
                if np.isfinite(given).any() and np.isfinite(self._latest).all():
                    self._told.append((write.steady_ns / 1e9, self._in_ros_units(self._latest)))

    def _in_ros_units(self, positions: np.ndarray) -> np.ndarray:
        low, high = self._ranges.T
        return np.where(self._grippers, (positions - low) / (high - low), positions)


class DoublesWitness(Witness):
    """Hears what a double tells of its arm (double_node.py). double: the name of its node, which `node` hears. One that
    is told torques, and no goals, is judged by how its arm moves alone."""

    def __init__(self, contract: Contract, arm: Arm, node: Node, double: str):
        super().__init__(arm, contract, Judge(contract, arm, BUS_SPAN, CATCHING_UP, LATE), braking=True)
        self._node, self._heard = node, 0.0    # steady clock [s]
        self._subscriptions = [
            node.create_subscription(JointTrajectory, f"{double}/seen", self._on_seen, TRAIL),
            node.create_subscription(JointTrajectory, f"{double}/told", self._on_told, TRAIL),
        ]

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_seen(self, message: JointTrajectory) -> None:
        with self._lock:
            self._seen += _samples(message)
            self._heard = time.monotonic()

    def _on_told(self, message: JointTrajectory) -> None:
        with self._lock:
            self._told += _samples(message)

    def moved(self, seconds: float) -> float:
        return super().moved(seconds) if time.monotonic() - self._heard < STALE else np.inf


def _samples(message: JointTrajectory) -> list[tuple[float, np.ndarray]]:
    return [
        (point.time_from_start.sec + point.time_from_start.nanosec / 1e9, np.array(point.positions))
        for point in message.points
    ]
