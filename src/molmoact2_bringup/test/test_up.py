# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 up` with the whole simulated system: real processes, real DDS, a domain of its own for each test."""

import os
import signal
import time
from pathlib import Path

import pytest
import rclpy
from live_system import ROOT, Up
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from molmoact2_bringup.swaying import CHECKPOINT
from molmoact2_bringup.up import with_settings
from molmoact2_contract import ContractError, load_system


@pytest.fixture
def up():
    running: list[Up] = []

    def start(*arguments: str) -> Up:
        running.append(Up(*arguments))
        return running[-1]

    yield start
    for one in running:
        one.stop()


class Operator:
    """Calls the controller's services until one answers as wanted."""

    domain = 89

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.node = rclpy.create_node("operator", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)

    def call_until(self, service, wanted, seconds=30):
        client, deadline = self.node.create_client(Trigger, service), time.monotonic() + seconds
        assert client.wait_for_service(seconds)
        while time.monotonic() < deadline:
            future = client.call_async(Trigger.Request())
            rclpy.spin_until_future_complete(self.node, future, self._executor, timeout_sec=5)
            if future.done() and wanted(future.result()):
                return future.result()
        raise AssertionError(f"{service}: {future.result()}")


@pytest.fixture
def operator():
    operator = Operator()
    yield operator
    operator.node.destroy_node()
    rclpy.shutdown(context=operator.context)


def test_the_arm_follows_chunks_and_ctrl_c_ends_everything_cleanly(up):
    system = up(81, "so101_sim")
    system.wait_for(r"\[arm_controller\].*following: following chunk")
    children = [system.child(name) for name in ("world", "cameras", "arm_controller", "policy", "visualizer")]
    system.process.send_signal(signal.SIGINT)
    assert system.end() == 0, "\n".join(system.lines)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_when_the_policy_is_killed_the_arm_holds_the_controller_says_why_and_up_names_it(up):
    # Its chunks can be followed to their ends whenever they stop.
    system = up(82, "so101_sim", "--set", f"policy.checkpoint={CHECKPOINT}")
    system.wait_for(r"following: following chunk")
    os.kill(system.child("policy"), signal.SIGKILL)
    assert system.end() == 1
    error = system.wait_for(r"^error: ")
    assert "process 'policy' was killed by SIGKILL" in error
    assert "arm 'arm' is holding" in error and "ran out of waypoints of chunk" in error
    system.wait_for(r"\[arm_controller\].*holding: ran out of waypoints of chunk")


def test_when_the_world_is_killed_the_controller_faults_and_up_names_the_world(up):
    system = up(83, "so101_sim")
    system.wait_for(r"following: following chunk")
    os.kill(system.child("world"), signal.SIGKILL)
    assert system.end() == 1
    assert "process 'world' was killed by SIGKILL" in system.wait_for(r"^error: ")
    system.wait_for(r"\[arm_controller\].*fault: .*simulated world")


def test_when_the_controller_is_killed_up_names_it_and_does_not_claim_to_know_the_arm(up):
    system = up(86, "so101_sim")
    system.wait_for(r"following: following chunk")
    os.kill(system.child("arm_controller"), signal.SIGKILL)
    assert system.end() == 1
    error = system.wait_for(r"^error: ")
    assert "process 'arm_controller' was killed by SIGKILL" in error
    assert "its controller is silent; it said last that it was" in error


def test_a_stop_while_starting_is_no_error_and_leaves_nothing_running(up):
    system = up(87, "so101_sim")
    system.wait_for(r"configuring policy")
    children = [system.child(name) for name in ("world", "cameras", "arm_controller", "policy")]
    system.process.send_signal(signal.SIGINT)
    assert system.end() == 0, "\n".join(system.lines)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_a_controller_that_stalls_faults_can_be_cleared_and_goes_on(up, operator):
    system = up(operator.domain, "so101_sim")
    system.wait_for(r"following: following chunk")
    world = system.child("world")    # leads a group, with the process of physics and bus
    os.killpg(world, signal.SIGSTOP)
    system.wait_for(r"\[arm_controller\].*fault: ")
    os.killpg(world, signal.SIGCONT)
    assert operator.call_until("arm/clear_fault", lambda answer: answer.success)
    assert operator.call_until("arm/arm", lambda answer: answer.success)
    system.process.send_signal(signal.SIGINT)
    assert system.end() == 0, "\n".join(system.lines)


def test_a_parameter_a_node_does_not_take_is_named_by_its_process(up):
    system = up(88, "so101_sim", "--set", "cameras.image_width=5")
    assert system.end() == 1
    system.wait_for(r"\[cameras\].*error: cameras: .*image_width")
    assert "process 'cameras' ended with exit code 1" in system.wait_for(r"^error: ")


def test_a_policy_that_cannot_be_configured_ends_the_system_with_its_reason(up):
    system = up(84, "so101_sim", "--set", "policy.norm_tag=no_such_tag")
    assert system.end() == 1
    system.wait_for(r"policy refused to configure")
    system.wait_for(r"\[policy\].*no_such_tag.*so101_sim_molmoact2_tiny")


def test_a_bad_system_is_refused_before_anything_starts(up):
    system = up(85, "no_such_system")
    assert system.end() == 2
    assert "so101_sim" in system.wait_for(r"^error: ")


def test_single_parameters_can_be_changed_and_unknown_ones_are_refused():
    system = load_system(ROOT / "config/systems/so101_sim.yaml")
    changed = with_settings(system, ["policy.depth=full", "world.seed=7"])
    assert changed.process("policy").parameters["depth"] == "full"
    assert changed.process("world").parameters["seed"] == 7
    assert system.process("world").parameters["seed"] == 1
    assert with_settings(system, ["policy.depth=off"]).process("policy").parameters["depth"] == "off"
    empty, unclosed = "world.seed=", "policy.instruction=pick: [up"
    for wrong in ("policy.depht=full", "polcy.depth=full", "depth=full", "policy.depth", empty, unclosed):
        with pytest.raises(ContractError):
            with_settings(system, [wrong])
