# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from tiny_robot import EMBODIMENTS

from molmoact2_contract import load_contract
from molmoact2_policy.model_frame import ModelFrame

TAGS = [
    (path.stem, tag)
    for path in sorted(EMBODIMENTS.glob("*.yaml"))
    for tag in load_contract(path).norm_tags
]


def frame(embodiment: str, tag: str):
    contract = load_contract(EMBODIMENTS / f"{embodiment}.yaml")
    return contract, ModelFrame(contract, contract.norm_tag(tag))


def test_the_three_robots_are_all_here():
    assert {embodiment for embodiment, _ in TAGS} >= {"so101", "yam_bimanual", "franka_droid"}


@pytest.mark.parametrize(("embodiment", "tag"), TAGS)
def test_a_state_comes_back_from_the_model_frame_as_it_went(embodiment, tag):
    contract, convert = frame(embodiment, tag)
    lower, upper = contract.values("lower"), contract.values("upper")
    states = np.random.default_rng(1).uniform(lower, upper, (50, len(contract.joints)))
    model = convert.to_model(states)
    assert model.dtype == np.float32
    np.testing.assert_allclose(convert.to_ros(model), states, atol=1e-6)
    actions, remarks = convert.actions_to_ros(model)
    np.testing.assert_allclose(actions, states, atol=1e-6)
    assert remarks == ()


def test_the_released_so101_tag_gets_degrees_of_the_old_calibration():
    _, convert = frame("so101", "so100_so101_molmoact2")
    quarter = np.pi / 2
    np.testing.assert_allclose(convert.to_model(np.zeros(6)), [0, 90, 90, 0, 0, 0])
    np.testing.assert_allclose(
        convert.to_model(np.array([quarter, quarter, quarter, quarter, quarter, 1.0])), [90, 0, 180, 90, 90, 100]
    )
    np.testing.assert_allclose(
        convert.to_ros(np.array([0, 180, 90, 0, 0, 50])), [0, -quarter, 0, 0, 0, 0.5], atol=1e-12
    )


def test_an_open_gripper_is_one_to_the_yam_checkpoint_and_zero_to_the_droid_checkpoint():
    contract, yam = frame("yam_bimanual", "yam_dual_molmoact2")
    names = contract.joint_names
    assert (names.index("left_gripper"), names.index("right_gripper"), len(names)) == (6, 13, 14)
    opened = np.zeros(14)
    opened[[6, 13]] = 1.0
    assert yam.to_model(opened)[[6, 13]].tolist() == [1, 1]
    _, droid = frame("franka_droid", "franka_droid")
    assert droid.to_model(np.array([0.0] * 7 + [1.0]))[7] == 0
    assert droid.to_ros(np.array([0.0] * 7 + [1.0]))[7] == 0


def test_grippers_are_brought_back_between_closed_and_open_and_counted_but_arm_joints_are_left_alone():
    _, convert = frame("yam_bimanual", "yam_dual_molmoact2")
    model = np.full((2, 14), 9.0, np.float32)
    model[1, 6] = -0.5
    actions, remarks = convert.actions_to_ros(model)
    assert remarks == ("4 gripper values lay outside 0 .. 1 and were brought back",)
    assert actions[:, [6, 13]].tolist() == [[1, 1], [0, 1]]
    assert (np.delete(actions, [6, 13], axis=1) == 9.0).all()


def test_a_joint_is_brought_back_to_its_limit_from_a_hair_outside_and_left_where_it_is_further_off():
    contract, convert = frame("so101", "so101_sim_molmoact2_tiny")
    lower, upper = contract.values("lower"), contract.values("upper")
    wanted = np.array([lower - 0.009, upper + 0.004, upper + 0.011])
    wanted[:, 5] = 0.5
    actions, remarks = convert.actions_to_ros(convert.to_model(wanted))
    assert remarks == ("10 joint values lay outside the limits, by 0.0090 at most, and were brought back",)
    np.testing.assert_allclose(actions[0, :5], lower[:5], atol=0)
    np.testing.assert_allclose(actions[1, :5], upper[:5], atol=0)
    np.testing.assert_allclose(actions[2, :5], upper[:5] + 0.011, atol=1e-6)
