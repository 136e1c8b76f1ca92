# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The world node over real DDS, in a domain of its own."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from watcher import CONTRACT, Program, Watcher, wait_until

from molmoact2_contract.qos import SUCCESS_TESTS
from molmoact2_msgs.msg import SuccessTest
from mujoco_driver.bus import BusClient, BusError
from mujoco_driver.world_node import WorldNode

DOMAIN = 71


def make_world(watcher: Watcher, address: Path) -> WorldNode:
    overrides = [Parameter("contract", value=str(CONTRACT)), Parameter("address", value=str(address))]
    world = WorldNode(context=watcher.context, parameter_overrides=overrides)
    watcher.spin(world)
    return world


@pytest.fixture
def watcher():
    watcher = Watcher(DOMAIN)
    watcher.listen(SuccessTest, "success_tests", SUCCESS_TESTS)
    yield watcher
    watcher.close()


@pytest.fixture
def world(watcher, tmp_path):
    world = make_world(watcher, tmp_path / "world.sock")
    yield world
    world.close()
    world.destroy_node()


@pytest.fixture
def bus_client(world):
    client = BusClient(world.address, timeout=5.0)
    yield client
    client.close()


def test_reset_places_the_cubes_anew(watcher, bus_client):
    before = bus_client.state()
    future = watcher.node.create_client(Trigger, "world/reset").call_async(Trigger.Request())
    watcher.until(future.done, "no answer")
    assert future.result().success and "seed 2" in future.result().message
    after = bus_client.state()
    assert after.seed == before.seed + 1
    assert np.abs(after.qpos - before.qpos).max() > 0.01
    assert np.abs(after.qpos[:6] - before.qpos[:6]).max() < 0.05, "the arm must stay where it is"


def test_a_seed_begins_the_scene_anew_with_the_arm_as_it_was(world, bus_client):
    start = bus_client.state()
    assert world.set_parameters([Parameter("seed", value=7)])[0].successful
    other = bus_client.state()
    assert other.seed == 7 and np.abs(other.qpos[6:] - start.qpos[6:]).max() > 0.01
    bus_client.write([(0, 0.5)])
    wait_until(lambda: bus_client.state().qpos[0] > 0.3, "the arm does not move")
    # A goal that stands still is one that nobody gives any more; the arm was left elsewhere.
    wait_until(lambda: world.set_parameters([Parameter("seed", value=start.seed)])[0].successful, "it is refused")
    again = bus_client.state()
    assert again.seed == start.seed
    np.testing.assert_allclose(again.qpos, start.qpos, atol=2e-3)


def test_an_arm_that_is_commanded_does_not_find_itself_elsewhere(world, bus_client):
    before = bus_client.state()
    bus_client.write([(0, float(before.qpos[0]))])
    refused = world.set_parameters([Parameter("seed", value=7)])[0]
    assert not refused.successful and "the arm is commanded; disarm it first" in refused.reason
    assert bus_client.state().seed == before.seed


def test_a_test_of_success_for_each_cube_is_published_again_and_again(watcher, world):
    seen = watcher.next("success_tests", 27)
    tests = ("touched", "lifted", "in the tray")
    cubes = ("red", "green", "blue")
    assert {message.name for message in seen} == {f"the {cube} cube is {test}" for cube in cubes for test in tests}
    assert not any(message.holds for message in seen)
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in seen]
    assert len(set(stamps)) >= 3 and stamps == sorted(stamps)


def test_a_fault_of_the_bus_can_be_set_while_running_and_an_unknown_one_is_refused(world, bus_client):
    assert world.set_parameters([Parameter("bus_fault", value="nan")])[0].successful
    assert np.isnan(bus_client.read()[1][0])
    refused = world.set_parameters([Parameter("bus_fault", value="purple")])[0]
    assert not refused.successful and "must be one of ok, silent" in refused.reason
    assert np.isnan(bus_client.read()[1][0])
    assert world.set_parameters([Parameter("bus_fault", value="ok")])[0].successful
    assert np.isfinite(bus_client.read()[1]).all()


