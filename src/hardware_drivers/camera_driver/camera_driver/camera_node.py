# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `camera`: one camera as topics. It names what is wrong with it, and opens it again until it is back."""

from __future__ import annotations

import sys
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from arm_controller.running import DriverNode, run_node
from molmoact2_contract import Contract, load_contract
from molmoact2_contract.qos import DIAGNOSTICS, SENSOR_PUBLISH

from .calibration import check_fits, load_calibration
from .clock import HostClocks
from .grabber import Grabber
from .messages import compressed_message, diagnostics, image_message, info_message
from .settings import KINDS, Names, Settings
from .source import CameraError, Frame, Intrinsics
from .watch import STALL_AFTER, StreamWatch


class CameraNode(DriverNode):
    """Publishes one camera. Errors of a camera that does not work at the start: CameraError."""

    def __init__(self, **options: Any) -> None:
        super().__init__("camera", **options)
        self._settings = self._declared()
        contract: Contract | None = load_contract(self._contract_path) if self._contract_path else None
        self._names = names = Names.of(self._settings.camera, contract, self._settings.frame_id)
        self._calibration: Intrinsics | None = None
        if self._settings.calibration:
            self._calibration = load_calibration(self._settings.calibration)
        self._source = self._settings.source(HostClocks(lambda: self.get_clock().now().nanoseconds))
        kind = CompressedImage if names.compressed else Image
        self._images = self.create_publisher(kind, names.image, SENSOR_PUBLISH)
        self._infos = self.create_publisher(CameraInfo, names.info, SENSOR_PUBLISH)
        if self._settings.depth:
            self._depths = self.create_publisher(Image, names.depth, SENSOR_PUBLISH)
            self._depth_infos = self.create_publisher(CameraInfo, names.depth_info, SENSOR_PUBLISH)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self._age = 0.0    # from the newest frame's stamp to its publication [s]
        frozen_after = self._settings.frozen_limit(self._source, contract)
        watch = StreamWatch(self._settings.rate, self._stall_after, frozen_after)
        self._grabber = Grabber(self._source, watch, self._publish, self._say)
        self._start()
        self.get_logger().info(f"{self._source.name} as {names.image}; stamps: {self._source.stamps}")
        self.create_timer(1.0, self._diagnose)

    def _start(self) -> None:
        first = self._grabber.start()
        if self._calibration is None:
            return
        height, width = first.colour.shape[:2]
        try:
            check_fits(self._calibration, self._settings.calibration, self._source.name, width, height)
        except CameraError:
            self.close()
            raise

    def _declared(self) -> Settings:
        def declare(name: str, default: Any, text: str, **ranges: list) -> Any:
            descriptor = ParameterDescriptor(description=text, read_only=True, **ranges)
            return self.declare_parameter(name, default, descriptor).value

        pixels = {"integer_range": [IntegerRange(from_value=0, to_value=8192, step=1)]}
        percent = {"integer_range": [IntegerRange(from_value=1, to_value=100, step=1)]}

        def numbers(least: float, most: float) -> dict[str, list]:
            return {"floating_point_range": [FloatingPointRange(from_value=least, to_value=most)]}

        self._contract_path = declare("contract", "", "path or name of the embodiment contract; may be empty")
        self._stall_after = declare("stall_after", STALL_AFTER, "such a pause is a stall [s]", **numbers(0.05, 60))
        self._quality = declare("jpeg_quality", 90, "where the contract's transport is compressed", **percent)
        return Settings(
            simulation=declare("simulation", False, "whether the system is a simulation: nothing counts as frozen"),
            camera=declare("camera", "", "name of the camera, as in the contract"),
            kind=declare("kind", "", " | ".join(KINDS)),
            serial=declare("serial", "", "RealSense: serial number; empty: the only one there is"),
            path=declare("path", "", "UVC: device path or name; video: file; images: folder"),
            playback_file=declare("playback_file", "", "in place of the device: .db3 (realsense), video (uvc)"),
            width=declare("width", 640, "of the images [px]; 0: as it comes", **pixels),
            height=declare("height", 480, "of the images [px]; 0: as it comes", **pixels),
            rate=declare("rate", 30.0, "images per second; 0: as they come", **numbers(0, 240)),
            fourcc=declare("fourcc", "", "UVC: format on the wire, such as MJPG or YUYV"),
            depth=declare("depth", False, "RealSense: publish depth too, aligned to the colour image"),
            allow_usb2=declare("allow_usb2", False, "RealSense: take a USB 2 link"),
            calibration=declare("calibration", "", "calibration file; empty: the camera's own, or none"),
            frame_id=declare("frame_id", "", "optical frame; empty: the contract's"),
            frozen_after=declare(
                "frozen_after", -1.0, "equal bytes this long are frozen [s]; 0: never; -1: contract", **numbers(-1, 60)
            ),
        )

    # --- called in the grabber's threads ------------------------------------------------------------------------------
    def _publish(self, frame: Frame) -> None:
        names, stamp = self._names, frame.stamp_ns
        height, width = frame.colour.shape[:2]
        intrinsics = self._calibration or self._source.intrinsics
        if names.compressed:
            self._images.publish(compressed_message(frame, self._quality, names.frame_id))
        else:
            self._images.publish(image_message(frame.colour, frame.encoding, stamp, names.frame_id))
        info = info_message(intrinsics, width, height, stamp, names.frame_id)
        self._infos.publish(info)
        if frame.depth is not None:
            self._depths.publish(image_message(frame.depth, "16UC1", stamp, names.frame_id))
            self._depth_infos.publish(info)
        self._age = (self.get_clock().now().nanoseconds - stamp) / 1e9

    def _say(self, text: str) -> None:
        self.get_logger().warning(text)
        self._diagnose()

    # ------------------------------------------------------------------------------------------------------------------
    def _diagnose(self) -> None:
        rate, slow = self._grabber.rate()
        trouble, counts = self._grabber.trouble, self._grabber.counts
        if trouble:
            level, text = DiagnosticStatus.ERROR, trouble
        elif slow:
            level, text = DiagnosticStatus.WARN, (
                f"{self._source.name} delivers {rate:.1f} images per second, not {self._settings.rate:g} as asked: "
                "more light (or a fixed exposure), or fewer cameras on one USB controller"
            )
        else:
            level, text = DiagnosticStatus.OK, "in time"
        values = {
            "source": self._source.name, "stamps": self._source.stamps, "images per second": f"{rate:.1f}",
            "age when published [s]": f"{self._age:.4f}", "published": str(counts.delivered),
            "replaced by newer ones": str(counts.dropped), "stamps that did not go on": str(counts.stale),
            "times it came back": str(counts.reopened),
        }
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics(stamp, level, f"camera: {self._settings.camera}", text, values))

    @property
    def error(self) -> str:
        failure = self._grabber.failure
        return "" if failure is None else f"{failure}"

    def close(self) -> None:
        self._grabber.close()


def main() -> int:
    return run_node("camera", CameraNode, CameraError)


if __name__ == "__main__":
    sys.exit(main())
