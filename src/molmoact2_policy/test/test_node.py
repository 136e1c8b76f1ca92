# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The policy node over real DDS: the golden checkpoint in the real engine, and a robot that publishes its topics."""

import threading

import numpy as np
import pytest
import rclpy
from live_robot import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, PARAMETERS, PATIENCE, WRIST, Robot
from rcl_interfaces.srv import GetParameters
from std_msgs.msg import String
from tiny_robot import CHECKPOINT, CONTRACT, JOINTS, LOWER, SECOND, TAG, UPPER, joint_state, picture

from molmoact2_model import fingerprint
from molmoact2_msgs.msg import InputStamp, PolicyStatus, ReasoningTrace, StageTiming
from molmoact2_msgs.srv import ResetEpisode, SetInstruction
from molmoact2_policy.ingest import stamp_ns
from molmoact2_policy.model_frame import ModelFrame


@pytest.fixture
def robot():
    robot = Robot()
    yield robot
    robot.close()


@pytest.fixture(scope="module")
def active():
    """A robot whose policy is active."""
    robot = Robot()
    robot.start_policy()
    assert robot.transition(CONFIGURE)
    assert robot.transition(ACTIVATE)
    yield robot
    robot.close()


@pytest.fixture
def running(active):
    """The same, well behaved again."""
    active.behave()
    active.next(active.chunks)
    return active


def test_a_chunk_carries_its_observations_stamp_and_its_trace_tells_the_whole_story(running):
    robot = running

    def in_step(trace: ReasoningTrace) -> bool:
        """Made of what was sent together; on a busy machine a message is lost, and an older one serves."""
        stamps = [i.stamp.sec * SECOND + i.stamp.nanosec - stamp_ns(trace) for i in trace.inputs]
        return trace.chunk_id > 0 and stamps == [0, 1_000_000, -3_000_000, -3_000_000]

    trace = robot.next(robot.traces, in_step)
    chunk = robot.wait(lambda: next((c for c in robot.chunks if c.trace_id == trace.trace_id), None))

    captured = stamp_ns(chunk)
    assert captured in robot.sent
    assert chunk.joint_names == list(JOINTS)
    assert (chunk.dt, chunk.first_offset, chunk.first_offset_known) == (TAG.dt, 1.0, False)
    assert chunk.horizon * len(JOINTS) == len(chunk.positions) and chunk.horizon == 30
    assert np.isfinite(chunk.positions).all()
    assert list(chunk.state) == list(joint_state(0).position)
    assert chunk.state_stamp.sec * SECOND + chunk.state_stamp.nanosec == captured - 3_000_000

    assert trace.header == chunk.header.__class__(stamp=chunk.header.stamp, frame_id="top_optical_frame")
    assert (trace.chunk_id, trace.episode_id, trace.withheld) == (chunk.chunk_id, chunk.episode_id, "")
    assert [(i.kind, i.topic) for i in trace.inputs] == [
        (InputStamp.IMAGE, "/top/image_raw"),
        (InputStamp.IMAGE, f"/{WRIST}"),
        (InputStamp.JOINT_STATE, "/joint_states"),
        (InputStamp.JOINT_STATE, "/joint_states"),
    ]
    assert trace.observation_skew == pytest.approx(0.004)
    assert len(trace.input_ages) == 4 and min(trace.input_ages) > 0
    np.testing.assert_array_equal(
        np.array(trace.model_state, np.float32),
        ModelFrame(CONTRACT, TAG).to_model(np.array(chunk.state)),
    )
    assert (trace.norm_tag, trace.instruction) == (TAG.name, "pick up the cube")
    assert "pick up the cube" in trace.prompt
    assert (trace.grid_rows, trace.grid_cols) == (10, 10)
    assert len(trace.codes) == len(trace.refreshed) == len(trace.cell_ages) == len(trace.code_probs) == 100
    assert trace.decoder_steps > 1 and len(trace.generated_token_ids) >= 102
    assert trace.noise_seeded and trace.flow_steps == 2
    stages = {timing.stage: timing.seconds for timing in trace.timings}
    assert set(stages) == {
        StageTiming.PREPROCESS, StageTiming.VISION, StageTiming.PREFILL, StageTiming.DEPTH, StageTiming.EXPERT,
        StageTiming.POST, StageTiming.TOTAL,
    }
    assert stages[StageTiming.TOTAL] <= (stamp_ns_of(trace.finished) - stamp_ns_of(trace.started)) / SECOND


