# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 task` against the whole simulated system: one running system for all of them, in a domain of its own."""

import os
import signal
import threading

import pytest
import rclpy
from live_system import Molmoact2, Up
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from molmoact2_bringup import task_command
from molmoact2_bringup.swaying import CHECKPOINT
from molmoact2_bringup.task_command import BadInput, TaskClient, exit_code
from molmoact2_contract.qos import STATUS, TRACE
from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import ControllerStatus, SuccessTest

DOMAIN, NOBODYS_DOMAIN = 94, 95
PATIENCE = 60.0    # seconds; only a failing test waits that long
LIFTED = "the cube is lifted"


class System:
    """A simulated system that runs, its arm's status, its operator, and somebody who tests for success."""

    def __init__(self):
        # One that moves whatever it is told: for a word that it never learnt a trained one may plan what is refused.
        self.up = Up(DOMAIN, "so101_sim", "--set", f"policy.checkpoint={CHECKPOINT}")
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self._node = rclpy.create_node("operator", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._news = threading.Condition()
        self._status: ControllerStatus | None = None
        self.holds = False
        self._node.create_subscription(ControllerStatus, "arm/status", self._on_status, STATUS)
        self._tests = self._node.create_publisher(SuccessTest, "success_tests", TRACE)
        self._node.create_timer(0.1, self._test)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._end.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _test(self) -> None:
        message = SuccessTest(name=LIFTED, holds=self.holds)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._tests.publish(message)

    def _on_status(self, message: ControllerStatus) -> None:
        with self._news:
            self._status = message
            self._news.notify_all()

    def wait(self, state: int) -> ControllerStatus:
        """Waits until the arm is in that state."""
        with self._news:
            found = self._news.wait_for(lambda: self._status is not None and self._status.state == state, PATIENCE)
            assert found, f"the arm is not so: {self._status}"
            return self._status

    def operate(self, verb: str) -> Trigger.Response:
        client, done = self._node.create_client(Trigger, f"arm/{verb}"), threading.Event()
        assert client.wait_for_service(PATIENCE)
        future = client.call_async(Trigger.Request())
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE), f"{verb} did not answer"
        return future.result()

    def task(self, *arguments: str) -> Molmoact2:
        return Molmoact2(DOMAIN, "task", *arguments)

    def task_that_is_followed(self, *arguments: str, instruction: str = "wave") -> Molmoact2:
        """A task given when the arm is at rest, once the arm follows it."""
        self.wait(ControllerStatus.HOLDING)
        task = self.task(instruction, "--resume", *arguments)
        task.wait_for(r"following +[1-9]\d* chunks  following$")
        return task

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)
        self.up.stop()


@pytest.fixture(scope="module")
def shared():
    system = System()
    system.wait(ControllerStatus.FOLLOWING)
    yield system
    system.close()


@pytest.fixture
def system(shared):
    shared.holds = False
    return shared


def test_of_two_policies_of_one_domain_none_is_given_a_task():
    with pytest.raises(BadInput, match="2 nodes have policy/status.*nothing was asked of them.*ROS_DOMAIN_ID"):
        TaskClient()._must_be_one("policy/status", 2)
    TaskClient()._must_be_one("policy/status", 1)


def test_a_task_ends_at_its_time_limit_and_the_arm_comes_to_rest(system):
    # From rest: on a slow machine an arm that follows may run out before the first chunk of a new episode is there.
    assert system.operate("stop").success
    task = system.task_that_is_followed("--time-limit", "8")
    assert task.end() == 0, task.lines
    task.wait_for(r"^time limit: the time limit of 8 s is over")
    assert system.wait(ControllerStatus.HOLDING).reason == "stopped on request"
    system.up.wait_for(r"\[policy\].*no chunks: the task ended: the time limit")


def test_an_arm_that_was_stopped_is_not_resumed_unasked_and_a_test_that_has_not_held_is_a_failure(system):
    system.wait(ControllerStatus.HOLDING)
    task = system.task("wave", "--time-limit", "2", "--success-test", LIFTED)
    assert task.end() == 1, task.lines
    task.wait_for(r"holding .*arm 'arm' is holding \(stopped on request\): an operator must call arm/resume")
    task.wait_for(r"^time limit: .* and the success test 'the cube is lifted' has not held")
    assert not [line for line in task.lines if line.endswith("chunks  following")]


def test_ctrl_c_cancels_and_the_arm_comes_to_rest(system):
    task = system.task_that_is_followed()
    task.process.send_signal(signal.SIGINT)
    assert task.end() == 130, task.lines
    task.wait_for(r"^canceled: canceled by the client")
    assert system.wait(ControllerStatus.HOLDING).reason == "stopped on request"


def test_success_is_exit_code_0(system):
    task = system.task_that_is_followed("--success-test", LIFTED)
    system.holds = True
    assert task.end() == 0, task.lines
    task.wait_for(r"^succeeded: the success test 'the cube is lifted' holds")


@pytest.mark.parametrize("verb", ["stop", "pause", "disarm"])
def test_an_operator_ends_a_task_by_what_the_controller_says(system, verb):
    task = system.task_that_is_followed()
    assert system.operate(verb).success
    assert task.end() == 1, task.lines
    task.wait_for(r"^ended by an operator: arm 'arm' was (stopped on request|(paused|disarmed) by the operator)")
    if verb == "disarm":
        system.wait(ControllerStatus.DISARMED)
        disarmed = system.task("wave", "--resume")
        assert disarmed.end() == 2
        disarmed.wait_for(r"^error: arm 'arm' cannot be resumed: the arm is disarmed; .*arm it first")
        assert system.operate("arm").success


def test_a_second_ctrl_c_leaves_where_the_policy_does_not_answer(system):
    task = system.task_that_is_followed(instruction="nod")
    policy = system.up.child("policy")
    os.kill(policy, signal.SIGSTOP)
    task.process.send_signal(signal.SIGINT)
    task.wait_for(r"^canceling; Ctrl-C again leaves")
    task.process.send_signal(signal.SIGINT)
    assert task.end() == 130
    task.wait_for(r"^left without waiting; the task may still run: call arm/stop")
    os.kill(policy, signal.SIGCONT)
    assert system.operate("stop").success
    system.up.wait_for(r"\[policy\].*'nod' ended")


def test_what_the_policy_refuses_is_bad_input(system):
    task = system.task(" ")
    assert task.end() == 2
    task.wait_for(r"^error: refused: the instruction is blank")
    assert system.task("wave", "--time-limit", "0").end() == 2


def test_where_no_policy_is_found_it_says_how_to_start_one(monkeypatch, capsys):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(NOBODYS_DOMAIN))
    monkeypatch.setattr(task_command, "FOUND_WITHIN", 0.5)
    assert task_command.task("wave", 1.0, "", False) == 2
    error = capsys.readouterr().err
    assert f"no policy answers in ROS domain {NOBODYS_DOMAIN}" in error and "molmoact2 up so101_sim" in error


def test_a_result_that_nobody_filled_in_is_no_success():
    assert exit_code(RunTask.Result()) == 1


def test_when_the_system_ends_so_does_the_task(system):
    """Last, since it ends the system."""
    task = system.task_that_is_followed()
    system.up.process.send_signal(signal.SIGINT)
    assert task.end() == 1, task.lines
    task.wait_for(r"^ended by an operator: the policy process is being ended")
    assert system.up.end() == 0, system.up.lines
