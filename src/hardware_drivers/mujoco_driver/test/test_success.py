# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mujoco_driver.scene import CUBE_HALF, TRAY_CENTRE
from mujoco_driver.success import success_tests


def with_cube(world, cube: str, place) -> np.ndarray:
    """The world's state with a cube's centre elsewhere [m]."""
    qpos = world.state().qpos
    start = world.scene.model.joint(cube).qposadr[0]
    qpos[start : start + 3] = place
    return qpos


def test_there_is_a_test_for_each_cube_and_none_holds_while_they_lie_on_the_table(still_world):
    tests = success_tests(still_world.scene, still_world.state().qpos)
    assert tests == {f"the {colour} cube is lifted": False for colour in ("red", "green", "blue")}


@pytest.mark.parametrize("cube", ["red", "green", "blue"])
def test_a_cube_that_is_lifted_by_3_cm_is_and_the_others_are_not(still_world, cube):
    tests = success_tests(still_world.scene, with_cube(still_world, cube, [0.2, 0.0, CUBE_HALF + 0.0301]))
    assert [name for name, holds in tests.items() if holds] == [f"the {cube} cube is lifted"]
    tests = success_tests(still_world.scene, with_cube(still_world, cube, [0.2, 0.0, CUBE_HALF + 0.0299]))
    assert not any(tests.values())


def test_a_cube_in_the_tray_or_on_another_one_is_not_lifted(still_world):
    still_world._data.qpos[:] = with_cube(still_world, "red", [*TRAY_CENTRE, 0.02])
    red = still_world.state().qpos[still_world.scene.model.joint("green").qposadr[0] :][:3]
    still_world._data.qpos[:] = with_cube(still_world, "blue", [red[0], red[1], 3 * CUBE_HALF])
    still_world.advance(60)
    assert not any(success_tests(still_world.scene, still_world.state().qpos).values())


def test_a_state_that_is_not_a_number_is_no_success(still_world):
    assert not any(success_tests(still_world.scene, with_cube(still_world, "red", [np.nan] * 3)).values())
