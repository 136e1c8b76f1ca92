# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One run of a task, told what controllers, tests and clocks say."""

import pytest

from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import ControllerStatus
from molmoact2_policy.tasks import ArmStatus, Cause, Ended, Ending, Goal, State, TaskRun

BEGAN, BEGAN_NS = 100.0, 5_000_000_000_000
OVER = 7    # the last chunk of an earlier task
SECOND = 1_000_000_000


def run_of(success_test: str = "", time_limit: float = 10.0) -> TaskRun:
    return TaskRun(Goal("wave", time_limit, success_test), ("left", "right"), BEGAN, BEGAN_NS, OVER)


def following(chunk: int = OVER + 1) -> ArmStatus:
    return ArmStatus(State.FOLLOWING, reason=f"following chunk {chunk}", chunk_id=chunk)


def both(run: TaskRun, status: ArmStatus) -> None:
    for arm in ("left", "right"):
        run.hear_controller(arm, status)


def let_pass(run: TaskRun, seconds: float, speaking: tuple[str, ...] = (), start: float = BEGAN) -> None:
    """Checks ten times a second, while the arms in `speaking` state that they follow."""
    for tick in range(1, round(seconds * 10) + 1):
        for arm in speaking:
            run.hear_controller(arm, following())
        run.check(start + tick / 10)


def test_the_numbers_are_those_of_the_messages():
    assert {e.name: e.value for e in Ended} == {
        e.name: getattr(RunTask.Result, f"ENDED_{e.name}") for e in Ended
    }
    assert {s.name: s.value for s in State} == {s.name: getattr(ControllerStatus, s.name) for s in State}
    assert RunTask.Result().ended == RunTask.Result.ENDED_UNKNOWN not in set(Ended)


def test_a_test_that_holds_now_and_since_the_begin_is_success():
    run = run_of("the cube is lifted")
    later = BEGAN_NS + SECOND
    run.hear_test("the cube is lifted", False, later, later, BEGAN + 1)
    run.hear_test("another", True, later, later, BEGAN + 1)
    assert run.ending is None
    run.hear_test("the cube is lifted", True, later, later, BEGAN + 1)
    assert run.ending == Ending(Ended.SUCCEEDED, "the success test 'the cube is lifted' holds")


