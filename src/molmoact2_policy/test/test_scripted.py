# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The scripted policy: its motion by itself, and its node over real DDS."""

from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from molmoact2_contract import ContractError, load_contract
from molmoact2_contract.qos import CHUNK, SENSOR_PUBLISH, STATUS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace
from molmoact2_policy.scripted.node import ScriptedPolicyNode
from molmoact2_policy.scripted.sway import FASTEST, Sway

EMBODIMENTS = Path(__file__).parents[3] / "config/embodiments"
RAISED = [0.3, 0.8, 0.9, 0.1, 0.1, 0.1, 0.5]
ROBOTS = {"so101": None, "yam_single": RAISED, "yam_bimanual": [*RAISED, *RAISED], "franka_droid": None}
STEP = 0.01    # [s]
DOMAIN = 77


@pytest.fixture(params=ROBOTS)
def robot(request):
    contract = load_contract(EMBODIMENTS / f"{request.param}.yaml")
    return contract, Sway(contract, ROBOTS[request.param])


@pytest.mark.parametrize("pose", ["home", "rest"])
def test_arms_come_to_the_sway_from_where_they_are_within_their_limits_and_their_workspace(robot, pose):
    contract, sway = robot
    start = contract.values(pose)
    sway.begin(start, 1000.0)
    table = sway.plan(1000.0 + np.arange(0, 15, STEP))
    assert table[0] == pytest.approx(start)
    assert (table >= contract.values("lower")).all() and (table <= contract.values("upper")).all()
    speed, change = np.diff(table, axis=0) / STEP, np.diff(table, n=2, axis=0) / STEP**2
    assert (np.abs(speed) <= (FASTEST + 0.01) * contract.values("velocity")).all()
    assert (np.abs(change) <= contract.values("acceleration")).all()
    for arm in contract.arms.values():
        columns = [contract.joint_names.index(joint) for joint in arm.joints]
        assert arm.depths(table[:, columns]).max(initial=0.0) == 0.0


def test_every_arm_moves_at_any_time_once_it_has_come_to_the_sway(robot):
    contract, sway = robot
    sway.begin(contract.values("home"), 0.0)
    table = sway.plan(100.0 + np.arange(0, 10, STEP))
    for arm in contract.arms.values():
        columns = [contract.joint_names.index(joint) for joint in arm.joints]
        moved = np.ptp(table[:, columns].reshape(-1, 50, len(columns)), axis=1).max(axis=1)    # of half a second each
        assert moved.min() > 0.02


def test_a_joint_that_is_not_known_is_taken_to_be_on_the_sway():
    contract = load_contract(EMBODIMENTS / "so101.yaml")
    sway = Sway(contract)
    sway.begin(np.full(6, np.nan), 5.0)
    assert np.isfinite(sway.plan(np.array([5.0, 6.0]))).all()


@pytest.mark.parametrize("about", [[0.0, 1.0], [9.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
def test_a_pose_of_another_robot_or_outside_the_limits_is_refused(about):
    with pytest.raises(ValueError, match="6 joints within the contract's limits"):
        Sway(load_contract(EMBODIMENTS / "so101.yaml"), np.array(about))


class Graph:
    """The node, and a robot that hears it, in a context of their own."""

    def __init__(self, **parameters):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        given = {"contract": str(EMBODIMENTS / "so101.yaml"), "norm_tag": "so101_sim_molmoact2_tiny", **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.node = ScriptedPolicyNode(context=self.context, parameter_overrides=overrides)
        self.robot = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        for node in (self.node, self.robot):
            self.executor.add_node(node)
        self.heard = {ActionChunk: [], ReasoningTrace: [], PolicyStatus: []}
        for topic, kind, qos in (("action_chunk", ActionChunk, CHUNK), ("reasoning_trace", ReasoningTrace, TRACE),
                                 ("status", PolicyStatus, STATUS)):
            self.robot.create_subscription(kind, f"policy/{topic}", self.heard[kind].append, qos)

    def until(self, holds, patience=60.0):
        deadline = self.robot.get_clock().now().nanoseconds + patience * 1e9
        while not holds():
            assert self.robot.get_clock().now().nanoseconds < deadline, "it did not come"
            self.executor.spin_once(timeout_sec=0.05)

    def close(self):
        for node in (self.node, self.robot):
            node.destroy_node()
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def start():
    graphs = []

    def make(**parameters):
        graphs.append(Graph(**parameters))
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.close()


def test_a_chunk_begins_where_the_arm_is_while_it_does_not_follow_and_each_has_a_trace(start):
    graph = start(simulation=True)
    where = [0.2, -0.5, 0.6, 1.0, 0.1, 0.3]
    joints = graph.robot.create_publisher(JointState, "joint_states", SENSOR_PUBLISH)
    status = graph.robot.create_publisher(ControllerStatus, "arm/status", STATUS)
    names = list(load_contract(EMBODIMENTS / "so101.yaml").joint_names)
    graph.robot.create_timer(0.05, lambda: joints.publish(JointState(name=names, position=where)))
    graph.robot.create_timer(0.05, lambda: status.publish(ControllerStatus(state=ControllerStatus.HOLDING)))

    def begins_there():
        chunks = graph.heard[ActionChunk]
        return chunks and np.abs(np.array(chunks[-1].positions[:6]) - where).max() < 0.01

    graph.until(begins_there)
    last = graph.heard[ActionChunk][-1].chunk_id
    graph.until(lambda: any(trace.chunk_id == last for trace in graph.heard[ReasoningTrace]))
    trace = next(trace for trace in graph.heard[ReasoningTrace] if trace.chunk_id == last)
    assert trace.depth_mode == ReasoningTrace.DEPTH_OFF and "scripted" in trace.instruction
    graph.until(lambda: graph.heard[PolicyStatus] and graph.heard[PolicyStatus][-1].chunks)
    assert graph.heard[PolicyStatus][-1].episode_id == trace.episode_id


def test_a_real_robot_is_never_moved_by_a_script(start):
    with pytest.raises(ContractError, match="simulations and doubles only"):
        start(simulation=False)
