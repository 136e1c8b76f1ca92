# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the camera driver costs and holds: one camera, a video in place of its device, and whoever receives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from molmoact2_contract.qos import SENSOR_SUBSCRIBE

from .recorder import HEIGHT, PATIENCE, RATE, WIDTH, cpu_seconds

FRAMES = 60
CAMERA = "bench_camera"


@dataclass(frozen=True)
class CameraCost:
    """share: of one core, of the driver's process; rate, wanted: images a second, received and asked for."""

    kind: str
    share: float
    rate: float
    wanted: float


def camera_cost(folder: Path, seconds: float) -> CameraCost:
    """A UVC camera for some seconds. Errors: RuntimeError where nothing comes."""
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / "camera.avi"
    write_video(video)
    settings = {"camera": CAMERA, "kind": "uvc", "playback_file": video, "width": WIDTH, "height": HEIGHT, "rate": RATE}
    parameters = [part for name, value in settings.items() for part in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", "camera_driver.camera_node", "--ros-args", *parameters]
    with (folder / "log.txt").open("w") as log:
        camera = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            return _received(camera, seconds)
        finally:
            camera.send_signal(signal.SIGINT)
            camera.wait(PATIENCE)


def write_video(path: Path) -> None:
    """A texture that moves by some pixels with each frame, as MJPEG."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    texture = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    for number in range(FRAMES):
        writer.write(np.roll(texture, 4 * number, axis=1))
    writer.release()


def _received(camera: subprocess.Popen[bytes], seconds: float) -> CameraCost:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("bench_viewer", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    images = 0

    def count(_: Image) -> None:
        nonlocal images
        images += 1

    def spin(over: Callable[[], bool]) -> None:
        while not over():
            if camera.poll() is not None:
                raise RuntimeError(f"the camera driver ended with exit code {camera.returncode}; see its log.txt")
            executor.spin_once(timeout_sec=0.05)

    try:
        node.create_subscription(Image, f"{CAMERA}/image_raw", count, SENSOR_SUBSCRIBE)
        latest = time.monotonic() + PATIENCE
        spin(lambda: images > 0 or time.monotonic() > latest)
        if not images:
            raise RuntimeError(f"the camera driver published nothing within {PATIENCE:g} s; see its log.txt")
        begun, busy, images = time.monotonic(), cpu_seconds(camera.pid), 0
        spin(lambda: time.monotonic() > begun + seconds)
        took = time.monotonic() - begun
        return CameraCost("uvc", (cpu_seconds(camera.pid) - busy) / took, images / took, RATE)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
