# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Hand guiding. Where physics is judged the world is stepped by the test, not by the clock."""

import numpy as np
import pytest
from watcher import wait_until

from mujoco_driver.bus import BusClient, BusError
from mujoco_driver.world import World

SECOND = 300    # [steps]
PUSH = 4.0      # [N] at the gripper, sideways


def push(world: World, newtons: float, steps: int) -> None:
    """Pushes the gripper along y."""
    gripper = world.scene.model.body("gripper").id
    world._data.xfrc_applied[gripper] = [0, newtons, 0, 0, 0, 0]
    world.advance(steps)
    world._data.xfrc_applied[gripper] = 0


def guide(world: World) -> None:
    for index in range(len(world.servos)):
        world.guide(index)


def positions(world: World) -> np.ndarray:
    return world.read()[1]


def test_a_guided_arm_follows_a_push_and_an_unguided_one_holds(still_world):
    def pushed() -> float:
        """How far the gripper goes [m]."""
        before = float(still_world._data.body("gripper").xpos[1])
        push(still_world, PUSH, SECOND)
        return float(still_world._data.body("gripper").xpos[1]) - before

    still_world.advance(SECOND)
    assert abs(pushed()) < 0.02
    still_world.advance(SECOND)
    guide(still_world)
    assert pushed() > 0.06


@pytest.mark.parametrize("pose", ["home", "rest"])
def test_a_guided_arm_stays_where_it_is_left(still_world, contract, pose):
    wanted = dict(zip(contract.joint_names, contract.values(pose), strict=True))
    for index, servo in enumerate(still_world.servos[:-1]):
        still_world.set_goal(index, wanted[servo.name])
    still_world.advance(3 * SECOND)
    guide(still_world)
    push(still_world, PUSH, SECOND // 2)
    still_world.advance(SECOND // 2)
    left = positions(still_world)
    still_world.advance(20 * SECOND)
    assert np.abs(positions(still_world) - left).max() < 0.01


def test_the_next_goal_takes_a_servo_back_and_only_that_one(still_world):
    still_world.advance(SECOND)
    guide(still_world)
    still_world.advance(SECOND)
    lift = still_world._dofs[1]
    assert still_world._data.qfrc_applied[lift] != 0, "its weight is not carried"
    before = positions(still_world)
    for index in (0, 1):
        still_world.set_goal(index, before[index])
    assert still_world._data.qfrc_applied[lift] == 0 and still_world._yielding[2:].all()
    push(still_world, PUSH, SECOND)
    assert np.abs(positions(still_world)[:2] - before[:2]).max() < 0.08
    still_world.set_goal(0, 0.5)
    still_world.advance(3 * SECOND)
    assert positions(still_world)[0] == pytest.approx(0.5, abs=0.02)


def test_the_driver_guides_its_arm_and_a_write_takes_it_back(driver, world, contract):
    driver.guide()
    assert world._yielding.all()
    driver.read()
    assert world._yielding.all(), "reading must not take it back"
    goal = contract.values("home") + np.array([0.3, 0, 0, 0, 0, 0])
    driver.write(goal)
    assert not world._yielding.any()
    wait_until(lambda: np.abs(driver.read().positions - goal).max() < 0.05, "the arm did not reach its goal")


def test_a_stop_ends_guiding_where_the_arm_is(driver, world):
    driver.guide()
    before = driver.read().positions
    driver.stop()
    assert not world._yielding.any()
    assert np.abs(driver.read().positions - before).max() < 0.05


def test_servos_that_another_connection_moves_cannot_be_guided(bus, driver, client, world, contract):
    driver.write(contract.values("home"))
    with pytest.raises(BusError, match="another connection"):
        client.guide([5, 0])
    assert not world._yielding.any()


def test_guided_servos_cannot_be_moved_by_another_connection(driver, client, world):
    driver.guide()
    with pytest.raises(BusError, match="another connection"):
        client.write([(0, 0.1)])
    assert world._yielding.all()


@pytest.mark.parametrize(("servos", "named"), [([17], "servo 17 is not there"), ([], "whole number")])
def test_servos_that_are_not_there_cannot_be_guided(client, world, servos, named):
    with pytest.raises(BusError, match=named):
        client.guide(servos)
    assert not world._yielding.any()


def test_a_guided_arm_goes_on_yielding_when_the_controller_dies(bus, driver, world):
    driver.guide()
    driver.close()
    other = BusClient(bus.address, timeout=5.0)

    def taken_over() -> bool:
        try:
            other.guide([0])
        except BusError:
            return False
        return True

    wait_until(taken_over, "the servos stayed taken")
    assert world._yielding.all()
    other.close()
