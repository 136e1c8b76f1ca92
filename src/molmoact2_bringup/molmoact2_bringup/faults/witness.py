# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A witness of the simulated arm: what its servos were told and where it was, by the world and no controller."""

from __future__ import annotations

import threading
import time

import numpy as np

from molmoact2_contract import Arm, Contract
from mujoco_driver.bus import BusClient, BusError, default_address
from mujoco_driver.scene import build

from .judgement import Judge, Trace

PERIOD, TIMEOUT, PATIENCE = 0.01, 0.5, 20.0    # [s]
LOOK = 2.0      # [s] that it takes to see the arm at most


class Witness:
    """Watches one arm of the simulated world until closed. goals: whether its servos are told the arm's setpoints;
    where they only show where a double is, those are not judged. timely: they arrive as they are sent."""

    def __init__(self, contract: Contract, arm: Arm, goals: bool = True, timely: bool = True):
        self._arm, self._judge, self._goals = arm, Judge(contract, arm, timely), goals
        self._grippers = np.array([contract.joints[joint].is_gripper for joint in arm.joints])
        self._seen: list[tuple[float, np.ndarray]] = []
        self._told: list[tuple[float, np.ndarray]] = []
        self._heard_ns = time.monotonic_ns()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._servos: list[int] = []
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

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
        state, writes = bus.state(), bus.history(self._heard_ns) if self._goals else []
        with self._lock:
            self._seen.append((state.stamp_ns / 1e9, self._in_ros_units(state.qpos[self._columns])))
            for write in writes:
                self._heard_ns = write.steady_ns
                given = np.array([write.goals.get(servo, np.nan) for servo in self._servos])
                self._latest = np.where(np.isfinite(given), given, self._latest)
                if np.isfinite(given).any() and np.isfinite(self._latest).all():
                    self._told.append((write.steady_ns / 1e9, self._in_ros_units(self._latest)))

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
            self._heard_ns = time.monotonic_ns()
        if not self.wait(PATIENCE):
            raise RuntimeError(f"the simulated world has not shown its arm for {PATIENCE:g} s")

    def motion_error(self, cut_off: bool, falls: bool = False) -> str:
        """Which promise the arm or its setpoints broke since this was last asked; empty where none. cut_off: setpoints
        could not but end at speed; falls: the arm's own motion is not judged."""
        self.wait(LOOK)
        with self._lock:
            seen, told = Trace.of(self._seen), Trace.of(self._told)
            # What lies across two rows is judged with the second.
            self._seen = [s for s in self._seen if s[0] > self._seen[-1][0] - self._judge.memory]
            self._told = [s for s in self._told if s[0] > self._told[-1][0] - self._judge.memory]
        if len(seen.times) < 2:
            return "the arm was not seen"
        return ("" if falls else self._judge.arm(seen)) or self._judge.setpoints(told, time.monotonic(), cut_off)

    def moved(self, seconds: float) -> float:
        """How far any joint has moved in the last so many seconds [ROS units]."""
        with self._lock:
            seen = [p for t, p in self._seen if t > self._seen[-1][0] - seconds]
        return float(np.ptp(np.array(seen), axis=0).max()) if seen else np.inf

    def _in_ros_units(self, positions: np.ndarray) -> np.ndarray:
        low, high = self._ranges.T
        return np.where(self._grippers, (positions - low) / (high - low), positions)
