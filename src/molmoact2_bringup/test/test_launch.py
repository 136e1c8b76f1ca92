# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`ros2 launch` and `molmoact2 up` start the same. Needs launch and launch_ros, which a ROS distribution brings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python

from molmoact2_contract import load_system

pytest.importorskip("launch_ros")

ROOT = Path(__file__).resolve().parents[3]
LAUNCH = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService(argv=[])
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments={"system": sys.argv[2]}.items())])
)
sys.exit(service.run())
"""


@pytest.fixture(params=["launch", "up"])
def running(request, monkeypatch, tmp_path):
    monkeypatch.setenv("ROS_DOMAIN_ID", "91" if request.param == "launch" else "92")
    command = {
        "launch": [sys.executable, "-c", LAUNCH, str(ROOT / "launch/system.launch.py"), "so101_sim"],
        "up": ["molmoact2", "up", "so101_sim"],
    }[request.param]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            command, env=os.environ, start_new_session=True, stdout=output, stderr=subprocess.STDOUT
        )
    rclpy.init()
    node = rclpy.create_node("launch_test")
    yield process, node
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
    node.destroy_node()
    rclpy.shutdown()


def call(node, process, kind, name, request):
    client = node.create_client(kind, name)
    deadline = time.monotonic() + 120
    while not client.wait_for_service(0.5):
        assert process.poll() is None, "the system ended"
        assert time.monotonic() < deadline, f"{name} did not appear"
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=60)
    assert future.done(), f"{name} did not answer"
    node.destroy_client(client)
    return future.result()


def test_every_process_has_the_parameters_of_the_system_file_and_the_policy_is_active(running):
    process, node = running
    system = load_system("so101_sim")
    for part in system.processes:
        names = sorted(part.parameters)
        answer = call(node, process, GetParameters, f"{part.name}/get_parameters", GetParameters.Request(names=names))
        assert {n: parameter_value_to_python(v) for n, v in zip(names, answer.values, strict=True)} == part.parameters
    deadline = time.monotonic() + 120
    while True:
        state = call(node, process, GetState, "policy/get_state", GetState.Request()).current_state.id
        if state == State.PRIMARY_STATE_ACTIVE:
            break
        assert process.poll() is None and time.monotonic() < deadline, f"policy is in state {state}"
    os.killpg(process.pid, signal.SIGINT)    # as Ctrl-C in a terminal does
    assert process.wait(60) == 0


def test_when_the_policy_is_killed_the_whole_system_ends_and_it_is_named(running, tmp_path):
    process, node = running
    call(node, process, GetState, "policy/get_state", GetState.Request())
    children = [child(process, name) for name in ("world", "cameras", "arm_controller", "policy")]
    os.kill(children[-1], signal.SIGKILL)
    process.wait(60)
    lines = (tmp_path / "output").read_text().splitlines()
    ends = [line for line in lines if "has died" in line or "was killed" in line]
    assert "policy" in ends[0]
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def child(process: subprocess.Popen, node_name: str) -> int:
    """Process id of the child that runs a node, found by its command line."""
    command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return next(int(line.split(None, 1)[0]) for line in out.splitlines() if f"__node:={node_name}" in line)
