# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 up NAME --double`: for each robot the real driver moves a double of its device."""

import os
import signal
import time

import pytest
import rclpy
import yaml
from live_system import ROOT, Up
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState

from molmoact2_contract import load_system
from molmoact2_contract.qos import CHUNK, SENSOR_SUBSCRIBE, TRACE
from molmoact2_msgs.msg import ActionChunk, ReasoningTrace

DOMAINS = {"so101": 141, "so100": 142, "yam_bimanual": 113, "yam_single": 114, "franka_droid": 116}
MOVED = 0.02    # [rad] that a joint of each arm must turn


@pytest.mark.parametrize("name", DOMAINS)
def test_for_each_robot_there_is_a_system_of_its_double_with_the_same_contract_driver_and_arms(name):
    real, double = load_system(name), load_system(f"{name}_double")
    assert not real.simulation and double.simulation and double.contract.path == real.contract.path

    def drivers(system):
        return {p.parameters["arm"]: p.parameters["driver"] for p in system.processes if "driver" in p.parameters}

    assert drivers(double) == drivers(real)


class Listener:
    """Hears chunks, traces and joints of a robot in a domain."""

    def __init__(self, domain, contract):
        self._contract = contract
        self.chunks, self.traces = {}, {}
        self._first, self._last = {}, {}
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("listener", context=self._context)
        listen = self._node.create_subscription
        listen(ActionChunk, "policy/action_chunk", lambda m: self.chunks.update({m.chunk_id: m}), CHUNK)
        listen(ReasoningTrace, "policy/reasoning_trace", lambda m: self.traces.update({m.chunk_id: m}), TRACE)
        listen(JointState, "joint_states", self._on_joints, SENSOR_SUBSCRIBE)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def _on_joints(self, message):
        self._last.update(zip(message.name, message.position, strict=True))
        self._first = {**self._last, **self._first}

    def moved(self, arm):
        """Of the joint of an arm that lies farthest from where it was seen first [rad]."""
        joints = [name for name in self._contract.arm(arm).joints if not self._contract.joints[name].is_gripper]
        return max((abs(self._last[j] - self._first[j]) for j in joints if j in self._last), default=0.0)

    def until(self, done, system, seconds=120):
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline and system.process.poll() is None, "\n".join(system.lines)
            self._executor.spin_once(timeout_sec=0.1)

    def close(self):
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def comes_alive_and_ends(domain, name, contract):
    """Chunks come in and a trace of one goes out, every arm moves, and Ctrl-C ends all of it in order."""
    listener, system = Listener(domain, contract), Up(domain, name, "--double")
    try:
        listener.until(lambda: listener.chunks.keys() & listener.traces.keys(), system)
        number = (listener.chunks.keys() & listener.traces.keys()).pop()
        chunk, trace = listener.chunks[number], listener.traces[number]
        assert tuple(chunk.joint_names) == contract.joint_names and chunk.episode_id == trace.episode_id
        for arm in contract.arms:
            listener.until(lambda arm=arm: listener.moved(arm) > MOVED, system)
        system.process.send_signal(signal.SIGINT)
        assert system.end() == 0, "\n".join(system.lines)
    finally:
        system.process.kill()
        listener.close()


# Two YAM drivers at 250 Hz, their doubles, a world and its cameras need more than two cores in real time.
MANY = pytest.mark.skipif((os.cpu_count() or 1) < 4, reason="two arms with their doubles need four cores")
MARKS = {"so101": [pytest.mark.long], "so100": [pytest.mark.long], "yam_bimanual": [MANY]}


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in DOMAINS])
def test_chunks_come_in_traces_go_out_the_arms_move_and_ctrl_c_ends_everything_cleanly(name):
    comes_alive_and_ends(DOMAINS[name], name, load_system(f"{name}_double").contract)


def test_the_so101s_driver_and_bus_follow_chunks_without_a_world_too(tmp_path):
    """What the suite can afford each time: no physics, no cameras, a script in the policy's place."""
    content = yaml.safe_load((ROOT / "config/systems/so101_double.yaml").read_text())
    processes = {name: content["processes"][name] for name in ("double", "arm_controller", "policy")}
    processes["double"]["parameters"]["plant"] = "point"
    tag = processes["policy"]["parameters"]["norm_tag"]
    processes["policy"].update(executable="scripted_policy", lifecycle=False, parameters={"norm_tag": tag})
    (tmp_path / "mine_double.yaml").write_text(yaml.safe_dump({**content, "processes": processes}, sort_keys=False))
    comes_alive_and_ends(143, str(tmp_path / "mine.yaml"), load_system("so101_double").contract)
