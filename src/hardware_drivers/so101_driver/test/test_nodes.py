# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The nodes `double` and `leader` over real DDS, in a domain of their own, and the system files that start them."""

import numpy as np
import pytest
import rclpy
from arm_rig import CONTRACT, until
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from arm_controller.driver import make_driver
from molmoact2_contract import load_system
from molmoact2_contract.qos import CHUNK, SENSOR_PUBLISH, STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus
from molmoact2_msgs.srv import ResetEpisode, SetInstruction
from so101_driver.calibration import MOTORS
from so101_driver.double.node import DoubleNode
from so101_driver.driver import SO101Driver
from so101_driver.leader_node import LeaderNode

DOMAIN = 76
SYSTEMS = CONTRACT.parents[1] / "systems"
TAG = "so100_so101_molmoact2"


class Graph:
    """A ROS context of its own, and an executor that is spun by hand."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []

    def add(self, kind, **parameters):
        overrides = [Parameter(name, value=value) for name, value in {"contract": str(CONTRACT), **parameters}.items()]
        node = kind(context=self.context, parameter_overrides=overrides)
        self.executor.add_node(node)
        self.nodes.append(node)
        return node

    def until(self, holds):
        def there():
            self.executor.spin_once(timeout_sec=0.05)
            return holds()

        until(there)

    def close(self):
        for node in reversed(self.nodes):
            if hasattr(node, "close"):
                node.close()
            node.destroy_node()
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.close()


def test_the_doubles_faults_are_a_parameter_and_an_unknown_one_is_refused_with_those_there_are(graph, tmp_path):
    node = graph.add(DoubleNode, link=str(tmp_path / "bus"), plant="point")
    assert node.set_parameters([Parameter("fault", value="silent 3")])[0].successful
    assert node._port.bus.spoiling.silent == {3}
    refused = node.set_parameters([Parameter("fault", value="silent 9")])[0]
    assert not refused.successful and "there is no servo 9" in refused.reason
    refused = node.set_parameters([Parameter("fault", value="burn")])[0]
    assert not refused.successful and "overload ID" in refused.reason


@pytest.fixture
def leading(graph, tmp_path):
    """A leader node on a double, and a follower that is told of by hand."""
    link = str(tmp_path / "leader")
    graph.add(DoubleNode, link=link, plant="point")
    leader = graph.add(LeaderNode, port=link, calibration="double", norm_tag=TAG, instruction="stack the cubes")
    follower = rclpy.create_node("follower", context=graph.context)
    graph.executor.add_node(follower)
    graph.nodes.append(follower)
    graph.chunks, graph.statuses, graph.poses = [], [], []
    follower.create_subscription(ActionChunk, "policy/action_chunk", graph.chunks.append, CHUNK)
    follower.create_subscription(PolicyStatus, "policy/status", graph.statuses.append, STATUS)
    follower.create_subscription(JointState, "leader/joint_states", graph.poses.append, SENSOR_PUBLISH)
    graph.client = follower.create_client(SetInstruction, "policy/set_instruction")
    states = follower.create_publisher(ControllerStatus, "arm/status", STATUS)
    joints = follower.create_publisher(JointState, "joint_states", SENSOR_PUBLISH)
    home = leader._contract.values("home", MOTORS).tolist()
    graph.home = home
    follower.create_timer(0.05, lambda: joints.publish(JointState(name=list(MOTORS), position=home)))
    graph.says = lambda state: states.publish(ControllerStatus(state=state))
    return graph


def test_a_leader_shows_itself_and_sends_chunks_only_while_the_follower_is_armed(leading):
    leading.says(ControllerStatus.DISARMED)
    leading.until(lambda: len(leading.poses) > 5 and leading.statuses)
    assert leading.statuses[-1].instruction == "stack the cubes" and not leading.chunks
    leading.says(ControllerStatus.HOLDING)
    leading.until(lambda: leading.chunks)
    chunk = leading.chunks[0]
    table = np.array(chunk.positions).reshape(chunk.horizon, 6)
    assert tuple(chunk.joint_names) == MOTORS and chunk.episode_id == leading.statuses[-1].episode_id
    assert np.abs(table[0] - leading.home).max() < 0.1


def test_an_instruction_for_the_leader_begins_an_episode(leading):
    leading.until(lambda: leading.statuses)
    before = leading.statuses[-1].episode_id
    answer = leading.client.call_async(SetInstruction.Request(instruction="open the jar", new_episode=True))
    leading.until(lambda: leading.statuses[-1].instruction == "open the jar" and answer.done())
    assert leading.statuses[-1].episode_id not in ("", before)


def leader_at(leading, joint, angle):
    """A hand moves a joint of the leader's double."""
    port = leading.nodes[0]._port
    with port.lock:
        port.bus.servos[0]._plant.push(MOTORS.index(joint), angle)


def test_a_leader_far_from_the_follower_sends_nothing_and_says_why(leading):
    leader_at(leading, "shoulder_pan", 1.2)
    leading.says(ControllerStatus.HOLDING)
    leading.until(lambda: leading.statuses and "shoulder_pan is 1.20 rad" in leading.statuses[-1].withheld)
    assert not leading.chunks
    leader_at(leading, "shoulder_pan", 0.1)
    leading.until(lambda: leading.chunks)
    leading.until(lambda: not leading.statuses[-1].withheld)


def test_a_leader_that_is_let_go_stops_leading_at_once_and_a_reset_begins_anew(leading):
    leading.says(ControllerStatus.FOLLOWING)
    leading.until(lambda: leading.chunks)
    leader_at(leading, "elbow_flex", -1.6)
    leading.until(lambda: "elbow_flex moved at" in leading.statuses[-1].withheld)
    sent = len(leading.chunks)
    leader_at(leading, "elbow_flex", leading.home[MOTORS.index("elbow_flex")])
    seen = len(leading.poses)
    leading.until(lambda: len(leading.poses) > seen + 5)
    assert len(leading.chunks) == sent
    leading.says(ControllerStatus.HOLDING)
    leading.nodes[1]._reset(ResetEpisode.Request(), ResetEpisode.Response())
    leading.until(lambda: len(leading.chunks) > sent)


def test_a_leader_that_is_unplugged_falls_silent_names_itself_and_ends(leading):
    leading.says(ControllerStatus.FOLLOWING)
    leading.until(lambda: leading.chunks)
    leading.nodes[0]._port.spoil("unplug")
    leading.until(lambda: leading.statuses[-1].withheld.startswith("leader: "))
    sent = len(leading.chunks)
    leading.until(lambda: leading.nodes[1].error)
    assert "has gone" in leading.nodes[1].error and len(leading.chunks) == sent


@pytest.mark.parametrize("name", ["so101", "so100", "so101_teleop"])
def test_a_real_arm_starts_in_shadow_mode_unarmed_and_without_depth(name):
    system = load_system(str(SYSTEMS / f"{name}.yaml"))
    controller = system.process("arm_controller").parameters
    assert not system.simulation and controller["shadow"] is True and controller["auto_arm"] is False
    policies = [process for process in system.processes if process.name == "policy"]
    assert all(policy.parameters["depth"] == "off" for policy in policies)


def test_the_doubles_system_drives_the_same_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    system = load_system(str(SYSTEMS / "so101_double.yaml"))
    controller = system.process("arm_controller").parameters
    assert system.simulation and controller["driver"] == "so101"
    arm = system.contract.arm("arm")
    driver = make_driver(controller["driver"], system.contract, arm, controller["driver_options"])
    assert isinstance(driver, SO101Driver)
