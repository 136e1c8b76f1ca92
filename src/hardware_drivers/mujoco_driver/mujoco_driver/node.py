# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `world`: simulated scene, its cameras as topics, its servos on a bus."""

from __future__ import annotations

import array
import math
import os
import signal
import sys
import threading
from typing import Any

# Before mujoco is imported: without a display EGL renders off-screen, and one thread of the software renderer leaves
# the other cores to the controllers.
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from molmoact2_contract import Camera, Contract, ContractError, load_contract
from molmoact2_contract.qos import DIAGNOSTICS, SENSOR_PUBLISH

from .bus import BusError, BusServer, default_address
from .scene import SceneError, build
from .world import RenderLoop, Snapshot, World

CAMERA_FAULTS = ("ok", "black", "frozen")


def _fixed(description: str, **ranges: list) -> ParameterDescriptor:
    return ParameterDescriptor(description=description, read_only=True, **ranges)


def _pixels(description: str) -> ParameterDescriptor:
    return _fixed(description, integer_range=[IntegerRange(from_value=16, to_value=2048, step=1)])


class WorldNode(Node):
    """Publishes the scene's cameras under the topics of the contract, and serves its servos on a bus."""

    def __init__(self, **options: Any) -> None:
        super().__init__("world", **options)
        declare = self.declare_parameter
        path = declare("contract", "", _fixed("path or name of the embodiment contract")).value
        declare("simulation", True, _fixed("always true: this node is a simulation"))
        scene = declare("scene", "so101_tabletop", _fixed("name of the scene")).value
        seed = declare("seed", 1, _fixed("seed of the scene: where the cubes lie")).value
        address = declare("address", "", _fixed("path of the servo bus's unix socket; empty: the default")).value
        width = declare("image_width", 320, _pixels("width of the images [px]")).value
        self._height = declare("image_height", 240, _pixels("height of the images [px]")).value
        rate = declare(
            "camera_rate", 15.0,
            _fixed(
                "images per second and camera",
                floating_point_range=[FloatingPointRange(from_value=0.1, to_value=120.0)],
            ),
        ).value
        self._width, self._rate = width, rate
        self.contract: Contract = load_contract(path)
        self._scene = build(scene)
        self._cameras = [c for name, c in self.contract.cameras.items() if name in self._scene.cameras]
        self._faults = {
            camera.name: declare(
                f"camera_fault.{camera.name}", "ok",
                ParameterDescriptor(description=f"what camera {camera.name} does: {', '.join(CAMERA_FAULTS)}"),
            ).value
            for camera in self._cameras
        }
        self.add_on_set_parameters_callback(self._on_parameters)
        self._last: dict[str, np.ndarray] = {}
        self._image_publishers = {c.name: self.create_publisher(Image, c.topic, SENSOR_PUBLISH) for c in self._cameras}
        self._info_publishers = {
            c.name: self.create_publisher(CameraInfo, c.info_topic, SENSOR_PUBLISH) for c in self._cameras
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.world = World(self._scene, self._home(), seed, lambda: self.get_clock().now().nanoseconds)
        self.render = RenderLoop(self.world, width, self._height, rate, self._publish)
        self.create_service(Trigger, "~/reset", self._reset)
        self.create_timer(1.0, self._diagnose)
        self._frames_before, self._dropped_before = 0, 0.0
        self.world.start()
        self.render.start()
        # Making the renderer keeps Python busy for a while; servos answer once that is over.
        self.render.wait_for_first_frame()
        self.bus = BusServer(self.world, address or default_address(), self.get_logger().warning)
        self.get_logger().info(f"scene {scene}, seed {seed}; servo bus at {self.bus.address}")

    def _home(self) -> dict[str, float]:
        """The contract's home pose in the scene's angles: a gripper's 0 .. 1 spans its joint's range."""
        home = {}
        for name in self._scene.joints:
            joint = self.contract.joints.get(name)
            if joint is None:
                continue
            low, high = self._scene.model.joint(name).range
            home[name] = low + joint.home * (high - low) if joint.is_gripper else joint.home
        return home

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name.startswith("camera_fault."):
                if parameter.value not in CAMERA_FAULTS:
                    return SetParametersResult(
                        successful=False, reason=f"{parameter.name} must be one of {', '.join(CAMERA_FAULTS)}"
                    )
                self._faults[parameter.name.removeprefix("camera_fault.")] = parameter.value
        return SetParametersResult(successful=True)

    # --- cameras (called in the render thread) ------------------------------------------------------------------------
    def _publish(self, snapshot: Snapshot, images: dict[str, np.ndarray]) -> None:
        stamp = Time(sec=snapshot.stamp_ns // 1_000_000_000, nanosec=snapshot.stamp_ns % 1_000_000_000)
        for camera in self._cameras:
            image = self._with_fault(camera.name, images[camera.name])
            self._image_publishers[camera.name].publish(self._image_message(camera, stamp, image))
            self._info_publishers[camera.name].publish(self._info_message(camera, stamp))

    def _with_fault(self, name: str, image: np.ndarray) -> np.ndarray:
        fault = self._faults[name]
        if fault == "black":
            return np.zeros_like(image)
        if fault == "frozen" and name in self._last:
            return self._last[name]
        self._last[name] = image.copy()
        return image

    def _image_message(self, camera: Camera, stamp: Time, image: np.ndarray) -> Image:
        message = Image(height=image.shape[0], width=image.shape[1], encoding="rgb8", step=image.shape[1] * 3)
        message.header.stamp, message.header.frame_id = stamp, camera.frame_id
        # rclpy copies an array.array at once and checks any other sequence byte by byte.
        message.data = array.array("B", image.tobytes())
        return message

    def _info_message(self, camera: Camera, stamp: Time) -> CameraInfo:
        """Pinhole intrinsics of a MuJoCo camera: square pixels, centre in the middle, vertical field of view fovy."""
        fovy = math.radians(float(self._scene.model.camera(camera.name).fovy[0]))
        focal = self._height / 2 / math.tan(fovy / 2)
        x, y = self._width / 2, self._height / 2
        info = CameraInfo(height=self._height, width=self._width, distortion_model="plumb_bob", d=[0.0] * 5)
        info.header.stamp, info.header.frame_id = stamp, camera.frame_id
        info.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
        info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        info.p = [focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0]
        return info

    # --- operator -----------------------------------------------------------------------------------------------------
    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, f"cubes placed anew with seed {self.world.reset()}"
        return response

    def _diagnose(self) -> None:
        frames, self._frames_before = self.render.frames - self._frames_before, self.render.frames
        dropped, self._dropped_before = self.world.dropped_seconds - self._dropped_before, self.world.dropped_seconds
        slow = frames < 0.8 * self._rate or dropped > 0
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if slow else DiagnosticStatus.OK,
            name="world: simulation",
            message="slower than real time" if slow else "in real time",
            hardware_id=self._scene.model.names.split(b"\0", 1)[0].decode() or "mujoco",
            values=[
                KeyValue(key="camera frames in the last second", value=str(frames)),
                KeyValue(key="simulated time dropped so far [s]", value=f"{self.world.dropped_seconds:.3f}"),
            ],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    @property
    def error(self) -> str | None:
        """Why the simulation cannot go on; None while it does."""
        for what, error in (("rendering", self.render.error), ("physics", self.world.error)):
            if error is not None:
                return f"{what} failed: {error!r}"
        return None

    def close(self) -> None:
        self.bus.close()
        self.render.close()
        self.world.close()


def main() -> int:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node = WorldNode()
    except (ContractError, SceneError, BusError, ParameterException) as error:
        print(f"error: world: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set() and node.error is None:
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    node.close()
    if node.error is not None:
        print(f"error: world: {node.error}", file=sys.stderr)
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if node.error is not None else 0