def stamp_ns_of(stamp) -> int:
    return stamp.sec * SECOND + stamp.nanosec


def test_the_first_depth_pass_of_an_episode_is_full_and_a_still_scene_is_then_reused(running):
    robot = running
    robot.top = lambda frame: picture(3)
    trace = robot.next(robot.traces, lambda t: t.depth_mode == ReasoningTrace.DEPTH_ADAPTIVE and not any(t.refreshed))
    assert trace.reused_runs == 1 and min(trace.cell_ages) >= 1
    assert robot.traces[0].depth_mode == ReasoningTrace.DEPTH_FORCED and all(robot.traces[0].refreshed)


def test_the_status_announces_the_episode_before_its_first_chunk_and_carries_rates_latency_and_ages(running):
    robot = running
    chunk = robot.next(robot.chunks)
    assert any(s.episode_id == chunk.episode_id and s.state == PolicyStatus.ACTIVE for s in robot.statuses)
    status = robot.next(robot.statuses, lambda s: s.chunks >= 3 and not s.withheld)
    assert (status.backend, status.norm_tag, status.withheld) == ("in_process", TAG.name, "")
    assert status.depth_mode == ReasoningTrace.DEPTH_ADAPTIVE
    assert status.checkpoint == str(CHECKPOINT) and status.checkpoint_fingerprint == fingerprint(CHECKPOINT)
    assert 0 < status.latency_p50 <= status.latency_p95
    assert status.chunk_rate > 0 and status.inferences >= status.chunks
    assert list(status.input_topics) == ["/top/image_raw", f"/{WRIST}", "/joint_states"]
    assert all(age < PATIENCE for age in status.input_ages)
    diagnostics = robot.next(robot.diagnostics).status[0]
    assert {"latency p50 [s]", "latency p95 [s]", "age of /top/image_raw [s]"} <= {v.key for v in diagnostics.values}


def test_a_black_camera_stops_chunks_with_the_reason_and_they_come_back_with_the_picture(running):
    robot = running
    robot.next(robot.chunks)
    robot.top = lambda frame: np.zeros((60, 80, 3), np.uint8)
    trace = robot.next(robot.traces, lambda t: t.withheld)
    assert (trace.withheld, trace.chunk_id) == ("camera top is black", 0)
    robot.next(robot.statuses, lambda s: s.withheld == "camera top is black")
    last = robot.chunks[-1].chunk_id
    robot.top = picture
    assert robot.next(robot.chunks).chunk_id == last + 1
    robot.next(robot.statuses, lambda s: not s.withheld)
    dark = {captured for captured, rgb in dict(robot.sent).items() if not rgb.any()}
    assert dark and not dark & {stamp_ns(chunk) for chunk in robot.chunks}


def test_a_frozen_camera_stops_chunks(running):
    robot = running
    robot.top = lambda frame: picture(3)
    trace = robot.next(robot.traces, lambda t: t.withheld)
    assert trace.withheld.startswith("camera top is frozen")


def test_a_joint_that_is_not_in_the_contract_stops_chunks_and_is_counted(running):
    robot = running
    robot.next(robot.chunks)
    robot.changed = {"tail": 0.0}
    robot.joint_names = (LOWER, (*UPPER, "tail"))
    status = robot.next(robot.statuses, lambda s: "joint_unknown" in s.drop_reasons)
    assert "'tail'" in status.withheld
    assert status.drop_counts[list(status.drop_reasons).index("joint_unknown")] >= 1
    robot.joint_names = (LOWER, UPPER)
    robot.next(robot.chunks)


def test_a_camera_that_falls_silent_is_named_in_the_status(running):
    robot = running
    robot.next(robot.chunks)
    robot.wrist_works = False
    status = robot.next(robot.statuses, lambda s: s.withheld)
    assert status.withheld == f"no stamp within the last 1 s on {WRIST}"