def test_a_world_that_stands_still_is_diagnosed_states_no_success_and_goes_on(watcher, world):
    watcher.diagnosis(lambda s: s.level != DiagnosticStatus.ERROR, "it is not well to begin with")
    os.kill(world.client.pid, signal.SIGSTOP)
    watcher.diagnosis(lambda s: s.level == DiagnosticStatus.ERROR and "did not answer" in s.message, "not diagnosed")
    before = len(watcher.seen["success_tests"])
    watcher.diagnosis(lambda s: s.level == DiagnosticStatus.ERROR, "not diagnosed again")
    assert len(watcher.seen["success_tests"]) == before
    assert not world.set_parameters([Parameter("bus_fault", value="nan")])[0].successful
    os.kill(world.client.pid, signal.SIGCONT)
    watcher.next("success_tests")
    watcher.diagnosis(lambda s: s.level != DiagnosticStatus.ERROR, "it does not recover")


def test_a_second_world_on_the_same_bus_is_refused_by_name(watcher, world):
    with pytest.raises(BusError, match="another world serves"):
        make_world(watcher, Path(world.address))


def test_when_the_process_of_physics_dies_the_node_ends_and_names_it(start, tmp_path):
    program = start("world", DOMAIN, address=str(tmp_path / "world.sock"))
    address = str(tmp_path / "world.sock")
    wait_until(lambda: reachable(address), "no world appeared")
    os.kill(physics(program), signal.SIGKILL)
    program.process.wait(60)
    code, errors = program.end()
    assert code == 1
    assert "error: world: the process of physics and servo bus ended with exit code -9" in errors


def test_the_process_of_physics_loads_neither_ros_nor_what_draws(start, tmp_path):
    address = str(tmp_path / "world.sock")
    program = start("world", DOMAIN, address=address)
    wait_until(lambda: reachable(address), "no world appeared")
    loaded = Path(f"/proc/{physics(program)}/maps").read_text()
    program.end()
    assert "libmujoco" in loaded
    assert not [name for name in ("rclpy", "librcl", "librmw", "libEGL", "libGL") if name in loaded]


def test_when_the_node_is_killed_the_process_of_physics_ends_too(start, tmp_path):
    address = str(tmp_path / "world.sock")
    program = start("world", DOMAIN, address=address)
    wait_until(lambda: reachable(address), "no world appeared")
    children = program.children()
    assert physics(program) in children
    program.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "a process was left")
    assert not Path(address).exists(), "the socket was left"


def test_a_node_that_is_asked_to_end_leaves_nothing(start, tmp_path):
    address = str(tmp_path / "world.sock")
    program = start("world", DOMAIN, address=address)
    wait_until(lambda: reachable(address), "no world appeared")
    children = program.children()
    code, errors = program.end()
    assert code == 0 and "error" not in errors
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "a process was left")
    assert not Path(address).exists(), "the socket was left"


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"scene": "moon"}, "scene 'moon' is not there; there are: "),
        ({"seed": "-1"}, "seed"),
        ({"bus_fault": "purple"}, "bus_fault is 'purple'; it must be one of ok, silent"),
        ({"contract": "nobody"}, "nobody"),
    ],
)
def test_a_parameter_that_cannot_be_is_named_and_ends_the_node(start, tmp_path, parameters, named):
    program = start("world", DOMAIN, address=str(tmp_path / "world.sock"), **parameters)
    program.process.wait(60)
    code, errors = program.end()
    assert code == 1 and "error: world: " in errors and named in errors


def reachable(address: str) -> bool:
    try:
        BusClient(address, timeout=1.0).close()
    except BusError:
        return False
    return True


def physics(program: Program) -> int:
    """Process id of the world's own process: the child that is not the resource tracker of multiprocessing."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in program.children()}
    return next(pid for pid, command in commands.items() if "spawn_main" in command)
