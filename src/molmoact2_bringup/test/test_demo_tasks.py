# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which tasks a demo gives."""

from molmoact2_bringup.demo.tasks import TABLETOP, tasks_for
from molmoact2_contract import load_system
from mujoco_driver.scene import build
from mujoco_driver.success import TASKS, TESTS


def test_the_tasks_of_the_tabletop_have_tests_that_its_scene_publishes():
    scene = build("so101_tabletop")
    published = {TESTS[task].format(cube) for task in TASKS for cube in scene.cubes}
    tasks = tasks_for(load_system("so101_sim"), [], 30.0)
    assert tasks is TABLETOP and {task.test for task in tasks} <= published


def test_instructions_of_ones_own_share_the_time():
    tasks = tasks_for(load_system("so101_sim"), ["touch the red cube", "touch the blue cube"], 30.0)
    assert [(task.instruction, task.test, task.limit) for task in tasks] == [
        ("touch the red cube", "", 15.0), ("touch the blue cube", "", 15.0)
    ]
