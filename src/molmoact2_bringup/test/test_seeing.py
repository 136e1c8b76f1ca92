# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The rviz configuration names only what there is, and the path that is shown is where the simulated gripper goes."""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
import pytest
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import Image

from arm_controller.node import VERBS
from molmoact2_contract import load_contract, load_system
from molmoact2_contract.qos import SENSOR_PUBLISH
from molmoact2_model.depth import METRES, DepthMap
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, ReasoningTrace
from molmoact2_policy.view.depth_views import Intrinsics, points
from molmoact2_policy.view.node import VisualizerNode
from molmoact2_policy.view.plans import plan_of
from mujoco_driver.scene import build

ROOT = Path(__file__).resolve().parents[3]
RVIZ = ROOT / "config/rviz/molmoact2.rviz"
SYSTEM = load_system(ROOT / "config/systems/so101_sim.yaml")
CONTRACT = load_contract(ROOT / "config/embodiments/so101.yaml")
DOMAIN = 96
# What a display of rviz's own plugins subscribes to.
TYPES = {
    "rviz_default_plugins/RobotModel": "std_msgs/msg/String",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
}


def displays() -> list[dict]:
    return yaml.safe_load(RVIZ.read_text())["Visualization Manager"]["Displays"]


def topics() -> dict[str, dict]:
    """The topic settings of each display that has one, by display class and topic."""
    found = {}
    for display in displays():
        setting = display.get("Topic") or display.get("Description Topic")
        if setting is not None:
            found[display["Class"], setting["Value"]] = setting
    return found


