# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A leader arm end to end, both arms doubles: the follower is led, a bag is recorded, a data set is made of it."""

import signal
import subprocess
import threading

import numpy as np
import pytest
import rclpy
from live_system import ROOT, Molmoact2, Up
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor

from molmoact2_contract.qos import STATUS
from molmoact2_data.reader import Dataset
from molmoact2_msgs.msg import ControllerStatus, PolicyStatus
from molmoact2_msgs.srv import SetInstruction
from molmoact2_policy.bags.bag import Bag

DOMAIN = 108
PATIENCE = 120.0    # seconds; only a failing test waits that long
SYSTEM = ROOT / "config/systems/so101_teleop_double.yaml"
TASKS = ("stack the cubes", "open the jar")


class Person:
    """Who demonstrates: says what is shown, and sees what the follower does."""

    def __init__(self):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self._node = rclpy.create_node("person", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._news = threading.Condition()
        self.statuses: list[ControllerStatus] = []
        self.leading: list[PolicyStatus] = []
        self._node.create_subscription(ControllerStatus, "arm/status", lambda m: self._keep(self.statuses, m), STATUS)
        self._node.create_subscription(PolicyStatus, "policy/status", lambda m: self._keep(self.leading, m), STATUS)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _keep(self, kept, message):
        with self._news:
            kept.append(message)
            self._news.notify_all()

    def wait(self, condition):
        with self._news:
            last = f"{self.statuses[-1:]} {self.leading[-1:]}"
            assert self._news.wait_for(condition, PATIENCE), f"it did not come; the last was {last}"

    def _call(self, kind, name, request):
        client, done = self._node.create_client(kind, name), threading.Event()
        assert client.wait_for_service(PATIENCE)
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE), f"{name} did not answer"
        return future.result()

    def shows(self, task):
        """Begins an episode and has the follower led through it."""
        assert self._call(
            SetInstruction, "policy/set_instruction", SetInstruction.Request(instruction=task, new_episode=True)
        ).success
        begin = len(self.statuses)

        def led():
            told = [s for s in self.statuses[begin:] if s.state == ControllerStatus.FOLLOWING and len(s.measured)]
            pans = [s.measured[0] for s in told]
            return bool(pans) and max(pans) - min(pans) > 0.5

        self.wait(led)

    def unplugs_the_leader(self):
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="unplug")
        request = SetParameters.Request(parameters=[ParameterMessage(name="fault", value=value)])
        assert self._call(SetParameters, "leader_double/set_parameters", request).results[0].successful

    def close(self):
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def running():
    begun = [Up(DOMAIN, str(SYSTEM))]
    person = Person()

    def record(*arguments):
        begun.append(Molmoact2(DOMAIN, "record", "--system", str(SYSTEM), *arguments))
        return begun[-1]

    yield begun[0], person, record
    person.close()
    for command in reversed(begun):
        if command.process.poll() is None:
            command.process.send_signal(signal.SIGINT)
            command.end()


@pytest.mark.long
def test_what_a_leader_shows_becomes_a_data_set_and_a_leader_that_is_unplugged_stops_its_follower(running, tmp_path):
    up, person, record = running
    up.wait_for("is running", PATIENCE)
    person.wait(lambda: any(status.state == ControllerStatus.FOLLOWING for status in person.statuses))
    recorder = record("--out", str(tmp_path / "bag"))
    recorder.wait_for(r"[1-9]\d* messages", PATIENCE)
    for task in TASKS:
        person.shows(task)
    recorder.process.send_signal(signal.SIGINT)
    assert recorder.end() == 0

    person.unplugs_the_leader()
    person.wait(lambda: "leader: " in person.leading[-1].withheld)
    person.wait(lambda: person.statuses[-1].state == ControllerStatus.HOLDING)
    up.wait_for("leader.*has gone", PATIENCE)
    assert up.end() == 1

    convert = ["molmoact2", "convert", str(tmp_path / "bag"), "--out", str(tmp_path / "data")]
    convert += ["--norm-tag", "so101_sim_molmoact2_tiny"]
    # A busy machine draws the cameras' images late: fewer frames a second lose none.
    made = subprocess.run([*convert, "--fps", "5", "--shortest", "2"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    holds_what_was_shown(Dataset(tmp_path / "data"), tmp_path / "bag")


def holds_what_was_shown(dataset, path):
    with Bag(path) as bag:
        joints = [np.array(m.position) for _, _, m, _ in bag.messages({"/joint_states"})]
        told = [np.array(m.setpoint) for _, _, m, _ in bag.messages({"/arm/status"}) if len(m.setpoint)]
    joints, told = np.array(joints, np.float32), np.array(told, np.float32)
    assert dataset.notes["units"] == "ros" and set(TASKS) <= {episode.task for episode in dataset.episodes}
    for task in TASKS:
        samples = [s for e in dataset.episodes if e.task == task for s in dataset.samples(e)]
        states, actions = np.array([s.state for s in samples]), np.array([s.action for s in samples])
        # A state is one that was measured, an action lies between two setpoints that the controller sent.
        assert np.abs(states[:, None] - joints[None]).max(axis=2).min(axis=1).max() < 1e-6
        assert (actions >= told.min(axis=0) - 1e-6).all() and (actions <= told.max(axis=0) + 1e-6).all()
        assert np.ptp(states[:, 0]) > 0.3 and np.ptp(actions[:, 0]) > 0.3
        for sample in samples:
            assert {name: image.shape for name, image in sample.images.items()} == {
                "front": (240, 320, 3), "wrist": (240, 320, 3)
            }
