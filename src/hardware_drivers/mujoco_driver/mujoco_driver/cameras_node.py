# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `cameras`: what the cameras of a simulated world see, as topics. It reads the world over its servo bus."""

from __future__ import annotations

import array
import math
import sys
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image

from arm_controller.running import DriverNode, run_node
from molmoact2_contract import Camera, Contract, load_contract
from molmoact2_contract.qos import DIAGNOSTICS, SENSOR_PUBLISH

from .bus import BusError, default_address
from .nodes import diagnostics, fixed, time_message
from .render import Frame, Viewer

CAMERA_FAULTS = ("ok", "black", "frozen")
SLOW = 0.8    # share of the frames asked for


class CamerasNode(DriverNode):
    """Publishes the contract's cameras as far as the scene has them; nothing while the world is out of reach."""

    def __init__(self, **options: Any) -> None:
        super().__init__("cameras", **options)
        declare = self.declare_parameter
        self.add_on_set_parameters_callback(self._on_parameters)
        path = declare("contract", "", fixed("path or name of the embodiment contract")).value
        declare("simulation", True, fixed("always true: this node is a simulation"))
        address = declare("address", "", fixed("path of the world's unix socket; empty: the default")).value
        pixels = [IntegerRange(from_value=16, to_value=4096, step=1)]
        width = declare("image_width", 320, fixed("width of the images [px]", integer_range=pixels)).value
        height = declare("image_height", 240, fixed("height of the images [px]", integer_range=pixels)).value
        rates = [FloatingPointRange(from_value=0.1, to_value=120.0)]
        self._rate = declare(
            "camera_rate", 15.0, fixed("images per second and camera", floating_point_range=rates)
        ).value
        self.contract: Contract = load_contract(path)
        self._cameras = tuple(self.contract.cameras.values())
        self._faults: dict[str, str] = {}
        for camera in self._cameras:
            text = f"what camera {camera.name} does: {', '.join(CAMERA_FAULTS)}"
            declare(f"camera_fault.{camera.name}", "ok", ParameterDescriptor(description=text))
        self._last: dict[str, np.ndarray] = {}
        self._images = {c.name: self.create_publisher(Image, c.topic, SENSOR_PUBLISH) for c in self._cameras}
        self._infos = {c.name: self.create_publisher(CameraInfo, c.info_topic, SENSOR_PUBLISH) for c in self._cameras}
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.create_timer(1.0, self._diagnose)
        self._frames_before = 0
        self._viewer = Viewer(address or default_address(), width, height, self._rate, self._publish)
        self._viewer.start()

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name.startswith("camera_fault."):
                if parameter.value not in CAMERA_FAULTS:
                    reason = f"{parameter.name} is {parameter.value!r}; it must be one of {', '.join(CAMERA_FAULTS)}"
                    return SetParametersResult(successful=False, reason=reason)
                self._faults[parameter.name.removeprefix("camera_fault.")] = parameter.value
        return SetParametersResult(successful=True)

    # --- called in the viewer's thread --------------------------------------------------------------------------------
    def _publish(self, frame: Frame) -> None:
        stamp = time_message(frame.state.stamp_ns)
        for camera in self._cameras:
            if camera.name in frame.images:
                image = self._with_fault(camera.name, frame.images[camera.name])
                self._images[camera.name].publish(_image_message(camera, stamp, image))
                self._infos[camera.name].publish(_info_message(camera, stamp, image, frame.fovy[camera.name]))

    def _with_fault(self, name: str, image: np.ndarray) -> np.ndarray:
        fault = self._faults[name]
        if fault == "black":
            return np.zeros_like(image)
        if fault == "frozen" and name in self._last:
            return self._last[name]
        self._last[name] = image.copy()
        return image

    # ------------------------------------------------------------------------------------------------------------------
    def _diagnose(self) -> None:
        frames, self._frames_before = self._viewer.frames - self._frames_before, self._viewer.frames
        if self._viewer.trouble:
            level, text = DiagnosticStatus.ERROR, self._viewer.trouble
        elif frames < SLOW * self._rate:
            level, text = DiagnosticStatus.WARN, "fewer images than asked for"
        else:
            level, text = DiagnosticStatus.OK, "in time"
        values = {"frames in the last second": str(frames), "frames asked for": f"{self._rate:g}"}
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics(stamp, level, "cameras: rendering", text, values))

    @property
    def error(self) -> str:
        return "" if self._viewer.error is None else f"rendering failed: {self._viewer.error}"

    def close(self) -> None:
        self._viewer.close()


def _image_message(camera: Camera, stamp: Time, image: np.ndarray) -> Image:
    message = Image(height=image.shape[0], width=image.shape[1], encoding="rgb8", step=image.shape[1] * 3)
    message.header.stamp, message.header.frame_id = stamp, camera.frame_id
    # rclpy copies an array.array at once and checks any other sequence byte by byte.
    message.data = array.array("B", image.tobytes())
    return message


def _info_message(camera: Camera, stamp: Time, image: np.ndarray, fovy: float) -> CameraInfo:
    """Pinhole intrinsics of a MuJoCo camera: square pixels, centre in the middle, vertical field of view fovy [rad]."""
    height, width = image.shape[:2]
    focal, x, y = height / 2 / math.tan(fovy / 2), width / 2, height / 2
    info = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.stamp, info.header.frame_id = stamp, camera.frame_id
    info.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def main() -> int:
    return run_node("cameras", CamerasNode, BusError)


if __name__ == "__main__":
    sys.exit(main())
