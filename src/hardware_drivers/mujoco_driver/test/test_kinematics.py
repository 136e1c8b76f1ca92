# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The contract's forward kinematics against MuJoCo's, for the same arm."""

from pathlib import Path

import mujoco
import numpy as np

from molmoact2_contract import load_contract
from mujoco_driver.scene import build

CONTRACT = Path(__file__).resolve().parents[4] / "config/embodiments/so101.yaml"
BODIES = {"gripper_link": "gripper", "wrist_link": "wrist", "lower_arm_link": "lower_arm", "shoulder_link": "shoulder"}


def test_the_contract_places_every_link_where_the_simulated_arm_has_it():
    scene, arm = build("so101_tabletop"), load_contract(CONTRACT).arm("arm")
    data, random = mujoco.MjData(scene.model), np.random.default_rng(0)
    contract = load_contract(CONTRACT)
    for _ in range(20):
        positions = random.uniform(contract.values("lower", arm.joints), contract.values("upper", arm.joints))
        for joint, value in zip(arm.joints[:-1], positions, strict=False):
            data.joint(joint).qpos[0] = value
        mujoco.mj_kinematics(scene.model, data)
        frames = arm.kinematics.frames(positions)
        for link, body in BODIES.items():
            assert np.abs(frames[link][:3, 3] - data.body(body).xpos).max() < 1e-4
            assert np.abs(frames[link][:3, :3] - data.body(body).xmat.reshape(3, 3)).max() < 1e-3
        tip = data.site("gripperframe").xpos
        assert np.abs(frames["gripper_frame_link"][:3, 3] - tip).max() < 1e-4


def test_the_contract_mounts_every_camera_where_the_simulated_one_looks_from():
    """MuJoCo's cameras look along -z with y up; an optical frame looks along z with y down."""
    scene, contract = build("so101_tabletop"), load_contract(CONTRACT)
    data, random, arm = mujoco.MjData(scene.model), np.random.default_rng(1), contract.arm("arm")
    assert set(scene.cameras) == set(contract.cameras)
    for _ in range(5):
        positions = random.uniform(contract.values("lower", arm.joints), contract.values("upper", arm.joints))
        for joint, value in zip(arm.joints[:-1], positions, strict=False):
            data.joint(joint).qpos[0] = value
        mujoco.mj_kinematics(scene.model, data)
        mujoco.mj_camlight(scene.model, data)
        for name, camera in contract.cameras.items():
            pose = camera.mount.pose
            if camera.mount.parent != arm.base_frame:
                pose = arm.kinematics.frames(positions)[camera.mount.parent] @ pose
            optical = data.camera(name).xmat.reshape(3, 3) @ np.diag([1, -1, -1])
            assert np.abs(pose[:3, 3] - data.camera(name).xpos).max() < 1e-4
            assert np.abs(pose[:3, :3] - optical).max() < 1e-3
