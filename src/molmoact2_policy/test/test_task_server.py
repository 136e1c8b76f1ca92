# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`policy/run_task` over real DDS: the policy node, and a robot whose two controllers say what a test wants."""

import threading
from functools import partial

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from live_robot import ACTIVATE, CONFIGURE, DEACTIVATE, PATIENCE, Robot
from rclpy.action import ActionClient
from std_srvs.srv import Trigger
from tiny_robot import CONTRACT

from molmoact2_contract.qos import CHUNK, STATUS, TRACE
from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, SuccessTest
from molmoact2_msgs.srv import ResetEpisode, SetInstruction

ENDED, LIFTED = RunTask.Result, "the cube is lifted"
REQUEST = ControllerStatus.CAUSE_REQUEST


class Controllers:
    """The robot's controllers: they follow what the policy sends, unless a test makes them do otherwise."""

    def __init__(self, robot: Robot):
        node, self.statuses, self.stopped = robot.node, {}, []
        self._publishers = {}
        for arm in CONTRACT.arms:
            self._publishers[arm] = node.create_publisher(ControllerStatus, f"{arm}/status", STATUS)
            node.create_service(Trigger, f"{arm}/stop", partial(self._stop, arm))
        node.create_subscription(ActionChunk, "policy/action_chunk", self._follow, CHUNK)
        node.create_timer(0.05, self._publish)
        self.behave()

    def behave(self) -> None:
        """All are resumed, and follow."""
        self.stopped.clear()
        self.statuses = {arm: ControllerStatus(state=ControllerStatus.HOLDING) for arm in CONTRACT.arms}
        self.silent: set[str] = set()
        self.needs_resume: set[str] = set()
        self.refuses: set[str] = set()

    def say(self, arm: str, **what) -> None:
        """From now on, whatever chunks come."""
        self.needs_resume.add(arm)
        waits = what.get("state") == ControllerStatus.HOLDING
        self.statuses[arm] = ControllerStatus(waits_for_resume=waits, **what)

    def _stop(self, arm: str, _, response: Trigger.Response) -> Trigger.Response:
        self.stopped.append(arm)
        self.say(arm, state=ControllerStatus.HOLDING, reason="stopped on request", cause=REQUEST)
        response.success = True
        return response

    def _follow(self, chunk: ActionChunk) -> None:
        for arm, status in self.statuses.items():
            if arm in self.needs_resume:
                status.waits_for_resume = True
            elif arm in self.refuses:
                status.state, status.reason = ControllerStatus.HOLDING, "armed; waiting for a chunk"
                status.refused_chunks, status.last_refusal = status.refused_chunks + 1, ControllerStatus.REFUSAL_STEP
                status.last_refusal_text = "it begins 0.35 rad from the arm"
            else:
                status.state, status.chunk_id = ControllerStatus.FOLLOWING, chunk.chunk_id

    def _publish(self) -> None:
        for arm, publisher in self._publishers.items():
            if arm not in self.silent:
                publisher.publish(self.statuses[arm])


class Given:
    """A task that was given: what is heard of it."""

    def __init__(self, robot: Robot, client: ActionClient, goal: RunTask.Goal):
        self._robot, self.feedbacks = robot, []
        hear = lambda m: robot.keep(m.feedback, self.feedbacks)  # noqa: E731
        self._handle = self._wait(robot.spun(lambda: client.send_goal_async(goal, hear)))
        assert self._handle.accepted
        self._result = robot.spun(self._handle.get_result_async)

    def _wait(self, future):
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE), f"no answer; the feedback was {self.feedbacks}"
        return future.result()

    def hears(self, text: str) -> RunTask.Feedback:
        """The first feedback that contains the text."""
        return self._robot.wait(lambda: next((f for f in self.feedbacks if text in f.text), None))

    def cancel(self) -> None:
        assert self._wait(self._robot.spun(self._handle.cancel_goal_async)).goals_canceling

    def result(self, ended: int) -> RunTask.Result:
        """The result, which must be of this kind, with the state of the action that belongs to it."""
        answer = self._wait(self._result)
        assert answer.result.ended == ended, answer.result.message
        states = {ENDED.ENDED_SUCCEEDED: GoalStatus.STATUS_SUCCEEDED, ENDED.ENDED_CANCELED: GoalStatus.STATUS_CANCELED}
        assert answer.status == states.get(ended, GoalStatus.STATUS_ABORTED)
        return answer.result


