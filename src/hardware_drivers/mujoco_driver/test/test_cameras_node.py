# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The cameras node over real DDS, in a domain of its own, before a world that is served in the test."""

import math

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from watcher import CONTRACT, Watcher, wait_until

from molmoact2_contract.qos import SENSOR_SUBSCRIBE
from mujoco_driver.bus import WorldState
from mujoco_driver.bus_server import BusServer
from mujoco_driver.cameras_node import CamerasNode
from mujoco_driver.render import Viewer

DOMAIN = 72
FRONT, WRIST, INFO = "front/image_raw", "wrist/image_raw", "front/camera_info"


@pytest.fixture
def watcher():
    watcher = Watcher(DOMAIN)
    for topic in (FRONT, WRIST):
        watcher.listen(Image, topic, SENSOR_SUBSCRIBE)
    watcher.listen(CameraInfo, INFO, SENSOR_SUBSCRIBE)
    yield watcher
    watcher.close()


@pytest.fixture
def cameras(watcher, bus):
    values = {"contract": str(CONTRACT), "address": bus.address, "image_width": 160, "image_height": 120}
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    cameras = CamerasNode(context=watcher.context, parameter_overrides=overrides)
    watcher.spin(cameras)
    yield cameras
    cameras.close()
    cameras.destroy_node()


def stamp(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def pixels(message: Image) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def red(image: Image) -> np.ndarray:
    colours = pixels(image).astype(int)
    return (colours[..., 0] > 100) & (colours[..., 1] < 60) & (colours[..., 2] < 60)


def test_both_cameras_carry_the_same_capture_stamps_and_these_go_on(watcher, cameras):
    watcher.until(lambda: min(len(watcher.seen[FRONT]), len(watcher.seen[WRIST])) >= 6, "no images")
    front, wrist = ([stamp(m) for m in watcher.seen[topic]] for topic in (FRONT, WRIST))
    assert len(set(front) & set(wrist)) >= 5
    assert front == sorted(set(front))
    age = watcher.node.get_clock().now().nanoseconds - front[-1]
    assert 0 < age < 30 * 10**9
    assert watcher.seen[FRONT][0].header.frame_id == "front_optical_frame"


def test_stamps_are_capture_times_of_states_of_the_world(watcher, cameras, world):
    captured = []
    now = world._ros_now
    world._ros_now = lambda: captured.append(now()) or captured[-1]
    watcher.next(FRONT, 3)
    assert stamp(watcher.next(FRONT)[0]) in captured


def test_the_pictures_show_the_scene_and_what_becomes_of_it(watcher, cameras, world):
    before = red(watcher.next(FRONT)[-1])
    assert 10 < before.sum() < 2000, "the red cube is not in sight"
    world.reset()
    assert (red(watcher.next(FRONT, 3)[-1]) != before).any()


def test_the_intrinsics_fit_the_field_of_view(watcher, cameras, scene):
    info = watcher.next(INFO)[-1]
    fovy = 2 * math.degrees(math.atan(info.height / 2 / info.k[4]))
    assert fovy == pytest.approx(float(scene.model.camera("front").fovy[0]))
    assert info.k[2] == info.width / 2 and (info.width, info.height) == (160, 120)


def test_a_camera_can_be_made_black_and_frozen_and_comes_back(watcher, cameras):
    def newest():
        return watcher.next(FRONT, 3)[-2:]

    assert cameras.set_parameters([Parameter("camera_fault.front", value="black")])[0].successful
    assert pixels(newest()[1]).max() == 0
    cameras.set_parameters([Parameter("camera_fault.front", value="ok")])
    assert pixels(newest()[1]).max() > 0
    cameras.set_parameters([Parameter("camera_fault.front", value="frozen")])
    first, second = newest()
    assert first.data == second.data and stamp(first) < stamp(second)
    assert not cameras.set_parameters([Parameter("camera_fault.front", value="purple")])[0].successful


def test_when_the_world_goes_away_nothing_is_published_that_is_said_and_a_new_world_is_found(
    watcher, cameras, bus, world
):
    watcher.next(FRONT)
    watcher.diagnosis(lambda s: s.level != DiagnosticStatus.ERROR, "it is not well to begin with")
    bus.close()
    watcher.diagnosis(lambda s: s.level == DiagnosticStatus.ERROR and "simulated world" in s.message, "it is not said")
    before = len(watcher.seen[FRONT])
    watcher.diagnosis(lambda s: s.level == DiagnosticStatus.ERROR, "it is not said again")
    assert len(watcher.seen[FRONT]) == before
    again = BusServer(world, bus.address, lambda line: None)
    watcher.next(FRONT, 2)
    watcher.diagnosis(lambda s: s.level != DiagnosticStatus.ERROR, "it does not recover")
    again.close()


def test_a_world_that_stands_still_is_not_shown_again_and_again(watcher, cameras, world):
    watcher.next(FRONT)
    world.close()
    watcher.diagnosis(lambda s: s.level == DiagnosticStatus.WARN, "it is not said")
    before = len(watcher.seen[FRONT])
    watcher.diagnosis(lambda s: s.level == DiagnosticStatus.WARN, "it is not said again")
    assert len(watcher.seen[FRONT]) == before


def test_the_cameras_can_be_killed_and_started_anew_and_the_world_goes_on(start, watcher, bus, client):
    for _ in range(2):
        program = start("cameras", DOMAIN, address=bus.address)
        watcher.next(FRONT, 2)
        program.kill()
    seen = client.state().stamp_ns
    wait_until(lambda: client.state().stamp_ns > seen, "the world stands still")


def test_cameras_end_cleanly_when_asked_and_name_a_parameter_that_cannot_be(start, watcher, bus):
    program = start("cameras", DOMAIN, address=bus.address)
    watcher.next(FRONT)
    code, errors = program.end()
    assert code == 0 and "error" not in errors
    program = start("cameras", DOMAIN, address=bus.address, image_width="5")
    program.process.wait(60)
    code, errors = program.end()
    assert code == 1 and "error: cameras: " in errors and "image_width" in errors


class ShownPlant:
    """A world that shows one state."""

    servos = ()

    def __init__(self, state: WorldState):
        self.state = lambda: state


@pytest.mark.parametrize(
    ("scene_name", "positions", "named"),
    [("moon", 27, "scene 'moon' is not there"), ("so101_tabletop", 4, "has 4 positions and the one here has 27")],
)
def test_a_world_that_cannot_be_drawn_is_named_and_ends_the_viewer(tmp_path, scene_name, positions, named):
    plant = ShownPlant(WorldState(1, scene_name, 1, np.zeros(positions)))
    server = BusServer(plant, str(tmp_path / "bus.sock"), lambda line: None)
    shown: list = []
    viewer = Viewer(server.address, 64, 48, 50.0, shown.append)
    viewer.start()
    wait_until(lambda: viewer.error is not None, "no error")
    assert named in str(viewer.error) and not shown
    viewer.close()
    server.close()


def test_a_world_that_does_not_appear_is_named_and_ends_the_viewer(tmp_path):
    viewer = Viewer(str(tmp_path / "nothing.sock"), 64, 48, 50.0, lambda frame: None, patience=0.0)
    viewer.start()
    wait_until(lambda: viewer.error is not None, "no error")
    assert "no simulated world at" in str(viewer.error) and "nothing.sock" in str(viewer.error)
    viewer.close()
