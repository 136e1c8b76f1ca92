# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The YAM station and the table with one YAM, each against the contract of the real one."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from molmoact2_contract import load_contract
from mujoco_driver.scene import build
from mujoco_driver.world import World, home_of

EMBODIMENTS = Path(__file__).resolve().parents[4] / "config/embodiments"
CONTRACTS = {"yam_station": "yam_bimanual", "yam_table": "yam_single"}
SIDE = {"left": "left", "right": "right", "arm": "left"}    # of the published station, which each arm is
BASE = {"left": np.zeros(3), "right": np.array([0, -0.61, 0])}    # [m]
OPEN = 0.04695    # a finger of an open gripper [m]


@pytest.fixture(scope="module", params=CONTRACTS)
def station(request):
    return build(request.param)


@pytest.fixture(scope="module")
def yam(station):
    return load_contract(EMBODIMENTS / f"{CONTRACTS[station.name]}.yaml")


@pytest.fixture(scope="module")
def first(yam):
    """What the names of the first arm's joints begin with."""
    return yam.joint_names[0].removesuffix("joint_0")


@pytest.fixture
def world(station, yam):
    return World(station, home_of(yam, station), seed=1)


def named(station):
    return {station.model.body(index).name for index in range(station.model.nbody)}


def posed(station, yam, random):
    """All arms somewhere within their limits; the model's state and each arm's positions."""
    data, positions = mujoco.MjData(station.model), {}
    for name, arm in yam.arms.items():
        positions[name] = random.uniform(yam.values("lower", arm.joints), yam.values("upper", arm.joints))
        for joint, value in zip(arm.joints[:-1], positions[name], strict=False):
            data.joint(joint).qpos[0] = value
    mujoco.mj_kinematics(station.model, data)
    mujoco.mj_camlight(station.model, data)
    return data, positions


def test_a_scene_has_a_servo_for_every_joint_and_every_camera_of_the_contract(station, yam):
    assert station.joints == yam.joint_names
    assert set(station.cameras) == set(yam.cameras)
    assert [body for body in BASE if f"{body}_base" in named(station)] == [SIDE[name] for name in yam.arms]


def test_the_contract_places_every_link_of_its_arms_where_the_scene_has_it(station, yam):
    random = np.random.default_rng(0)
    for _ in range(10):
        data, positions = posed(station, yam, random)
        for name, arm in yam.arms.items():
            side, prefix = SIDE[name], arm.joints[-1].removesuffix("gripper")
            frames = arm.kinematics.frames(positions[name])
            for body in ("link1", "link2", "link3", "link4", "link5", "gripper"):
                frame = frames[f"{prefix}gripper_link" if body == "gripper" else f"{prefix}{body}"]
                there = data.body(f"{side}_{body}")
                assert np.abs(frame[:3, 3] - (there.xpos - BASE[side])).max() < 2e-4
                assert np.abs(frame[:3, :3] - there.xmat.reshape(3, 3)).max() < 1e-3
            tip = data.site(f"tcp_{side}").xpos - BASE[side]
            assert np.abs(frames[f"{prefix}tip_link"][:3, 3] - tip).max() < 5e-4


def test_the_contract_mounts_every_camera_where_the_scene_has_it(station, yam):
    data, positions = posed(station, yam, np.random.default_rng(1))
    for name, camera in yam.cameras.items():
        arm = name if name in yam.arms else next(iter(yam.arms))
        frames = yam.arm(arm).kinematics.frames(positions[arm])
        pose = frames.get(camera.mount.parent, np.eye(4)) @ camera.mount.pose
        assert np.abs(pose[:3, 3] - (data.camera(name).xpos - BASE[SIDE[arm]])).max() < 2e-4
        optical = data.camera(name).xmat.reshape(3, 3) @ np.diag([1, -1, -1])
        assert np.abs(pose[:3, :3] - optical).max() < 1e-3


def test_the_arms_go_where_they_are_told_and_a_gripper_stays_open_until_it_is_told_to_close(world, station, first):
    goals = {f"{first}joint_0": 0.3, f"{first}joint_1": 0.9, f"{first}joint_2": 0.9, f"{first}gripper": 0.0}
    others = {"right_joint_1": 0.5, "right_gripper": OPEN} if "right_gripper" in station.joints else {}
    assert world.read()[1][station.joints.index(f"{first}gripper")] == pytest.approx(OPEN, abs=1e-3)
    for joint, goal in (goals | others).items():
        if joint != "right_gripper":
            world.set_goal(station.joints.index(joint), goal)
    world.advance(900)
    reached = dict(zip(station.joints, world.read()[1], strict=True))
    for joint, goal in (goals | others).items():
        assert reached[joint] == pytest.approx(goal, abs=1e-3 if joint == "right_gripper" else 0.02)


def test_a_guided_arm_carries_its_own_weight_once_and_stays(world, station, first):
    for joint, goal in ((f"{first}joint_1", 0.9), (f"{first}joint_2", 0.9)):
        world.set_goal(station.joints.index(joint), goal)
    world.advance(900)
    before = world.read()[1]
    for index in range(6):
        world.guide(index)
    world.advance(900)
    assert world.read()[1] == pytest.approx(before, abs=0.02)


def test_all_arms_may_stand_at_home_and_at_rest_and_the_blocks_lie_on_the_table(world, station, yam):
    for pose in ("home", "rest"):
        for arm in yam.arms.values():
            for joint, value in zip(arm.joints[:-1], yam.values(pose, arm.joints), strict=False):
                world.set_goal(station.joints.index(joint), value)
        world.advance(600)
        reached = dict(zip(station.joints, world.read()[1], strict=True))
        for arm in yam.arms.values():
            wanted = yam.values(pose, arm.joints)[:-1]
            assert [reached[joint] for joint in arm.joints[:-1]] == pytest.approx(wanted, abs=0.03)
    data = mujoco.MjData(station.model)
    data.qpos[:] = world.state().qpos
    mujoco.mj_kinematics(station.model, data)
    assert data.body("red_block").xpos[2] == pytest.approx(0.02, abs=2e-3)