class Tasks:
    """A robot whose policy is active, with its controllers, a client, and somebody who tests for success."""

    def __init__(self):
        self.robot = Robot()
        self.controllers = Controllers(self.robot)
        self.policy = self.robot.start_policy()
        assert self.robot.transition(CONFIGURE)
        assert self.robot.transition(ACTIVATE)
        self._client = ActionClient(self.robot.node, RunTask, "policy/run_task")
        assert self._client.wait_for_server(PATIENCE)
        self._tests = self.robot.node.create_publisher(SuccessTest, "success_tests", TRACE)
        self.robot.node.create_timer(0.05, self._test)
        self.holds = False

    def _test(self) -> None:
        message = SuccessTest(name=LIFTED, holds=self.holds)
        message.header.stamp = self.robot.node.get_clock().now().to_msg()
        self._tests.publish(message)

    def give(self, instruction: str = "wave", time_limit: float = 60.0, success_test: str = "") -> Given:
        goal = RunTask.Goal(instruction=instruction, time_limit=time_limit, success_test=success_test)
        return Given(self.robot, self._client, goal)

    def give_and_follow(self, instruction: str = "wave", success_test: str = "") -> Given:
        """A task that both arms follow, by a chunk of its own."""
        given = self.give(instruction, success_test=success_test)
        self.robot.next(self.robot.traces, lambda t: t.instruction == instruction and t.chunk_id)
        given.hears("following")
        return given

    def instruct(self, instruction: str) -> SetInstruction.Response:
        request = SetInstruction.Request(instruction=instruction)
        return self.robot.call(SetInstruction, "policy/set_instruction", request)

    def withheld(self) -> str:
        """Waits until the policy says that it withholds chunks since a task has ended."""
        return self.robot.next(self.robot.statuses, lambda s: s.withheld.startswith("the task ended: ")).withheld

    def close(self) -> None:
        self._client.destroy()
        self.robot.close()


@pytest.fixture(scope="module")
def shared():
    tasks = Tasks()
    yield tasks
    tasks.close()


@pytest.fixture
def tasks(shared):
    """A robot that follows chunks of no task."""
    shared.robot.behave()
    shared.controllers.behave()
    shared.holds = False
    assert shared.instruct("pick up the cube").success
    shared.robot.next(shared.robot.chunks)
    return shared


def test_success_ends_a_task_stops_the_arms_and_withholds_chunks_until_another_instruction(tasks):
    robot = tasks.robot
    given = tasks.give_and_follow(success_test=LIFTED)
    feedback = given.hears("following")
    assert feedback.controller_state == ControllerStatus.FOLLOWING
    chunk = robot.next(robot.chunks)
    tasks.holds = True
    result = given.result(ENDED.ENDED_SUCCEEDED)
    assert result.message == f"the success test {LIFTED!r} holds"
    assert (result.success_test, result.fault_code, result.episode_id) == (LIFTED, 0, chunk.episode_id)
    assert result.duration > 0 and result.chunks >= 2    # the one that was followed, and `chunk`
    assert result.message in tasks.withheld()
    robot.wait(lambda: sorted(tasks.controllers.stopped) == ["lower", "upper"])
    count = len(robot.chunks)
    robot.next(robot.statuses)
    robot.next(robot.statuses)
    assert len(robot.chunks) == count
    assert robot.call(ResetEpisode, "policy/reset", ResetEpisode.Request()).success
    assert tasks.withheld()
    assert tasks.instruct("go on").success
    assert robot.next(robot.traces).instruction == "go on"
    assert robot.next(robot.chunks).episode_id != chunk.episode_id
    assert sorted(tasks.controllers.stopped) == ["lower", "upper"]


def test_a_task_is_a_new_episode_with_its_instruction(tasks):
    robot = tasks.robot
    before = robot.next(robot.chunks).episode_id
    given = tasks.give_and_follow(instruction="stack the cubes")
    trace = robot.next(robot.traces, lambda t: t.instruction == "stack the cubes")
    assert trace.episode_id != before
    given.cancel()
    assert given.result(ENDED.ENDED_CANCELED).episode_id == trace.episode_id


