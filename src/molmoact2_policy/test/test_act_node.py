# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The policy node over DDS with its engine on a server: molmoact2 serve, and a double of existing servers."""

import numpy as np
import pytest
from act_double import Double
from live_robot import ACTIVATE, CONFIGURE, Robot
from served import Served
from tiny_robot import CHECKPOINT, CONTRACT, SETTINGS, TAG, picture

from molmoact2_model import MolmoAct2Policy, fingerprint
from molmoact2_msgs.msg import PolicyStatus, ReasoningTrace
from molmoact2_policy.backend import InProcessBackend
from molmoact2_policy.ingest import stamp_ns
from molmoact2_policy.model_frame import ModelFrame

SEED = 5
PLAIN = {"checkpoint": "", "depth": "off", "rtc": "off", "num_steps": 0, "server_image_keys": "top_cam,wrist_cam"}


@pytest.fixture
def robot():
    robot = Robot()
    yield robot
    robot.close()


@pytest.fixture
def double():
    double = Double()
    # Each joint stays within its limits, whatever the observation.
    double.actions = lambda fields: np.full((30, 7), 0.25, np.float32)
    yield double
    double.close()


@pytest.fixture(scope="module")
def engine():
    """In this process. It sets how many threads torch has, on which last bits depend: before there is a server."""
    engine = InProcessBackend(SETTINGS, CONTRACT)
    engine.load()
    yield engine
    engine.close()


@pytest.fixture
def served(engine):
    served = Served(MolmoAct2Policy.from_pretrained(CHECKPOINT), fingerprint=fingerprint(CHECKPOINT))
    yield served
    served.close()


def activate(robot, url, **parameters):
    policy = robot.start_policy(backend="act", server_url=url, **parameters)
    assert robot.transition(CONFIGURE), robot.statuses[-1:]
    assert robot.transition(ACTIVATE)
    return policy


def test_chunks_and_traces_from_a_server_are_those_of_the_engine_in_the_process(robot, served, engine):
    activate(robot, f"{served.url}/act", seed=SEED, server_timeout=50.0)
    trace = robot.next(robot.traces, lambda t: t.chunk_id > 0)
    first = next(t for t in robot.traces if t.chunk_id > 0)
    chunk = robot.wait(lambda: next((c for c in robot.chunks if c.trace_id == first.trace_id), None))
    status = robot.next(robot.statuses, lambda s: s.chunks > 0)

    # The stamp is that of the capture here, and what came of it is what the engine makes of it.
    assert stamp_ns(chunk) == stamp_ns(first) and stamp_ns(chunk) in robot.sent
    assert (first.depth_mode, first.noise_seed, first.flow_steps) == (ReasoningTrace.DEPTH_FORCED, SEED, 2)
    engine.reset(first.cause)
    seen = [robot.sent[stamp_ns(first)], picture(7)]
    wanted = engine.infer(seen, np.array(first.model_state, np.float32), first.instruction, SEED)
    actions, _ = ModelFrame(CONTRACT, TAG).actions_to_ros(wanted.actions)
    np.testing.assert_array_equal(np.array(chunk.positions).reshape(30, 7), actions)
    np.testing.assert_array_equal(first.codes, wanted.trace.depth_codes)
    np.testing.assert_array_equal(first.generated_token_ids, wanted.trace.generated_token_ids)
    assert first.prompt == wanted.trace.prompt

    assert (status.backend, status.checkpoint) == (served.url, str(CHECKPOINT))
    assert status.checkpoint_fingerprint == fingerprint(CHECKPOINT)
    facts = dict(zip(status.setting_names, status.setting_values, strict=True))
    assert facts["act"] == "molmoact2_act.v1" and "server_token_file" not in facts
    stages = {timing.stage: timing.seconds for timing in trace.timings}
    assert stages["transport"] > 0 and stages["total"] >= stages["transport"]


def test_a_plain_server_drives_in_the_robots_units_and_its_traces_say_what_is_missing(robot, double):
    activate(robot, double.url, **PLAIN)
    chunk = robot.next(robot.chunks)
    wanted, _ = ModelFrame(CONTRACT, TAG).actions_to_ros(np.full((30, 7), 0.25, np.float32))
    np.testing.assert_array_equal(np.array(chunk.positions).reshape(30, 7), wanted)
    assert stamp_ns(chunk) in robot.sent and chunk.frozen_count == 0
    trace = robot.wait(lambda: next((t for t in robot.traces if t.trace_id == chunk.trace_id), None))
    assert not trace.noise_seeded and not trace.prompt and not trace.codes
    assert any("plain /act protocol has no trace" in warning for warning in trace.warnings)


