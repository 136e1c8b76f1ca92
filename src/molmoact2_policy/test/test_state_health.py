# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from tiny_robot import CONTRACT, JOINTS, LOWER, POSITIONS, SECOND, TAG, UPPER, compressed, image, joint_state, picture

from molmoact2_policy.ingest import Ingest, Observation
from molmoact2_policy.state_health import StateHealth

INGEST = Ingest(CONTRACT, TAG)
NOW = 1000 * SECOND


def seen(stamp_ns: int = NOW, **changed: float) -> Observation:
    images = [image(picture(1), stamp_ns), compressed(picture(2), stamp_ns)]
    return INGEST.observation(images, [joint_state(stamp_ns, **changed)], "joint_states")


@pytest.fixture
def watch():
    """Both controllers measure what the joint states say."""
    health = StateHealth(CONTRACT)
    health.measured("lower", NOW, LOWER, [POSITIONS[j] for j in LOWER])
    health.measured("upper", NOW, UPPER, [POSITIONS[j] for j in UPPER])
    return health


def test_joint_states_that_agree_with_the_controllers_are_no_problem(watch):
    assert watch.problem(seen()) == ""


def test_without_a_controller_nothing_is_known_to_be_wrong():
    assert StateHealth(CONTRACT).problem(seen(**{JOINTS[0]: 9.0})) == ""


@pytest.mark.parametrize("joint", [LOWER[0], UPPER[0]])
def test_a_joint_far_from_where_its_controller_measures_it_is_named(watch, joint):
    text = watch.problem(seen(**{joint: POSITIONS[joint] + 1.5}))
    assert f"joint {joint!r}" in text
    assert "by its controller" in text


def test_an_arm_may_have_moved_as_fast_as_it_may_between_the_two_measurements(watch):
    joint, speed = LOWER[0], CONTRACT.joints[LOWER[0]].velocity
    farther = POSITIONS[joint] + CONTRACT.joints[joint].tracking + 0.4 * speed
    assert watch.problem(seen(NOW + SECOND // 2, **{joint: farther})) == ""
    assert watch.problem(seen(NOW + SECOND // 4, **{joint: farther})) != ""


@pytest.mark.parametrize(("arm", "joints"), [("lower", LOWER), ("upper", UPPER)])
def test_joint_states_of_one_arm_that_repeat_themselves_while_its_controller_measures_motion_are_named(
    watch, arm, joints
):
    assert watch.problem(seen()) == ""
    assert watch.problem(seen(NOW + 1)) == ""
    moved = [POSITIONS[j] + 0.1 * CONTRACT.joints[j].tracking for j in joints]
    watch.measured(arm, NOW + SECOND // 10, joints, moved)
    others = {j: POSITIONS[j] + 0.001 for j in (*LOWER, *UPPER) if j not in joints}
    assert f"repeat themselves while arm {arm!r} moves" in watch.problem(seen(NOW + SECOND // 10, **others))
    assert watch.problem(seen(NOW + SECOND // 5, **{joints[0]: moved[0]})) == ""


def test_motion_from_before_the_joint_states_came_to_rest_is_no_freeze(watch):
    later = NOW + SECOND // 2
    assert watch.problem(seen(later)) == ""    # what was measured is of before
    assert watch.problem(seen(later + 1)) == ""
    for i in range(1, 4):
        rest = [POSITIONS[j] + 0.1 * CONTRACT.joints[j].tracking for j in LOWER]
        watch.measured("lower", later + i, LOWER, rest)
        assert watch.problem(seen(later + i)) == ""


def test_joint_states_of_an_arm_at_rest_may_repeat_themselves(watch):
    assert [watch.problem(seen(NOW + i)) for i in range(5)] == [""] * 5
