# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import mujoco
import numpy as np
import pytest

from mujoco_driver.scene import CUBE_HALF, TRAY_CENTRE
from mujoco_driver.success import ABOVE, HELD_NS, LIFTED, SIDEWAYS, Held, success_tests

COLOURS = ("red", "green", "blue")


def with_cube(world, cube: str, place, opening: float | None = None) -> np.ndarray:
    """The world's state with a cube's centre elsewhere [m], and the gripper open by a share of its range."""
    qpos = world.state().qpos
    start = world.scene.model.joint(cube).qposadr[0]
    qpos[start : start + 3] = place
    if opening is not None:
        gripper = world.scene.model.joint("gripper")
        qpos[gripper.qposadr[0]] = gripper.range[0] + opening * (gripper.range[1] - gripper.range[0])
    return qpos


def site(world, name: str) -> np.ndarray:
    data = mujoco.MjData(world.scene.model)
    data.qpos[:] = world.state().qpos
    mujoco.mj_kinematics(world.scene.model, data)
    return data.site(name).xpos.copy()


def those_that_hold(world, qpos) -> list[str]:
    return [name for name, holds in success_tests(world.scene, qpos).items() if holds]


def test_there_are_three_tests_for_each_cube_and_none_holds_while_they_lie_on_the_table(still_world):
    tests = success_tests(still_world.scene, still_world.state().qpos)
    phrases = ("touched", "lifted", "in the tray")
    assert tests == {f"the {colour} cube is {phrase}": False for phrase in phrases for colour in COLOURS}


@pytest.mark.parametrize("cube", COLOURS)
def test_a_cube_between_the_jaws_and_off_the_table_is_lifted_and_the_others_are_not(still_world, cube):
    assert site(still_world, "grasp")[2] > CUBE_HALF + LIFTED    # at home the hand is high
    assert those_that_hold(still_world, with_cube(still_world, cube, site(still_world, "grasp"))) == [
        f"the {cube} cube is lifted"
    ]


def test_a_cube_that_is_high_but_not_between_the_jaws_or_between_them_but_low_is_not_lifted(still_world):
    aside = site(still_world, "grasp") + [0.0, 0.031, 0.0]
    assert those_that_hold(still_world, with_cube(still_world, "red", aside)) == []
    low = with_cube(still_world, "red", site(still_world, "grasp"))
    low[still_world.scene.model.joint("red").qposadr[0] + 2] = CUBE_HALF + LIFTED - 0.001
    assert those_that_hold(still_world, low) == []


def test_a_cube_is_touched_where_the_fingertip_is_just_above_its_upper_face(still_world, monkeypatch):
    tip = site(still_world, "gripperframe")
    # A table as high as the hand, so that a cube under the tip lies on it.
    monkeypatch.setattr(type(still_world.scene), "half", lambda scene, cube: tip[2] - ABOVE / 2)
    under, touched = np.array([tip[0], tip[1], 0.0]), "the blue cube is touched"
    assert touched in those_that_hold(still_world, with_cube(still_world, "blue", under))
    for beside in ([SIDEWAYS + 0.001, 0, 0], [0, 0, tip[2]]):
        assert touched not in those_that_hold(still_world, with_cube(still_world, "blue", under + beside))


def test_a_cube_is_in_the_tray_once_the_gripper_has_let_go(still_world):
    inside = [*TRAY_CENTRE, 0.02]
    assert those_that_hold(still_world, with_cube(still_world, "red", inside, opening=0.8)) == [
        "the red cube is in the tray"
    ]
    assert those_that_hold(still_world, with_cube(still_world, "red", inside, opening=0.1)) == []


def test_a_state_that_is_not_a_number_is_no_success(still_world):
    assert those_that_hold(still_world, with_cube(still_world, "red", [np.nan] * 3)) == []


def test_only_what_holds_for_a_while_without_a_break_is_success():
    held, tenth = Held(), HELD_NS // 10
    seen = [held.update(k * tenth, {"lifted": k != 4, "touched": False}) for k in range(20)]
    assert [k for k, tests in enumerate(seen) if tests["lifted"]] == list(range(15, 20))
    assert not any(tests["touched"] for tests in seen)
    assert not held.update(0, {"lifted": True, "touched": True})["lifted"]    # the clock was set back
