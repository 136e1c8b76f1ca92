# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A witness of the simulated arm's motion, who asks the world itself and believes no controller."""

from __future__ import annotations

import threading
import time

import numpy as np

from molmoact2_contract import Arm, Contract
from mujoco_driver.bus import BusClient, BusError, default_address
from mujoco_driver.scene import build

PERIOD, TIMEOUT, PATIENCE = 0.01, 0.5, 20.0    # [s]
LOOK = 2.0                     # [s] that it takes to see the arm at most
SLACK = 1.25                   # measured speeds overshoot commanded ones by this much at most
SPAN = 0.05                    # [s] over which a speed is taken


class Witness:
    """Watches one arm of the simulated world until closed."""

    def __init__(self, contract: Contract, arm: Arm):
        self._contract, self._arm = contract, arm
        self._seen: list[tuple[float, np.ndarray]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._columns: np.ndarray | None = None
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
                state = bus.state()
            except BusError:    # the world is being started, or stands still
                continue
            if self._columns is None:
                model = build(state.scene).model
                self._columns = np.array([model.joint(j).qposadr[0] for j in self._arm.joints])
                self._ranges = np.array([model.joint(j).range for j in self._arm.joints])
            with self._lock:
                self._seen.append((state.stamp_ns / 1e9, state.qpos[self._columns]))
        if bus is not None:
            bus.close()

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
        """Forgets what was seen, and sees the arm again. Errors: RuntimeError."""
        with self._lock:
            self._seen.clear()
        if not self.wait(PATIENCE):
            raise RuntimeError(f"the simulated world has not shown its arm for {PATIENCE:g} s")

    def motion_error(self) -> str:
        """Which limit the arm has left since this was last asked; empty where none."""
        self.wait(LOOK)
        with self._lock:
            seen, self._seen = self._seen, self._seen[-1:]
        if len(seen) < 2:
            return "the arm was not seen"
        times, positions = np.array([t for t, _ in seen]), self._in_ros_units(np.array([p for _, p in seen]))
        joints = self._arm.joints
        lower, upper, margin = (self._contract.values(name, joints) for name in ("lower", "upper", "tracking"))
        if (positions < lower - margin).any() or (positions > upper + margin).any():
            return "a joint left its position limits"
        apart = np.searchsorted(times, times + SPAN)
        inside = apart < len(times)
        if not inside.any():
            return ""
        span = (times[apart[inside]] - times[inside])[:, None]
        speed = np.abs(positions[apart[inside]] - positions[inside]) / span
        if (speed > SLACK * self._contract.values("velocity", joints)).any():
            return f"a joint moved at {speed.max():.2f} per second"
        return ""

    def moved(self, seconds: float) -> float:
        """How far any joint has moved in the last so many seconds [ROS units]."""
        with self._lock:
            seen = [(t, p) for t, p in self._seen if t > self._seen[-1][0] - seconds]
        return float(np.ptp(self._in_ros_units(np.array([p for _, p in seen])), axis=0).max()) if seen else np.inf

    def _in_ros_units(self, positions: np.ndarray) -> np.ndarray:
        low, high = self._ranges.T
        gripper = np.array([self._contract.joints[j].is_gripper for j in self._arm.joints])
        return np.where(gripper, (positions - low) / (high - low), positions)
