# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The world node over real DDS, in a domain of its own."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from molmoact2_contract.qos import SENSOR_SUBSCRIBE
from mujoco_driver.node import WorldNode

CONTRACT = Path(__file__).resolve().parents[4] / "config/embodiments/so101.yaml"
DOMAIN = 71


class Watcher:
    """Spins the world and a node that listens to it."""

    def __init__(self, context, world):
        self.node = rclpy.create_node("watcher", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(world)
        self.executor.add_node(self.node)
        self.images: dict[str, list[Image]] = {"front": [], "wrist": []}
        self.infos: list[CameraInfo] = []
        for name, seen in self.images.items():
            self.node.create_subscription(Image, f"{name}/image_raw", seen.append, SENSOR_SUBSCRIBE)
        self.node.create_subscription(CameraInfo, "front/camera_info", self.infos.append, SENSOR_SUBSCRIBE)

    def until(self, condition, what: str):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, what
            self.executor.spin_once(timeout_sec=0.1)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    overrides = [
        Parameter("contract", value=str(CONTRACT)),
        Parameter("address", value=str(tmp_path_factory.mktemp("bus") / "world.sock")),
        Parameter("image_width", value=160),
        Parameter("image_height", value=120),
    ]
    world = WorldNode(context=context, parameter_overrides=overrides)
    watcher = Watcher(context, world)
    yield world, watcher
    world.close()
    watcher.node.destroy_node()
    world.destroy_node()
    rclpy.shutdown(context=context)


def stamp(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def pixels(message: Image) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def test_both_cameras_carry_the_same_capture_stamps_and_these_go_on(running):
    _, watcher = running
    watcher.until(lambda: min(map(len, watcher.images.values())) >= 6, "no images")
    front, wrist = ([stamp(m) for m in watcher.images[n]] for n in ("front", "wrist"))
    assert len(set(front) & set(wrist)) >= 5
    assert front == sorted(set(front))
    age = watcher.node.get_clock().now().nanoseconds - front[-1]
    assert 0 < age < 30 * 10**9
    assert watcher.images["front"][0].header.frame_id == "front_optical_frame"


def test_the_pictures_show_the_scene(running):
    _, watcher = running
    watcher.until(lambda: watcher.images["front"], "no images")
    image = pixels(watcher.images["front"][-1]).astype(int)
    red = (image[..., 0] > 100) & (image[..., 1] < 60) & (image[..., 2] < 60)
    assert 10 < red.sum() < 2000, "the red cube is not in sight"


def test_the_intrinsics_fit_the_field_of_view(running):
    world, watcher = running
    watcher.until(lambda: watcher.infos, "no camera_info")
    info = watcher.infos[-1]
    fovy = 2 * math.degrees(math.atan(info.height / 2 / info.k[4]))
    assert fovy == pytest.approx(float(world._scene.model.camera("front").fovy[0]))
    assert info.k[2] == info.width / 2 and (info.width, info.height) == (160, 120)


def test_a_camera_can_be_made_black_and_frozen_and_comes_back(running):
    world, watcher = running

    def newest():
        count = len(watcher.images["front"])
        watcher.until(lambda: len(watcher.images["front"]) >= count + 3, "no images")
        return watcher.images["front"][-1], watcher.images["front"][-2]

    assert world.set_parameters([Parameter("camera_fault.front", value="black")])[0].successful
    assert pixels(newest()[0]).max() == 0
    world.set_parameters([Parameter("camera_fault.front", value="ok")])
    assert pixels(newest()[0]).max() > 0
    world.set_parameters([Parameter("camera_fault.front", value="frozen")])
    first, second = newest()
    assert first.data == second.data and stamp(first) > stamp(second)
    world.set_parameters([Parameter("camera_fault.front", value="ok")])
    assert not world.set_parameters([Parameter("camera_fault.front", value="purple")])[0].successful


def test_reset_places_the_cubes_anew(running):
    world, watcher = running
    before = world.world.snapshot().qpos
    client = watcher.node.create_client(Trigger, "world/reset")
    future = client.call_async(Trigger.Request())
    watcher.until(future.done, "no answer")
    assert future.result().success
    after = world.world.snapshot().qpos
    assert np.abs(after - before).max() > 0.01
    assert np.abs(after[:6] - before[:6]).max() < 0.05, "the arm must stay where it is"
