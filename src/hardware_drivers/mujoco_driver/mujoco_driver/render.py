# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the world's cameras see, drawn from the state that its bus shows. No ROS here."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

# Before mujoco is imported: without a display EGL renders off-screen, and one thread of the software renderer leaves
# the other cores to the controllers.
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")

import mujoco
import numpy as np

from .bus import BusClient, BusError, WorldState
from .scene import Scene, SceneError, build
from .variation import apply_variation

TIMEOUT = 1.0    # [s]; of one answer of the bus


@dataclass(frozen=True)
class Frame:
    """What every camera of the scene sees in one state. images: RGB, uint8 (height, width, 3), by camera; fovy:
    vertical field of view [rad], by camera."""

    state: WorldState
    images: dict[str, np.ndarray]
    fovy: dict[str, float]


class Eyes:
    """All cameras of one scene. An OpenGL context belongs to the thread that made it: one thread makes, uses and closes
    this. size: (height, width) of the images. depth_every: depth of every so many rows and columns; 0: no depth."""

    def __init__(self, scene: Scene, size: tuple[int, int], depth_every: int = 0):
        self._scene, self.size, self._depth_every = scene, size, depth_every
        self._renderer = mujoco.Renderer(scene.model, *size)

    def close(self) -> None:
        self._renderer.close()

    def look(self, data: mujoco.MjData) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Images, RGB uint8 (height, width, 3), and depth along the optical axis, float32 (h, w) [m], by camera; depth
        of the first camera only. data: with where its cameras and lights are."""
        images = {camera: self._image(data, camera) for camera in self._scene.cameras}
        if not self._depth_every:
            return images, {}
        main = self._scene.cameras[0]
        self._renderer.enable_depth_rendering()
        self._renderer.update_scene(data, main)
        depth = self._renderer.render()[:: self._depth_every, :: self._depth_every].copy()
        self._renderer.disable_depth_rendering()
        return images, {main: depth}

    def _image(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        self._renderer.update_scene(data, camera)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0
        return self._renderer.render().copy()


class Renderer:
    """Draws the states of one scene."""

    def __init__(self, scene: Scene, width: int, height: int):
        self.scene = scene
        self._data = mujoco.MjData(scene.model)
        self._eyes = Eyes(scene, (height, width))
        self._fovy = {camera: math.radians(float(scene.model.camera(camera).fovy[0])) for camera in scene.cameras}

    def close(self) -> None:
        self._eyes.close()

    def draw(self, state: WorldState) -> Frame:
        """Errors: SceneError for a state of another model."""
        if len(state.qpos) != len(self._data.qpos):
            raise SceneError(
                f"the world's scene {state.scene} has {len(state.qpos)} positions and the one here has "
                f"{len(self._data.qpos)}; start both from the same installation"
            )
        apply_variation(self.scene, state.seed)
        self._data.qpos[:] = state.qpos
        mujoco.mj_kinematics(self.scene.model, self._data)
        mujoco.mj_camlight(self.scene.model, self._data)
        return Frame(state, self._eyes.look(self._data)[0], self._fovy)


class Viewer:
    """Looks at a world at a steady rate, in one thread of its own.

    deliver: called in it with each frame; a state is drawn once. patience: how long to wait for the world to appear
    [s]; one that was seen and went away is waited for without end.
    """

    def __init__(
        self, address: str, width: int, height: int, rate: float, deliver: Callable[[Frame], None],
        patience: float = 30.0,
    ):
        self._address, self._width, self._height = address, width, height
        self._period, self._deliver, self._patience = 1.0 / rate, deliver, patience
        self._bus: BusClient | None = None
        self._renderer: Renderer | None = None
        self._stop = threading.Event()
        self.frames = 0
        self.trouble = f"waits for the simulated world at {address}"    # why nothing is seen now; empty while it is
        self.error: Exception | None = None                             # why nothing will be seen any more
        self._thread = threading.Thread(target=self._guarded, name="render", daemon=True)

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
        finally:
            if self._renderer is not None:
                self._renderer.close()
            if self._bus is not None:
                self._bus.close()

    def _run(self) -> None:
        give_up, last = time.monotonic() + self._patience, 0
        due = time.monotonic()
        while not self._stop.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + self._period, time.monotonic())
            try:
                state = self._look()
            except BusError as error:
                if not self.frames and time.monotonic() > give_up:
                    raise
                self.trouble = str(error)
                continue
            self.trouble = ""
            if state.stamp_ns == last:
                continue
            last = state.stamp_ns
            self._deliver(self._renderer_of(state.scene).draw(state))
            self.frames += 1

    def _look(self) -> WorldState:
        if self._bus is None or self._bus.closed:
            self._bus = BusClient(self._address, TIMEOUT)
        return self._bus.state()

    def _renderer_of(self, scene: str) -> Renderer:
        """Errors: SceneError for an unknown scene."""
        if self._renderer is None or self._renderer.scene.name != scene:
            if self._renderer is not None:
                self._renderer.close()
            self._renderer = None
            self._renderer = Renderer(build(scene), self._width, self._height)
        return self._renderer
