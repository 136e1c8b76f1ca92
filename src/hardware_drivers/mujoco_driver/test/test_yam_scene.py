# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The YAM station against the contract of the real one."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from molmoact2_contract import load_contract
from mujoco_driver.scene import build
from mujoco_driver.world import World, home_of

CONTRACT = Path(__file__).resolve().parents[4] / "config/embodiments/yam_bimanual.yaml"
APART = {"left": np.zeros(3), "right": np.array([0, -0.61, 0])}    # the bases [m]


@pytest.fixture(scope="module")
def yam():
    return load_contract(CONTRACT)


@pytest.fixture(scope="module")
def station():
    return build("yam_station")


@pytest.fixture
def world(station, yam):
    return World(station, home_of(yam, station), seed=1)


def posed(station, yam, random):
    """Both arms somewhere within their limits; the model's state and each arm's positions."""
    data, positions = mujoco.MjData(station.model), {}
    for name, arm in yam.arms.items():
        positions[name] = random.uniform(yam.values("lower", arm.joints), yam.values("upper", arm.joints))
        for joint, value in zip(arm.joints[:-1], positions[name], strict=False):
            data.joint(joint).qpos[0] = value
    mujoco.mj_kinematics(station.model, data)
    mujoco.mj_camlight(station.model, data)
    return data, positions


def test_the_station_has_a_servo_for_every_joint_and_every_camera_of_the_contract(station, yam):
    assert station.joints == yam.joint_names
    assert set(station.cameras) == set(yam.cameras)


def test_the_contract_places_every_link_of_both_arms_where_the_station_has_it(station, yam):
    random = np.random.default_rng(0)
    for _ in range(10):
        data, positions = posed(station, yam, random)
        for side, arm in yam.arms.items():
            frames = arm.kinematics.frames(positions[side])
            for link in ("link1", "link2", "link3", "link4", "link5", "gripper"):
                name = f"{side}_gripper_link" if link == "gripper" else f"{side}_{link}"
                there = data.body(f"{side}_{link}")
                assert np.abs(frames[name][:3, 3] - (there.xpos - APART[side])).max() < 2e-4
                assert np.abs(frames[name][:3, :3] - there.xmat.reshape(3, 3)).max() < 1e-3
            tip = data.site(f"tcp_{side}").xpos - APART[side]
            assert np.abs(frames[f"{side}_tip_link"][:3, 3] - tip).max() < 5e-4


def test_the_contract_mounts_every_camera_where_the_station_has_it(station, yam):
    data, positions = posed(station, yam, np.random.default_rng(1))
    for name, camera in yam.cameras.items():
        side = name if name in APART else "left"
        frames = yam.arm(side).kinematics.frames(positions[side])
        pose = frames.get(camera.mount.parent, np.eye(4)) @ camera.mount.pose
        assert np.abs(pose[:3, 3] - (data.camera(name).xpos - APART[side])).max() < 2e-4
        optical = data.camera(name).xmat.reshape(3, 3) @ np.diag([1, -1, -1])
        assert np.abs(pose[:3, :3] - optical).max() < 1e-3


def test_the_arms_go_where_they_are_told_and_the_gripper_opens(world, station):
    goals = {"left_joint_0": 0.3, "left_joint_1": 0.9, "left_joint_2": 0.9, "left_gripper": 0.0, "right_joint_1": 0.5}
    for joint, goal in goals.items():
        world.set_goal(station.joints.index(joint), goal)
    world.advance(900)
    reached = dict(zip(station.joints, world.read()[1], strict=True))
    assert all(abs(reached[joint] - goal) < 0.02 for joint, goal in goals.items())
    assert reached["right_gripper"] == pytest.approx(0.04695, abs=1e-3)


def test_a_guided_arm_carries_its_own_weight_once_and_stays(world, station):
    for joint, goal in (("left_joint_1", 0.9), ("left_joint_2", 0.9)):
        world.set_goal(station.joints.index(joint), goal)
    world.advance(900)
    before = world.read()[1]
    for index in range(6):
        world.guide(index)
    world.advance(900)
    assert world.read()[1] == pytest.approx(before, abs=0.02)


def test_both_arms_may_stand_at_home_and_at_rest_and_the_blocks_lie_on_the_table(world, station, yam):
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