def frames(node: object, key: str = "") -> Iterator[str]:
    """Every frame that the file names."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from frames(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from frames(value)
    elif key.endswith(" Frame") and isinstance(node, str):
        yield node


@pytest.fixture(scope="module")
def graph():
    """The visualizer, and the cameras as the simulated world publishes them, seen by another node."""
    contexts = [rclpy.Context() for _ in range(2)]
    for context in contexts:
        rclpy.init(context=context, domain_id=DOMAIN)
    given = {"contract": str(CONTRACT.path), **SYSTEM.process("visualizer").parameters}
    parameters = [Parameter(name, value=value) for name, value in given.items()]
    shown = VisualizerNode(context=contexts[0], parameter_overrides=parameters)
    for camera in CONTRACT.cameras.values():
        shown.create_publisher(Image, camera.topic, SENSOR_PUBLISH)
    viewer = rclpy.create_node("viewer", context=contexts[1])
    executor, end = SingleThreadedExecutor(context=contexts[0]), threading.Event()
    executor.add_node(shown)
    thread = threading.Thread(target=lambda: [executor.spin_once(timeout_sec=0.1) for _ in iter(end.is_set, True)])
    thread.start()
    yield viewer
    end.set()
    thread.join()
    executor.shutdown()
    for node, context in zip((shown, viewer), contexts, strict=True):
        node.destroy_node()
        context.shutdown()


@pytest.mark.parametrize(("display", "topic"), list(topics()))
def test_every_topic_of_the_rviz_file_is_published_with_the_type_and_quality_its_display_wants(graph, display, topic):
    deadline = time.monotonic() + 30
    while not (publishers := graph.get_publishers_info_by_topic(topic)):    # the graph tells of no changes
        assert time.monotonic() < deadline, f"nobody publishes {topic}"
        time.sleep(0.05)
    (publisher,) = publishers
    assert publisher.topic_type == TYPES[display]
    wanted, offered = topics()[display, topic], publisher.qos_profile
    assert wanted["Reliability Policy"] == "Best Effort" or offered.reliability == ReliabilityPolicy.RELIABLE
    assert wanted["Durability Policy"] == "Volatile" or offered.durability == DurabilityPolicy.TRANSIENT_LOCAL


def test_the_rviz_file_shows_everything_that_is_published_to_be_seen():
    shown = {topic for _, topic in topics()}
    assert shown >= {
        "/policy/path", "/policy/depth/image", "/policy/depth/refreshed", "/policy/depth/points",
        "/policy/depth/points_relative", "/robot_description", *(f"/{c.topic}" for c in CONTRACT.cameras.values()),
    }
    assert {"rviz_default_plugins/TF", "rviz_default_plugins/Grid"} <= {display["Class"] for display in displays()}


def test_depth_without_a_scale_is_named_so_and_not_shown_unless_asked_for():
    (relative,) = (d for d in displays() if d.get("Topic", {}).get("Value") == "/policy/depth/points_relative")
    assert "without a scale" in relative["Name"] and relative["Enabled"] is False


def test_every_frame_of_the_rviz_file_is_one_of_the_contract():
    named = set(frames(yaml.safe_load(RVIZ.read_text())))
    there = {frame for arm in CONTRACT.arms.values() for frame in arm.frames}
    assert named and named <= there


def test_the_foxglove_layout_names_only_what_there_is():
    layout = json.loads((ROOT / "config/foxglove/molmoact2.json").read_text())
    panels, arm = layout["configById"], next(iter(CONTRACT.arms))
    there = {topic for _, topic in topics()} | {"/policy/reasoning_trace", f"/{arm}/status"}
    named = {panel["imageMode"]["imageTopic"] for name, panel in panels.items() if name.startswith("Image!")}
    named |= {*panels["3D!robot"]["topics"], panels["3D!robot"]["layers"]["robot"]["topic"]}
    assert named | {"/policy/reasoning_trace", f"/{arm}/status"} == there
    assert panels["3D!robot"]["layers"]["grid"]["frameId"] == CONTRACT.arm(arm).base_frame
    called = {panel["serviceName"] for name, panel in panels.items() if name.startswith("CallService!")}
    assert called <= {f"/{arm}/{verb}" for verb in VERBS}
    paths = [path["value"] for path in panels["Plot!latency"]["paths"]]
    fields = {"/policy/reasoning_trace": ReasoningTrace, f"/{arm}/status": ControllerStatus}
    for path in paths:
        topic, field = path.split(".")[0], re.split(r"[.\[]", path)[1]
        assert field in fields[topic].get_fields_and_field_types()


def test_every_panel_of_the_foxglove_layout_has_its_place():
    layout = json.loads((ROOT / "config/foxglove/molmoact2.json").read_text())

    def leaves(node):
        return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])

    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])


@pytest.mark.parametrize("name", list(CONTRACT.cameras))
def test_points_of_metric_depth_lie_on_what_the_simulated_camera_sees(name):
    """True depth of the scene, through the cloud and the camera's mount: what shows the table lies on the table."""
    scene, arm, camera = build("so101_tabletop"), CONTRACT.arm("arm"), CONTRACT.cameras[name]
    data, home = mujoco.MjData(scene.model), CONTRACT.values("home", arm.joints)
    for joint, value in zip(arm.joints[:-1], home, strict=False):
        data.joint(joint).qpos[0] = value
    mujoco.mj_forward(scene.model, data)
    with mujoco.Renderer(scene.model, 240, 320) as renderer:
        renderer.update_scene(data, name)
        renderer.enable_depth_rendering()
        depth = renderer.render().copy()
        renderer.disable_depth_rendering()
        renderer.enable_segmentation_rendering()
        geoms = renderer.render()[..., 0]
    focal = 120 / np.tan(np.radians(scene.model.camera(name).fovy[0]) / 2)
    info = Intrinsics.of(320, 240, [focal, 0, 160, 0, focal, 120, 0, 0, 1], [], "plumb_bob")
    xyz, _ = points(DepthMap(depth, METRES, "farther", (0.0, 5.0), "rendered"), info, (0.3, 1.0))
    pose = camera.mount.pose
    if camera.mount.parent != arm.base_frame:
        pose = arm.kinematics.frames(home)[camera.mount.parent] @ pose
    picked = np.ix_(((np.arange(40) + 0.5) * 6).astype(int), ((np.arange(40) + 0.5) * 8).astype(int))
    on_table = (geoms[picked] == scene.model.geom("table").id).ravel()
    heights = (xyz @ pose[:3, :3].T + pose[:3, 3])[:, 2]
    assert on_table.sum() > 200
    assert np.abs(heights[on_table]).max() < 0.01 and heights[~on_table].max() > 0.02


def test_the_path_of_a_chunk_is_where_mujoco_has_the_gripper():
    scene, arm = build("so101_tabletop"), CONTRACT.arm("arm")
    low, high = CONTRACT.values("lower", arm.joints), CONTRACT.values("upper", arm.joints)
    positions = np.random.default_rng(0).uniform(low, high, (25, len(arm.joints)))
    chunk = ActionChunk(chunk_id=1, joint_names=list(arm.joints), dt=0.05, first_offset=1.0, horizon=25)
    chunk.positions = positions.ravel().tolist()
    plan, data = plan_of(chunk, arm), mujoco.MjData(scene.model)
    for point, waypoint in zip(plan.points, positions, strict=True):
        for joint, value in zip(arm.joints[:-1], waypoint, strict=False):
            data.joint(joint).qpos[0] = value
        mujoco.mj_kinematics(scene.model, data)
        assert np.abs(point - data.site("gripperframe").xpos).max() < 1e-4