def test_what_a_plain_server_cannot_do_is_refused_when_configuring(robot, double):
    robot.start_policy(backend="act", server_url=double.url, server_image_keys="top_cam,wrist_cam", checkpoint="")
    assert not robot.transition(CONFIGURE)
    status = robot.next(robot.statuses)
    assert "speaks the plain /act protocol only" in status.last_error
    assert "set depth=off" in status.last_error and "set rtc=off" in status.last_error
    assert status.state == PolicyStatus.UNCONFIGURED


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"server_url": "robot:8202"}, "parameter server_url"), ({"backend": "cloud"}, "parameter backend is 'cloud'"),
     ({"server_timeout": 70.0}, "must be less than inference_timeout"),
     ({"server_url": "http://u:hunter2@robot:1"}, "put a token into a file"),
     ({"server_token_file": "/nowhere/token"}, "token file /nowhere/token cannot be read")],
    ids=str,
)
def test_a_wrong_parameter_of_the_server_is_refused_and_named(robot, wrong, named):
    robot.start_policy(**{"backend": "act", **wrong})
    assert not robot.transition(CONFIGURE)
    error = robot.next(robot.statuses).last_error
    assert named in error and "hunter2" not in error


# With how often it is seen: more than five in a row are no failure of the policy.
SPOILT = {
    "slow": ({"pause": 30.0}, "server_slow", "is too slow: no answer within", 2),
    "hangs up": ({"hang_up": True}, "server_away", "was lost", 8),
    "behind a dead proxy": ({"status": 503}, "server_away", "is away (503)", 8),
}


def drops(status, kind):
    return dict(zip(status.drop_reasons, status.drop_counts, strict=True)).get(kind, 0)


@pytest.mark.parametrize("name", SPOILT)
def test_a_server_in_trouble_stops_chunks_with_the_reason_and_they_come_back_with_it(robot, double, name):
    spoilt, kind, said, times = SPOILT[name]
    activate(robot, double.url, server_timeout=1.0, **PLAIN)
    robot.next(robot.chunks)
    before = {key: getattr(double, key) for key in spoilt}
    for key, value in spoilt.items():
        setattr(double, key, value)
    status = robot.next(robot.statuses, lambda s: drops(s, kind) >= times and said in s.withheld)
    count = len(robot.chunks)
    status = robot.next(robot.statuses, lambda s: s.withheld)
    assert status.state == PolicyStatus.ACTIVE and len(robot.chunks) == count
    for key, value in before.items():
        setattr(double, key, value)
    assert robot.next(robot.chunks).chunk_id == robot.chunks[count - 1].chunk_id + 1


def test_a_server_that_dies_stops_chunks_and_another_in_its_place_goes_on(robot, double):
    activate(robot, double.url, **PLAIN)
    robot.next(robot.chunks)
    double.close()
    robot.next(robot.statuses, lambda s: drops(s, "server_away") > 5 and "cannot be reached" in s.withheld)
    again = Double(port=double.port)
    again.actions = double.actions
    robot.next(robot.chunks)
    again.close()


BAD = {
    "NaN": ({"actions": lambda _: np.full((30, 7), np.nan, np.float32)}, "answer_refused", "not finite"),
    "wrong joints": ({"actions": lambda _: np.zeros((30, 6), np.float32)}, "answer_refused", "shape (30, 6)"),
    "truncated": ({"answer": lambda _: b'{"actions": '}, "answer_refused", "not JSON"),
    "fails": ({"status": 500}, "server_failed", "out of memory"),
}


@pytest.mark.parametrize("name", BAD)
def test_answers_that_go_on_being_bad_end_in_an_error_that_says_why_and_no_chunk_of_them_is_sent(robot, double, name):
    spoilt, kind, said = BAD[name]
    activate(robot, double.url, **PLAIN)
    robot.next(robot.chunks)
    for key, value in spoilt.items():
        setattr(double, key, value)
    status = robot.next(robot.statuses, lambda s: s.state == PolicyStatus.ERROR)
    assert said in status.last_error and "5 inferences in a row" in status.last_error
    assert drops(status, kind) == 5
    assert all(set(chunk.positions) <= set(robot.chunks[0].positions) for chunk in robot.chunks)


def test_a_chunk_for_another_request_is_never_sent(robot, served, monkeypatch):
    form = served.service._form

    def of_another(request, *rest):
        answer = form(request, *rest)
        if request.instruction != "warm up":
            answer["molmoact2"]["request"] = "someone else's"
        return answer

    monkeypatch.setattr(served.service, "_form", of_another)
    activate(robot, served.url, server_timeout=50.0)
    status = robot.next(robot.statuses, lambda s: s.state == PolicyStatus.ERROR)
    assert "it is for another request" in status.last_error
    assert robot.chunks == []