def test_the_time_limit_ends_a_task(tasks):
    result = tasks.give(time_limit=0.3, success_test=LIFTED).result(ENDED.ENDED_TIME_LIMIT)
    assert "0.3 s" in result.message and "has not held" in result.message
    assert result.duration >= 0.3
    assert "the time limit" in tasks.withheld()


def test_a_canceled_task_stops_the_arms_at_once(tasks):
    given = tasks.give_and_follow()
    given.cancel()
    assert given.result(ENDED.ENDED_CANCELED).message == "canceled by the client"
    tasks.robot.wait(lambda: sorted(tasks.controllers.stopped) == ["lower", "upper"])


def test_an_arm_that_begins_to_follow_after_the_end_what_was_sent_before_it_is_stopped_too(tasks):
    controllers = tasks.controllers
    given = tasks.give_and_follow()
    last = tasks.robot.next(tasks.robot.chunks).chunk_id
    controllers.say("upper", state=ControllerStatus.HOLDING, reason="ran out of waypoints")
    given.hears("'upper' is holding")
    given.cancel()
    given.result(ENDED.ENDED_CANCELED)
    tasks.robot.wait(lambda: controllers.stopped == ["lower"])
    controllers.say("upper", state=ControllerStatus.FOLLOWING, chunk_id=last)
    tasks.robot.wait(lambda: controllers.stopped == ["lower", "upper"])


def test_a_new_task_replaces_the_running_one_and_the_arms_go_on(tasks):
    robot = tasks.robot
    first = tasks.give_and_follow(instruction="wave")
    second = tasks.give(instruction="nod")
    result = first.result(ENDED.ENDED_REPLACED)
    assert "'nod'" in result.message and result.chunks >= 1
    second.hears("following")
    chunk = robot.next(robot.chunks)
    assert chunk.episode_id != result.episode_id
    assert tasks.controllers.stopped == []
    second.cancel()
    assert second.result(ENDED.ENDED_CANCELED).episode_id == chunk.episode_id


def test_a_controllers_fault_ends_a_task_with_its_code(tasks):
    given = tasks.give_and_follow()
    tasks.controllers.say(
        "upper", state=ControllerStatus.FAULT, fault_code=ControllerStatus.FAULT_TRACKING, fault_text="it is stuck"
    )
    result = given.result(ENDED.ENDED_FAULT)
    assert result.fault_code == ControllerStatus.FAULT_TRACKING
    assert result.message == "arm 'upper' is in fault: it is stuck"
    tasks.robot.wait(lambda: tasks.controllers.stopped == ["lower"])


def test_a_state_that_nobody_knows_is_a_fault(tasks):
    given = tasks.give_and_follow()
    tasks.controllers.say("lower", state=99)
    assert "its state 99 is unknown" in given.result(ENDED.ENDED_FAULT).message


def test_a_silent_controller_ends_a_task_and_is_named(tasks):
    given = tasks.give_and_follow()
    tasks.controllers.silent.add("upper")
    result = given.result(ENDED.ENDED_FAULT)
    assert "'upper' has been silent" in result.message and result.fault_code == ControllerStatus.FAULT_NONE


def test_an_operators_stop_ends_a_task(tasks):
    given = tasks.give_and_follow()
    tasks.controllers.say("lower", state=ControllerStatus.STOPPING, reason="stopped on request", cause=REQUEST)
    assert given.result(ENDED.ENDED_OPERATOR).message == "arm 'lower' was stopped on request"
    tasks.robot.wait(lambda: tasks.controllers.stopped == ["upper"])


def test_an_operators_stop_in_the_first_moment_of_a_task_ends_it_too(tasks):
    tasks.robot.next(tasks.robot.chunks)
    tasks.controllers.needs_resume = {"lower", "upper"}    # they go on with the chunk of before
    given = tasks.give()
    given.hears("following")
    tasks.controllers.say("lower", state=ControllerStatus.STOPPING, reason="stopped on request", cause=REQUEST)
    given.result(ENDED.ENDED_OPERATOR)


