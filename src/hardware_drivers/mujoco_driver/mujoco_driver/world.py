# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated world in real time: one thread for physics, one for rendering. No ROS here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from .bus import Servo
from .scene import Scene, place_cubes

BATCH = 3              # physics steps between two wake-ups
MOST_CATCH_UP = 10     # batches made up for after a delay; what is older is dropped, and counted
SETTLE_STEPS = 150     # for the cubes to come to rest before the world is shown


@dataclass(frozen=True)
class Snapshot:
    """State of the world at one time. stamp_ns: ROS time; qpos: generalised positions of the whole model."""

    stamp_ns: int
    qpos: np.ndarray


class World:
    """Physics of one scene, paced by the steady clock; also the plant behind the servo bus.

    home: joint positions [rad] at the start. ros_now: ROS time in ns, the clock that stamps states.
    """

    def __init__(self, scene: Scene, home: Mapping[str, float], seed: int, ros_now: Callable[[], int] = time.time_ns):
        self.scene, self.seed, self._ros_now = scene, seed, ros_now
        self._data = mujoco.MjData(scene.model)
        self._positions = np.array([scene.model.joint(j).qposadr[0] for j in scene.joints])
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.servos = [Servo(j, *map(float, scene.model.actuator_ctrlrange[i])) for i, j in enumerate(scene.joints)]
        start = np.array([home.get(s.name, 0.0) for s in self.servos])
        self._data.qpos[self._positions] = start
        self._data.ctrl[:] = start
        place_cubes(scene, self._data, seed)
        mujoco.mj_step(scene.model, self._data, SETTLE_STEPS)
        self._stamp_ns = ros_now()
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
        except Exception as error:    # reported by the node, which ends the process
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
            with self._lock:
                mujoco.mj_step(self.scene.model, self._data, BATCH)
                self._stamp_ns = self._ros_now()
            due += batch_time

    # --- plant behind the bus -----------------------------------------------------------------------------------------
    def read(self) -> tuple[int, np.ndarray]:
        with self._lock:
            return self._stamp_ns, self._data.qpos[self._positions].copy()

    def set_goal(self, index: int, goal: float) -> None:
        with self._lock:
            self._data.ctrl[index] = goal

    # --- for the renderer and the operator ----------------------------------------------------------------------------
    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._stamp_ns, self._data.qpos.copy())

    def reset(self) -> int:
        """Places the cubes anew with the next seed, which is returned; the arm stays as it is."""
        with self._lock:
            self.seed += 1
            place_cubes(self.scene, self._data, self.seed)
            mujoco.mj_forward(self.scene.model, self._data)
            return self.seed


class RenderLoop:
    """Renders every camera of a scene from the same state at a steady rate, in one thread of its own.

    An OpenGL context belongs to the thread that made it, so the renderer lives and dies in that thread.
    deliver: called in it with the snapshot and one RGB uint8 (height, width, 3) image per camera.
    """

    def __init__(
        self, world: World, width: int, height: int, rate: float,
        deliver: Callable[[Snapshot, dict[str, np.ndarray]], None],
    ):
        self._world, self._width, self._height, self._period, self._deliver = world, width, height, 1.0 / rate, deliver
        self._stop = threading.Event()
        self.error: Exception | None = None
        self.frames = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="render", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_for_first_frame(self) -> None:
        """Returns when one set of images was delivered, or rendering failed (see `error`)."""
        self._ready.wait()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:    # reported by the node, which ends the process
            self.error = error
        finally:
            self._ready.set()

    def _run(self) -> None:
        scene = self._world.scene
        data = mujoco.MjData(scene.model)
        renderer = mujoco.Renderer(scene.model, self._height, self._width)
        try:
            due = time.monotonic()
            while not self._stop.is_set():
                wait = due - time.monotonic()
                if wait > 0:
                    self._stop.wait(wait)
                    continue
                due = max(due + self._period, time.monotonic())
                snapshot = self._world.snapshot()
                data.qpos[:] = snapshot.qpos
                mujoco.mj_kinematics(scene.model, data)
                mujoco.mj_camlight(scene.model, data)
                self._deliver(snapshot, {camera: self._image(renderer, data, camera) for camera in scene.cameras})
                self.frames += 1
                self._ready.set()
        finally:
            renderer.close()

    @staticmethod
    def _image(renderer: mujoco.Renderer, data: mujoco.MjData, camera: str) -> np.ndarray:
        renderer.update_scene(data, camera)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0
        return renderer.render()
