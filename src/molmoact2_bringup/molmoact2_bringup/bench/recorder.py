# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What recording costs: `molmoact2 record` beside cameras, its share of a core and what it drops."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from array import array
from dataclasses import dataclass
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from molmoact2_contract.qos import SENSOR_PUBLISH
from molmoact2_policy.bags.bag import Bag

CAMERAS, WIDTH, HEIGHT, RATE = 3, 640, 480, 30.0
WAYS = (("mcap", "exact"), ("sqlite3", "exact"), ("mcap", "jpeg"))
PATIENCE = 60.0    # [s]


@dataclass(frozen=True)
class Recorded:
    """share: of one core; received, dropped: messages; megabytes: of the bag, a second."""

    storage: str
    images: str
    share: float
    received: int
    dropped: int
    megabytes: float


def recordings(folder: Path, seconds: float) -> list[Recorded]:
    """Each way of recording, one after the other, beside the same cameras. seconds: of all. Errors: RuntimeError."""
    context = multiprocessing.get_context("spawn")
    end, ready = context.Event(), context.Semaphore(0)
    topics = [f"bench/camera_{number}" for number in range(CAMERAS)]
    cameras = [context.Process(target=_publish, args=(topic, end, ready), daemon=True) for topic in topics]
    for camera in cameras:
        camera.start()
    try:
        if not all(ready.acquire(timeout=PATIENCE) for _ in cameras):
            raise RuntimeError(f"the cameras beside the recorder did not begin within {PATIENCE:g} s")
        return [_record(folder, topics, storage, images, seconds / len(WAYS)) for storage, images in WAYS]
    finally:
        end.set()
        for camera in cameras:
            camera.join(PATIENCE)


def _record(folder: Path, topics: list[str], storage: str, images: str, seconds: float) -> Recorded:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "bag"
        how = ["--out", str(path), "--storage", storage, "--images", images, "--min-free", "0", *topics]
        recorder = subprocess.Popen(["molmoact2", "record", *how], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert recorder.stdout is not None
        first = recorder.stdout.readline().decode()
        begun, busy = time.monotonic(), cpu_seconds(recorder.pid) if first.startswith("[record]") else 0.0
        time.sleep(seconds)
        if recorder.poll() is None:
            share = (cpu_seconds(recorder.pid) - busy) / (time.monotonic() - begun)
            recorder.send_signal(signal.SIGINT)
        said = first + recorder.communicate(timeout=PATIENCE)[0].decode()
        if recorder.returncode:
            raise RuntimeError(f"molmoact2 record ended with exit code {recorder.returncode}:\n{said}")
        size = sum(file.stat().st_size for file in path.iterdir()) / 1e6 / seconds
        with Bag(path) as bag:
            dropped = sum((bag.dropped or {}).values())
            return Recorded(storage, images, share, sum(bag.counts.values()) + dropped, dropped, size)


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _publish(topic: str, end: Event, ready: Semaphore) -> None:
    """The process of a camera: a picture that changes nothing, at a steady rate."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(topic.replace("/", "_"))
    publisher = node.create_publisher(Image, topic, SENSOR_PUBLISH)
    image = Image(height=HEIGHT, width=WIDTH, step=3 * WIDTH, encoding="rgb8")
    image.data = array("B", os.urandom(3 * WIDTH) * HEIGHT)
    due = time.monotonic()
    ready.release()
    while not end.wait(max(0.0, due - time.monotonic())):
        due += 1.0 / RATE
        image.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(image)
    node.destroy_node()
    rclpy.try_shutdown()