def test_the_policy_resumes_and_arms_nothing_but_says_who_must(tasks):
    earlier = tasks.give_and_follow()
    earlier.cancel()
    earlier.result(ENDED.ENDED_CANCELED)
    tasks.robot.wait(lambda: sorted(tasks.controllers.stopped) == ["lower", "upper"])
    tasks.controllers.say("lower", state=ControllerStatus.HOLDING, reason="stopped on request", cause=REQUEST)
    tasks.controllers.say("upper", state=ControllerStatus.DISARMED, reason="not armed since the start")
    given = tasks.give()
    given.hears("an operator must call lower/resume")
    heard = given.hears("'upper' is disarmed (not armed since the start): an operator must arm it")
    assert heard.controller_state == ControllerStatus.DISARMED
    services = {name for name, _ in tasks.policy.get_client_names_and_types_by_node("policy", "/")}
    assert services == {"/lower/stop", "/upper/stop"}
    tasks.controllers.behave()
    given.hears("following")
    given.cancel()
    given.result(ENDED.ENDED_CANCELED)


def test_a_controller_that_refuses_every_chunk_is_quoted(tasks):
    tasks.controllers.refuses.add("lower")
    given = tasks.give()
    given.hears("the controller of arm 'lower' refuses chunks, as it begins 0.35 rad from the arm")
    tasks.controllers.behave()
    given.hears("following")
    given.cancel()
    given.result(ENDED.ENDED_CANCELED)


def test_the_instruction_of_a_running_task_changes_without_ending_it_and_its_client_is_told(tasks):
    robot = tasks.robot
    given = tasks.give_and_follow(instruction="wave")
    episode = robot.next(robot.chunks).episode_id
    assert tasks.instruct("bow").success
    given.hears("the instruction is now 'bow'")
    assert robot.next(robot.traces, lambda t: t.instruction == "bow").episode_id == episode
    given.cancel()
    given.result(ENDED.ENDED_CANCELED)


REFUSED = (
    ({"instruction": " "}, "the instruction is blank"),
    ({"instruction": "far " * 5000}, "shorten"),
    ({"time_limit": 0.0}, "time_limit is 0"),
    ({"time_limit": float("nan")}, "time_limit is nan"),
    ({"time_limit": float("inf")}, "time_limit is inf"),
    ({"instruction": "far " * 5000}, "shorten the instruction"),
    ({"success_test": "done"}, f"nobody publishes the success test 'done' on success_tests (heard: {LIFTED})"),
)


@pytest.mark.parametrize(("what", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_cannot_begin_is_refused_in_words_and_a_running_task_goes_on(tasks, what, why):
    running = tasks.give_and_follow()
    result = tasks.give(**what).result(ENDED.ENDED_REFUSED)
    assert why in result.message
    assert (result.duration, result.chunks, result.episode_id) == (0, 0, "")
    tasks.robot.next(tasks.robot.traces, lambda t: t.instruction == "wave" and t.chunk_id)
    assert tasks.controllers.stopped == []
    running.cancel()
    running.result(ENDED.ENDED_CANCELED)


def test_a_task_that_waits_for_its_test_can_be_canceled_or_replaced(tasks):
    first, second = tasks.give(success_test="never"), tasks.give(success_test="never")
    assert "before it began" in first.result(ENDED.ENDED_REPLACED).message
    second.cancel()
    assert second.result(ENDED.ENDED_CANCELED).chunks == 0
    assert tasks.robot.next(tasks.robot.chunks)


def test_deactivating_ends_a_task_refuses_others_and_chunks_stay_withheld_when_active_again(tasks):
    robot = tasks.robot
    given = tasks.give_and_follow()
    assert robot.transition(DEACTIVATE)
    assert given.result(ENDED.ENDED_OPERATOR).message == "the policy was deactivated"
    robot.wait(lambda: sorted(tasks.controllers.stopped) == ["lower", "upper"])
    assert "activate it" in tasks.give().result(ENDED.ENDED_REFUSED).message
    assert robot.transition(ACTIVATE)
    assert "the policy was deactivated" in tasks.withheld()


def test_an_engine_that_fails_ends_a_task_as_a_fault_that_says_why(tasks, monkeypatch):
    robot = tasks.robot
    given = tasks.give_and_follow()
    engine = tasks.policy._backend._session._engine
    monkeypatch.setattr(engine, "flow", lambda *_: np.full((30, 7), np.nan, np.float32))
    assert "not finite" in given.result(ENDED.ENDED_FAULT).message
    robot.next(robot.statuses, lambda s: s.state == PolicyStatus.ERROR)
    monkeypatch.undo()
    assert robot.transition(ACTIVATE)