def test_a_reset_changes_the_episode_and_no_chunk_of_the_old_one_follows(running):
    robot = running
    before = robot.next(robot.chunks).episode_id
    answer = robot.call(ResetEpisode, "policy/reset", ResetEpisode.Request())
    assert answer.success and answer.episode_id != before
    first = robot.next(robot.chunks, lambda c: c.episode_id == answer.episode_id)
    later = robot.chunks[robot.chunks.index(first):]
    assert {c.episode_id for c in later} == {answer.episode_id}
    trace = robot.wait(lambda: next((t for t in robot.traces if t.episode_id == answer.episode_id), None))
    assert trace.cause == "reset" and all(trace.refreshed)
    assert robot.next(robot.statuses).episode_id == answer.episode_id


def test_the_instruction_changes_by_service_topic_and_parameter_and_a_blank_one_is_refused(running):
    robot = running
    episode = robot.next(robot.chunks).episode_id
    answer = robot.call(SetInstruction, "policy/set_instruction", SetInstruction.Request(instruction="wave"))
    assert answer.success and answer.episode_id == episode
    assert robot.next(robot.traces, lambda t: t.instruction == "wave").cause == "instruction_changed"
    robot.instruction.publish(String(data="nod"))
    robot.next(robot.traces, lambda t: t.instruction == "nod")
    assert robot.set_parameter("instruction", "bow").successful
    robot.next(robot.traces, lambda t: t.instruction == "bow")
    blank = robot.call(SetInstruction, "policy/set_instruction", SetInstruction.Request(instruction=" "))
    assert not blank.success and "blank" in blank.message
    assert not robot.set_parameter("instruction", "").successful
    new = SetInstruction.Request(instruction="bow", new_episode=True)
    assert robot.call(SetInstruction, "policy/set_instruction", new).episode_id != episode
    assert robot.next(robot.statuses).instruction == "bow"


def test_a_parameter_other_than_the_instruction_cannot_change_once_configured(running):
    refused = running.set_parameter("num_steps", 5)
    assert not refused.successful and "configure anew" in refused.reason
    values = running.call(GetParameters, "policy/get_parameters", GetParameters.Request(names=["num_steps"])).values
    assert values[0].integer_value == 2


def test_deactivating_stops_chunks_and_a_new_activation_is_a_new_episode(running):
    robot = running
    before = robot.next(robot.chunks).episode_id
    assert robot.transition(DEACTIVATE)
    robot.next(robot.statuses, lambda s: s.state == PolicyStatus.INACTIVE)
    count = len(robot.chunks)
    robot.next(robot.statuses)
    robot.next(robot.statuses)
    assert len(robot.chunks) == count
    assert robot.transition(ACTIVATE)
    chunk = robot.next(robot.chunks)
    assert chunk.episode_id != before and chunk.chunk_id > robot.chunks[count - 1].chunk_id


def test_cleaning_up_frees_the_engine_and_the_node_configures_again(robot):
    policy = robot.start_policy()
    assert robot.transition(CONFIGURE)
    robot.next(robot.statuses, lambda s: s.state == PolicyStatus.INACTIVE)
    assert robot.transition(CLEANUP)
    assert policy._backend is None and policy._runner is None
    robot.next(robot.statuses, lambda s: s.state == PolicyStatus.UNCONFIGURED)
    assert robot.transition(CONFIGURE)
    assert robot.transition(ACTIVATE)
    assert robot.next(robot.chunks).chunk_id == 1
    assert len({s.process_id for s in robot.statuses}) == 1


def test_an_engine_that_fails_while_running_ends_in_an_error_that_says_why_and_can_be_activated_again(
    robot, monkeypatch
):
    policy = robot.start_policy()
    assert robot.transition(CONFIGURE)
    session = policy._backend._session
    monkeypatch.setattr(session._engine, "flow", lambda *_: np.full((30, 7), np.nan, np.float32))
    assert robot.transition(ACTIVATE)
    status = robot.next(robot.statuses, lambda s: s.state == PolicyStatus.ERROR)
    assert "not finite" in status.last_error
    assert robot.chunks == []
    monkeypatch.undo()
    robot.next(robot.statuses)
    assert robot.transition(ACTIVATE)
    robot.next(robot.chunks)
    assert robot.next(robot.statuses).last_error == ""