def test_a_test_from_before_the_begin_is_no_success():
    run = run_of("lifted")
    run.hear_test("lifted", True, BEGAN_NS, BEGAN_NS + SECOND // 2, BEGAN + 0.5)
    assert run.ending is None


@pytest.mark.parametrize("stamp", [0, SECOND * 3, SECOND * 7], ids=["zero", "old", "of the future"])
def test_a_test_whose_stamp_is_not_of_now_is_no_success_and_the_text_says_so(stamp):
    run = run_of("lifted")
    both(run, following())
    run.hear_test("lifted", True, stamp and BEGAN_NS + stamp, BEGAN_NS + 5 * SECOND, BEGAN + 5)
    assert run.ending is None
    assert "its stamp is not of now" in run.text("", BEGAN + 5)


def test_without_a_test_asked_for_a_nameless_one_ends_nothing():
    run = run_of()
    run.hear_test("", True, BEGAN_NS + 1, BEGAN_NS + 1, BEGAN + 1)
    assert run.ending is None


def test_the_time_limit_ends_it_and_says_that_the_test_has_not_held():
    run, tested = run_of(), run_of("lifted")
    for each in (run, tested):
        let_pass(each, 9.9, ("left", "right"))
        assert each.ending is None
        let_pass(each, 0.1, ("left", "right"), BEGAN + 9.9)
    assert run.ending == Ending(Ended.TIME_LIMIT, "the time limit of 10 s is over")
    assert tested.ending.message == "the time limit of 10 s is over, and the success test 'lifted' has not held"


def test_a_controllers_fault_ends_it_with_its_code_and_words():
    run = run_of()
    both(run, following())
    run.hear_controller("right", ArmStatus(State.FAULT, fault_code=4, fault_text="joint_3 does not follow"))
    assert run.ending == Ending(Ended.FAULT, "arm 'right' is in fault: joint_3 does not follow", 4)


def test_a_controller_that_falls_silent_ends_it_and_is_named():
    run = run_of()
    both(run, following())
    let_pass(run, 1.5, ("left",))
    assert run.ending is None
    let_pass(run, 0.2, ("left",), BEGAN + 1.5)
    assert run.ending.ended == Ended.FAULT and "'right' has been silent" in run.ending.message


def test_a_controller_that_was_never_heard_is_silent():
    run = run_of()
    let_pass(run, 1.7, ("right",))
    assert run.ending.ended == Ended.FAULT and "'left'" in run.ending.message


def test_a_stall_of_this_process_is_no_silence_of_a_controller():
    run = run_of()
    both(run, following())
    run.check(BEGAN + 0.1)
    run.check(BEGAN + 5.0)
    assert run.ending is None


ACTS = (
    (ArmStatus(State.STOPPING, "stopped on request", cause=Cause.REQUEST), "arm 'left' was stopped on request"),
    (ArmStatus(State.HOLDING, "stopped on request", cause=Cause.REQUEST), "arm 'left' was stopped on request"),
    (ArmStatus(State.STOPPING, "paused by the operator", paused=True), "arm 'left' was paused by the operator"),
    (ArmStatus(State.DISARMED, "disarmed by the operator"), "arm 'left' was disarmed (disarmed by the operator)"),
    (ArmStatus(State.DISARMED, "not armed"), "arm 'left' was disarmed (not armed)"),
    (ArmStatus(State.HOLDING, "in a person's hand", guided=True), "arm 'left' is guided by hand"),
    (ArmStatus(State.FOLLOWING, "moving to home"), "arm 'left' is moved by the operator (moving to home)"),
)


@pytest.mark.parametrize(("status", "message"), ACTS, ids=[message for _, message in ACTS])
def test_an_operators_act_ends_it_where_the_arm_had_followed_it_and_only_then(status, message):
    run, before = run_of(), run_of()
    both(run, following())
    both(before, following(OVER))    # for which it is being stopped
    for each in (run, before):
        each.hear_controller("left", status)
    assert run.ending == Ending(Ended.OPERATOR, message)
    assert before.ending is None


@pytest.mark.parametrize("state", [State.STOPPING, State.HOLDING])
def test_a_controller_that_stops_by_itself_ends_it_as_a_fault_without_a_code_however_late_that_is_heard(state):
    run = run_of()
    both(run, following())
    run.hear_controller("left", ArmStatus(state, "the path fell 1.20 s behind the clock", cause=Cause.ITSELF))
    assert run.ending == Ending(Ended.FAULT, "arm 'left' stopped by itself: the path fell 1.20 s behind the clock")


def test_an_arm_that_runs_out_of_waypoints_or_is_resumed_does_not_end_it():
    run = run_of()
    both(run, following())
    run.hear_controller("left", ArmStatus(State.HOLDING, "ran out of waypoints of chunk 8", cause=Cause.RAN_OUT))
    run.hear_controller("left", ArmStatus(State.HOLDING, "resumed by the operator; waiting for a chunk"))
    assert run.ending is None
    assert run.text("", BEGAN + 1) == "arm 'left' is holding: resumed by the operator; waiting for a chunk"


def test_what_ends_it_first_counts():
    run = run_of()
    run.end(Ended.CANCELED, "canceled by the client")
    run.hear_controller("left", ArmStatus(State.FAULT, fault_code=1, fault_text="gone"))
    assert run.ending == Ending(Ended.CANCELED, "canceled by the client")


def test_the_text_says_what_an_operator_must_do_and_why_no_chunks_come():
    run = run_of()
    run.hear_controller("left", ArmStatus(State.DISARMED, "not armed since the start"))
    holding = ArmStatus(State.HOLDING, "ran out of waypoints")
    run.hear_controller("right", holding)
    assert run.text("camera top is black", BEGAN) == (
        "arm 'left' is disarmed (not armed since the start): an operator must arm it; "
        "arm 'right' is holding: ran out of waypoints; no chunks: camera top is black"
    )
    run.hear_controller("right", ArmStatus(State.HOLDING, "stopped on request", waits=True))
    assert "'right' is holding (stopped on request): an operator must call right/resume" in run.text("", BEGAN)
    run.hear_controller("left", ArmStatus(State.HOLDING, "in a person's hand", guided=True))
    assert "'left' is guided by hand" in run.text("", BEGAN)
    run.hear_controller("left", ArmStatus(State.HOLDING, "paused by the operator", paused=True))
    assert "must call left/resume" in run.text("", BEGAN)
    both(run, following())
    assert run.text("", BEGAN) == "following"


def refusing(count: int, refusal: int = 10, reason: str = "armed; waiting for a chunk") -> ArmStatus:
    return ArmStatus(
        State.HOLDING, reason, refused=count, refusal=refusal, refusal_text=f"the {count}th: refused for {refusal}"
    )


def test_an_arm_that_takes_none_of_the_chunks_says_why_and_so_does_the_end():
    run = run_of(time_limit=1.0)
    run.hear_controller("right", following())
    run.hear_controller("left", refusing(500))    # before this task began
    assert run.text("", BEGAN) == "arm 'left' is holding: armed; waiting for a chunk"
    why = "the controller of arm 'left' refuses chunks, as the 501th: refused for 10"
    for count in (501, 502):    # told once: it would change with each chunk
        run.hear_controller("left", refusing(count))
        assert run.text("", BEGAN) == f"arm 'left' is holding: armed; waiting for a chunk; {why}"
    run.hear_controller("left", refusing(503, refusal=9))
    assert run.text("", BEGAN).endswith("as the 503th: refused for 9")
    let_pass(run, 1.1)
    assert run.ending == Ending(
        Ended.TIME_LIMIT,
        "the time limit of 1 s is over; the controller of arm 'left' refuses chunks, as the 503th: refused for 9",
    )


@pytest.mark.parametrize(
    "then",
    [
        ArmStatus(State.FOLLOWING, chunk_id=OVER + 1, refused=2),
        ArmStatus(State.DISARMED, "not armed", refused=2),
        ArmStatus(State.HOLDING, "paused by the operator", paused=True, refused=2),
        ArmStatus(State.HOLDING, "stopped on request", waits=True, refused=2),
        refusing(0),    # by a controller that was started anew
    ],
)
def test_what_was_refused_before_an_arm_began_to_wait_is_not_told(then):
    run = run_of()
    run.hear_controller("right", following())
    for count in (0, 1):
        run.hear_controller("left", refusing(count))
    assert "refuses" in run.text("", BEGAN)
    run.hear_controller("left", then)
    assert "refuses" not in run.text("", BEGAN)
    run.hear_controller("left", refusing(then.refused, reason="waiting"))
    assert run.text("", BEGAN) == "arm 'left' is holding: waiting"
    run.hear_controller("left", refusing(then.refused + 1, reason="waiting"))
    assert "refuses" in run.text("", BEGAN)


def test_a_test_that_falls_silent_is_told_and_does_not_end_it():
    run = run_of("lifted")
    both(run, following())
    assert run.text("", BEGAN + 1) == "following"
    assert run.text("", BEGAN + 2) == "the success test 'lifted' has fallen silent"
    assert run.ending is None


def test_the_worst_state_is_a_fault_then_a_disarmed_arm():
    run = run_of()
    assert run.worst == State.DISARMED
    both(run, following())
    assert run.worst == State.FOLLOWING
    for state in (State.HOLDING, State.STOPPING, State.DISARMED, State.FAULT):
        run.hear_controller("left", ArmStatus(state))
        assert run.worst == state


@pytest.mark.parametrize("limit", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_limit_that_is_none_is_refused(limit):
    assert "time_limit" in Goal("wave", limit, "").refusal
    assert Goal("wave", 0.5, "").refusal == ""
