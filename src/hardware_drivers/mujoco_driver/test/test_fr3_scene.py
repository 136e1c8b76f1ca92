# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import mujoco
import numpy as np
import pytest

from molmoact2_contract import load_contract
from mujoco_driver.scene import build
from mujoco_driver.world import World, home_of


@pytest.fixture(scope="module")
def contract():
    return load_contract("franka_droid")


@pytest.fixture(scope="module")
def fr3():
    return build("fr3_table")


@pytest.fixture
def world(fr3, contract):
    return World(fr3, home_of(contract, fr3), seed=1)


def test_the_scene_has_the_contracts_joints_cameras_and_limits(fr3, contract):
    assert list(fr3.joints) == list(contract.joints)
    assert set(fr3.cameras) == set(contract.cameras)
    for index, name in enumerate(fr3.joints[:7]):
        low, high = fr3.model.actuator_ctrlrange[index]
        assert low <= contract.joints[name].lower + 1e-4 and high >= contract.joints[name].upper - 1e-4


def test_the_frames_of_the_contract_are_those_of_the_model(fr3, contract):
    arm, data = contract.arm("arm"), mujoco.MjData(fr3.model)
    random = np.random.default_rng(3)
    for _ in range(20):
        pose = np.array([random.uniform(contract.joints[j].lower, contract.joints[j].upper) for j in fr3.joints])
        for name, value in zip(fr3.joints[:7], pose, strict=False):
            data.qpos[fr3.model.joint(name).qposadr[0]] = value
        mujoco.mj_kinematics(fr3.model, data)
        frames = arm.kinematics.frames(pose)
        for link, body in (("fr3_link4", "fr3_link4"), ("fr3_link7", "fr3_link7"), ("fr3_hand", "hand")):
            assert np.abs(frames[link][:3, 3] - data.body(body).xpos).max() < 1e-4
            assert np.abs(frames[link][:3, :3] - data.body(body).xmat.reshape(3, 3)).max() < 1e-3


def test_the_arm_holds_home_and_goes_where_its_servos_are_told(world, fr3, contract):
    home = np.array([home_of(contract, fr3)[j] for j in fr3.joints])
    world.advance(300)
    assert np.abs(world.read()[1] - home).max() < 2e-3
    world.set_goal(0, 0.4)
    world.set_goal(7, 0.0)
    world.advance(900)
    at = world.read()[1]
    assert at[0] == pytest.approx(0.4, abs=5e-3) and at[7] < 2e-3


def test_a_guided_arm_stays_where_it_is_and_yields_to_a_push(world):
    for index in range(7):
        world.guide(index)
    before = world.read()[1]
    world.advance(600)
    assert np.abs(world.read()[1] - before)[:7].max() < 0.05