WRONG = (
    ({"contract": ""}, "parameter contract is empty"),
    ({"contract": "no_such_robot"}, "no_such_robot"),
    ({"checkpoint": "no-such-checkpoint"}, "no-such-checkpoint"),
    ({"norm_tag": "so100"}, "norm tag 'so100' is not there; there are: tiny_arm"),
    ({"norm_tag": "other_arm"}, "'other_arm' is not in this checkpoint; it has ['tiny_arm', 'tiny_fast']"),
    ({"norm_tag": "tiny_fast"}, "has 3 state values, the contract tiny_arm.yaml has 7 joints"),
    ({"depth": "deep"}, "parameter depth is 'deep'; it must be one of off, full, adaptive"),
    ({"action_mode": "discrete"}, "fast_tokenizer"),
    ({"device": "abacus"}, "device 'abacus'"),
    ({"n_action_steps": 31}, "n_action_steps is 31, expected an integer 1..30"),
    ({"full_refresh_every": 5, "cache_policy": "reference"}, "full_refresh_every needs cache_policy='bounded'"),
)


@pytest.fixture(scope="module")
def unconfigured():
    robot = Robot()
    robot.start_policy()
    yield robot
    robot.close()


@pytest.mark.parametrize(("changed", "named"), WRONG, ids=[", ".join(changed) for changed, _ in WRONG])
def test_a_wrong_parameter_is_refused_when_configuring_and_named(unconfigured, changed, named):
    robot = unconfigured
    for name, value in changed.items():
        assert robot.set_parameter(name, value).successful
    assert not robot.transition(CONFIGURE)
    status = robot.next(robot.statuses)
    assert named in status.last_error
    assert status.state == PolicyStatus.UNCONFIGURED
    for name in changed:
        defaults = {"action_mode": "continuous", "cache_policy": "bounded", "device": "cpu"}
        assert robot.set_parameter(name, PARAMETERS.get(name, defaults.get(name, 0))).successful


def test_a_parameter_out_of_its_range_or_of_another_type_is_refused_at_the_start(robot):
    for wrong in ({"num_steps": -1}, {"min_period": "often"}):
        with pytest.raises(rclpy.exceptions.ParameterException, match=next(iter(wrong))):
            robot.start_policy(**wrong)


def test_services_answer_while_the_engine_works(robot, monkeypatch):
    policy = robot.start_policy()
    assert robot.transition(CONFIGURE)
    session, working, go_on = policy._backend._session, threading.Event(), threading.Event()
    flow = session._engine.flow

    def slow(*arguments):
        working.set()
        assert go_on.wait(PATIENCE)
        return flow(*arguments)

    monkeypatch.setattr(session._engine, "flow", slow)
    assert robot.transition(ACTIVATE)
    assert working.wait(PATIENCE)
    answer = robot.call(ResetEpisode, "policy/reset", ResetEpisode.Request())
    go_on.set()
    chunk = robot.next(robot.chunks)
    assert chunk.episode_id == answer.episode_id
    status = robot.next(robot.statuses, lambda s: "episode_over" in s.drop_reasons)
    assert dict(zip(status.drop_reasons, status.drop_counts, strict=True))["episode_over"] == 1


def test_a_process_that_ends_halts_its_policy_once(robot, monkeypatch):
    policy, halted = robot.start_policy(), []
    monkeypatch.setattr(policy, "_halt", halted.append)
    policy.leave()
    policy.leave()    # as when it is closed
    assert len(halted) == 1 and policy._state == PolicyStatus.FINALIZED


def test_no_file_of_this_package_imports_torch():
    package = CONTRACT.path.parents[1] / "molmoact2_policy"
    sources = list(package.glob("*.py"))
    assert len(sources) > 5
    assert not [p.name for p in sources if "import torch" in p.read_text() or "from torch" in p.read_text()]
