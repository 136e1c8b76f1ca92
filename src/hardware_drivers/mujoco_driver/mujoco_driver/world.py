# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated world: physics in real time, in a thread of its own. No ROS here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import mujoco
import numpy as np

from molmoact2_contract import Contract

from .bus import Servo, WorldState
from .scene import Scene, place_cubes
from .variation import apply_variation

BATCH = 3              # physics steps between two wake-ups
MOST_CATCH_UP = 10     # batches made up for after a delay; what is older is dropped, and counted
SETTLE_STEPS = 150     # for the cubes to come to rest before the world is shown


def home_of(contract: Contract, scene: Scene) -> dict[str, float]:
    """The contract's home pose in the scene's angles [rad]: a gripper's 0 .. 1 spans its joint's range."""
    home = {}
    for name in scene.joints:
        joint = contract.joints.get(name)
        if joint is None:
            continue
        low, high = scene.model.joint(name).range
        home[name] = low + joint.home * (high - low) if joint.is_gripper else joint.home
    return home


class World:
    """Physics of one scene, paced by the steady clock; also the plant behind the servo bus.

    home: joint positions [rad] at the start. ros_now: ROS time in ns, the clock that stamps states.
    """

    def __init__(self, scene: Scene, home: Mapping[str, float], seed: int, ros_now: Callable[[], int] = time.time_ns):
        self.scene, self.seed, self._ros_now = scene, seed, ros_now
        self._data = mujoco.MjData(scene.model)
        self._positions = np.array([scene.model.joint(j).qposadr[0] for j in scene.joints])
        self._dofs = np.array([scene.model.joint(j).dofadr[0] for j in scene.joints])
        self._yielding = np.zeros(len(scene.joints), dtype=bool)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.servos = [Servo(j, *map(float, scene.model.actuator_ctrlrange[i])) for i, j in enumerate(scene.joints)]
        self._home = np.array([home.get(s.name, 0.0) for s in self.servos])
        self.begin(seed)
        self.dropped_seconds = 0.0
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._guarded, name="physics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:    # ends the process, which watches for it
            self.error = error

    def _run(self) -> None:
        batch_time = BATCH * self.scene.model.opt.timestep
        due = time.monotonic()
        while not self._stop.is_set():
            behind = time.monotonic() - due
            if behind < 0:
                self._stop.wait(-behind)
                continue
            if behind > MOST_CATCH_UP * batch_time:
                self.dropped_seconds += behind
                due += behind
            self.advance(BATCH)
            due += batch_time

    def advance(self, steps: int) -> None:
        """Makes physics steps; in real time the thread does."""
        with self._lock:
            if self._yielding.any():
                for _ in range(steps):
                    self._yield()
                    mujoco.mj_step(self.scene.model, self._data)
            else:
                mujoco.mj_step(self.scene.model, self._data, steps)
            self._stamp_ns = self._ros_now()

    def _yield(self) -> None:
        """Guided servos want to be where they are, and their joints carry the weight of their links; the damping and
        the friction of the joints are the model's."""
        at = self._data.qpos[self._positions]
        self._data.ctrl[self._yielding] = at[self._yielding]
        dofs = self._dofs[self._yielding]
        # Less what the model carries by itself (gravcomp).
        self._data.qfrc_applied[dofs] = self._data.qfrc_bias[dofs] - self._data.qfrc_gravcomp[dofs]

    # --- plant behind the bus -----------------------------------------------------------------------------------------
    def read(self) -> tuple[int, np.ndarray]:
        with self._lock:
            return self._stamp_ns, self._data.qpos[self._positions].copy()

    def set_goal(self, index: int, goal: float) -> None:
        with self._lock:
            self._yielding[index] = False
            self._data.qfrc_applied[self._dofs[index]] = 0.0
            self._data.ctrl[index] = goal

    def guide(self, index: int) -> None:
        with self._lock:
            self._yielding[index] = True

    def state(self) -> WorldState:
        with self._lock:
            return WorldState(self._stamp_ns, self.scene.name, self.seed, self._data.qpos.copy())

    # --- for the operator ---------------------------------------------------------------------------------------------
    def begin(self, seed: int) -> None:
        """Everything as it is at a start with that seed, the arm too."""
        with self._lock:
            self.seed = seed
            apply_variation(self.scene, seed)
            mujoco.mj_resetData(self.scene.model, self._data)
            self._yielding[:] = False
            self._data.qpos[self._positions] = self._data.ctrl[:] = self._home
            place_cubes(self.scene, self._data, seed)
            mujoco.mj_step(self.scene.model, self._data, SETTLE_STEPS)
            self._stamp_ns = self._ros_now()

    def reset(self) -> int:
        """Places the cubes anew with the next seed, which is returned; the arm stays as it is."""
        with self._lock:
            self.seed += 1
            apply_variation(self.scene, self.seed)
            place_cubes(self.scene, self._data, self.seed)
            mujoco.mj_forward(self.scene.model, self._data)
            return self.seed
