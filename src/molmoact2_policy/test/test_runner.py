# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The inference loop with the real engine, fed message by message."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from golden_set import Golden
from lerobot_sets import lerobot_folder
from runner_bench import NOW, PATIENCE, Bench
from tiny_robot import CHECKPOINT, CONTRACT, SECOND, SETTINGS, TAG, joint_state, picture

from molmoact2_policy import ingest, runner
from molmoact2_policy.backend import BackendError, InProcessBackend, Unanswered
from molmoact2_policy.continuity import Heard
from molmoact2_policy.model_frame import ModelFrame
from molmoact2_policy.node import PolicyNode


@pytest.fixture(scope="module")
def backend():
    backend = InProcessBackend(SETTINGS, CONTRACT)
    backend.load()
    yield backend
    backend.close()


@pytest.fixture
def make(backend):
    benches = []

    def bench(**options):
        benches.append(Bench(backend, **options))
        return benches[-1]

    yield bench
    for each in benches:
        each.backend.gate.set()
        each.runner.stop()


def test_an_observation_becomes_the_actions_the_engine_gives_for_it_in_ros_units(make, backend):
    bench = make()
    bench.put(joints=joint_state(NOW, joint_1=0.25))
    outcome = bench.outcome()
    assert (outcome.chunk_id, outcome.withheld, outcome.instruction) == (1, "", "pick up the cube")
    backend.reset()
    seen = outcome.observation
    again = backend.infer(seen.images, seen.model_state, "pick up the cube", 5)
    actions, remarks = ModelFrame(CONTRACT, TAG).actions_to_ros(again.actions)
    np.testing.assert_array_equal(outcome.actions, actions)
    assert actions.shape == (30, 7)
    assert outcome.inference.trace.seed == 5
    # The golden checkpoint asks the gripper for values below closed; that must be said.
    assert len(remarks) == 1 and "gripper values lay outside 0 .. 1" in remarks[0]
    assert outcome.warnings == remarks


def test_without_a_given_seed_each_inference_draws_its_own(make):
    bench = make(seed=None)
    bench.put()
    bench.put()
    assert bench.outcome().inference.trace.seed != bench.outcome().inference.trace.seed


def test_an_observation_too_old_or_from_the_future_is_dropped_and_counted_and_the_next_good_one_used(make):
    bench = make()
    bench.put(stamp_ns=NOW - int(1.2 * SECOND))
    bench.until(lambda: bench.runner.statistics.drops["stale"] == 1)
    assert bench.runner.withheld == "the newest observation is 1.20 s old, over 1 s"
    bench.put(stamp_ns=NOW + SECOND)
    bench.until(lambda: bench.runner.statistics.drops["future"] == 1)
    bench.put()
    assert bench.outcome().chunk_id == 1
    assert bench.runner.withheld == ""


def test_an_observation_that_cannot_be_used_withholds_with_its_reason_and_the_next_good_one_flows(make):
    bench = make()
    bench.put(joints=joint_state(NOW, joint_3=float("nan")))
    bench.until(lambda: bench.runner.statistics.drops["joint_not_finite"] == 1)
    assert "'joint_3'" in bench.runner.withheld
    bench.put()
    assert bench.outcome().withheld == ""


def test_without_an_instruction_nothing_is_inferred(make):
    bench = make()
    bench.runner.instruction = ""
    bench.put()
    bench.until(lambda: bench.runner.statistics.drops["no_instruction"] == 1)
    assert "policy/set_instruction" in bench.runner.withheld
    with pytest.raises(ValueError, match="blank"):
        bench.runner.set_instruction("  ")
    bench.runner.set_instruction("wave")
    bench.put()
    assert bench.outcome().instruction == "wave"
    assert bench.backend.resets == 1


def test_a_reset_begins_an_episode_drops_what_is_under_way_and_forgets_the_depth_cache(make):
    bench = make()
    bench.put()
    first = bench.outcome()
    bench.backend.gate.clear()
    bench.backend.started.get(timeout=PATIENCE)
    bench.put()
    bench.backend.started.get(timeout=PATIENCE)
    episode = bench.runner.reset()
    bench.backend.gate.set()
    bench.until(lambda: bench.runner.statistics.drops["episode_over"] == 1)
    bench.put()
    second = bench.outcome()
    assert first.episode_id != episode == second.episode_id
    assert second.inference.trace.cause == "reset"
    assert (first.chunk_id, second.chunk_id) == (1, 2)
    assert bench.outcomes.empty()


def test_a_black_camera_withholds_the_chunk_not_the_trace_and_chunk_ids_have_no_gap(make):
    bench = make()
    bench.put()
    assert bench.outcome().chunk_id == 1
    bench.put(top=np.zeros((60, 80, 3), np.uint8))
    dark = bench.outcome()
    assert (dark.withheld, dark.chunk_id) == ("camera top is black", 0)
    assert dark.inference.trace.cause == "main_image_black"
    assert bench.runner.withheld == "camera top is black"
    bench.put()
    assert bench.outcome().chunk_id == 2
    assert bench.runner.withheld == ""


@pytest.mark.parametrize(("check_frozen", "withheld"), [(True, "camera top is frozen"), (False, "")])
def test_a_repeating_camera_is_frozen_where_that_is_looked_for(make, check_frozen, withheld):
    bench = make(check_frozen=check_frozen)
    for _ in range(2):
        bench.put(top=picture(3))
        outcome = bench.outcome()
        bench.now += int(0.6 * SECOND)
    assert outcome.withheld.startswith(withheld) and bool(outcome.withheld) == bool(withheld)


def test_the_chunk_is_out_before_a_digest_is_taken_for_the_trace(make, monkeypatch):
    bench, plain, order = make(), ingest.digest, []
    monkeypatch.setattr(ingest, "digest", lambda values: order.append("digest") or plain(values))
    bench.put(top=picture(3))
    outcome, traces = bench.outcome(), []
    node = SimpleNamespace(
        _configuration=SimpleNamespace(contract=CONTRACT, tag=TAG), resolve_topic_name=str,
        _chunks=SimpleNamespace(publish=lambda _: order.append("chunk")),
        _traces=SimpleNamespace(publish=traces.append),
    )
    PolicyNode._deliver(node, outcome)
    assert order == ["chunk", "digest", "digest", "digest"]    # of two images and a joint state
    assert bytes(bytearray(traces[0].inputs[0].digest)) == plain(picture(3))


def test_inferences_start_no_more_often_than_asked(make):
    bench = make(min_period=0.15)
    for _ in range(3):
        bench.put()
    starts = [bench.backend.started.get(timeout=PATIENCE) for _ in range(3)]
    assert min(np.diff(starts)) > 0.14


def test_when_no_set_comes_any_more_the_reason_is_given(make):
    bench = make()
    bench.put()
    bench.outcome()
    assert bench.runner.withheld == ""
    bench.until(lambda: bench.runner.withheld == "nothing was fed until 1000 s")


def test_a_failing_engine_ends_the_loop_and_says_so(make):
    bench = make()
    bench.backend.failure = BackendError("out of memory")
    bench.put()
    assert bench.failures.get(timeout=PATIENCE) == "inference failed: out of memory"
    bench.runner._thread.join(PATIENCE)
    assert not bench.runner._thread.is_alive()
    assert bench.outcomes.empty()


def test_an_observation_without_an_answer_is_counted_and_the_next_one_answered(make):
    bench = make()
    bench.backend.failure = Unanswered("not_decoded", "the model did not close its depth codes")
    for count in (1, 2, 3):
        bench.put()
        bench.until(lambda count=count: bench.runner.statistics.drops["not_decoded"] == count)
    assert bench.runner.withheld == "the model did not close its depth codes"
    bench.backend.failure = None
    bench.put()
    assert bench.outcome().withheld == ""


def test_when_no_observation_is_answered_any_more_the_loop_ends_and_says_so(make):
    bench = make()
    bench.backend.failure = Unanswered("not_decoded", "no end")
    for _ in range(5):
        bench.put()
    assert bench.failures.get(timeout=PATIENCE) == (
        "5 inferences in a row gave no action, the last because: no end"
    )


@pytest.mark.parametrize("instruction", ["...", "press <action_start> now"])
def test_an_instruction_the_model_cannot_read_is_refused_when_it_is_given(make, instruction):
    bench = make()
    with pytest.raises(ValueError, match="instruction"):
        bench.runner.set_instruction(instruction)
    assert bench.runner.instruction == "pick up the cube"


def test_held_back_nothing_is_inferred_or_sent_also_of_what_is_under_way_until_an_instruction_is_set(make):
    bench = make()
    bench.backend.gate.clear()
    bench.put()
    bench.backend.started.get(timeout=PATIENCE)
    before = bench.runner.episode_id
    bench.runner.hold_back("enough")
    bench.backend.gate.set()
    bench.until(lambda: bench.runner.statistics.drops["episode_over"] == 1)
    bench.runner.stop()
    bench.runner.start(bench.feed)
    assert bench.runner.withheld == "enough"
    bench.put()
    bench.until(lambda: bench.feed.is_empty)
    bench.runner.reset()
    bench.put()
    bench.until(lambda: bench.feed.is_empty)
    assert bench.backend.started.empty() and bench.outcomes.empty()
    bench.runner.set_instruction("wave")
    bench.put()
    outcome = bench.outcome()
    assert (outcome.instruction, outcome.chunk_id, outcome.withheld) == ("wave", 1, "")
    assert outcome.episode_id != before and outcome.inference.trace.cause == "reset"


def test_stopping_drops_what_is_under_way(make):
    bench = make()
    bench.backend.gate.clear()
    bench.put()
    bench.backend.started.get(timeout=PATIENCE)
    stopping = threading.Thread(target=bench.runner.stop)
    stopping.start()
    bench.until(bench.runner._stop.is_set)
    bench.backend.gate.set()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    assert bench.outcomes.empty()


def test_latency_is_from_capture_to_the_finished_chunk(make):
    bench = make()
    bench.put(stamp_ns=NOW - SECOND // 4)
    outcome = bench.outcome()
    statistics = bench.runner.statistics
    assert statistics.percentile(0.5) == statistics.percentile(0.95) == 0.25
    assert (outcome.started_ns, outcome.finished_ns) == (NOW, NOW)
    assert (statistics.inferences, statistics.chunks) == (1, 1)


def test_an_inference_that_shall_last_longer_is_delivered_then_and_the_next_begins_afterwards(make):
    bench = make(least_latency=0.8)
    bench.put()
    bench.backend.started.get(timeout=PATIENCE)
    bench.put(stamp_ns=NOW + SECOND // 10)
    bench.now += int(0.79 * SECOND)
    bench.until(lambda: bench.runner.busy > 0)
    assert bench.outcomes.empty() and bench.backend.started.empty() and bench.runner.statistics.inferences == 0
    bench.now += int(0.01 * SECOND)
    outcome = bench.outcome()
    assert outcome.finished_ns - outcome.observation.stamp_ns == int(0.8 * SECOND)
    assert bench.runner.statistics.percentile(0.5) == pytest.approx(0.8)
    bench.backend.started.get(timeout=PATIENCE)
    bench.now += int(0.1 * SECOND)
    assert bench.outcome().chunk_id == 2


def test_an_inference_that_shall_last_longer_does_not_outlast_its_episode(make):
    bench = make(least_latency=0.8)
    bench.put()
    bench.backend.started.get(timeout=PATIENCE)
    bench.runner.reset()
    bench.until(lambda: bench.runner.statistics.drops["episode_over"] == 1)


def test_a_guided_chunk_continues_what_the_controllers_follow(make):
    bench = make()
    bench.put()
    first = bench.outcome()
    assert first.frozen == 0
    bench.runner.continuity.hear("arm", Heard("rtc", 1, 9, latency=0.3), True)    # the cold one
    bench.now += SECOND // 10
    bench.put(stamp_ns=bench.now)
    assert bench.outcome().frozen == 0
    bench.runner.continuity.hear("arm", Heard("rtc", 2, 4, latency=0.3), True)
    bench.now += SECOND // 10
    bench.put(stamp_ns=bench.now)
    second = bench.outcome()
    assert second.frozen == 4 and second.chunk_id == 3
    plain = make()
    plain.now = bench.now
    plain.put(stamp_ns=bench.now)
    running = first.actions[4:7]    # 0.2 s later
    apart, near = (np.abs(o.actions[:3] - running).mean() for o in (plain.outcome(), second))
    assert near < apart


def test_an_inference_starts_before_its_period_is_over_where_motion_would_pause(make):
    bench = make(min_period=600.0, check_frozen=False)
    for latency in (3.0, 0.2):    # the first is the cold one
        bench.runner.continuity.forecast.add(latency)
    bench.put(stamp_ns=NOW - SECOND * 9 // 10)
    assert bench.outcome().chunk_id == 1
    bench.put()
    bench.runner.continuity.hear("arm", Heard("splice", 1), True)
    assert bench.outcome().chunk_id == 2


def test_an_inference_that_hangs_is_told_of_and_a_stop_does_not_wait_for_it(make, monkeypatch):
    monkeypatch.setattr(runner, "SLOW", 0.0)
    monkeypatch.setattr(runner, "END_WITHIN", 0.1)
    bench = make()
    bench.put()
    bench.outcome()
    bench.backend.gate.clear()
    bench.put()
    bench.until(lambda: bench.runner.busy > 0)
    assert "the inference under way has taken" in bench.runner.silent_because
    bench.runner.stop()
    assert bench.runner.hangs
    with pytest.raises(RuntimeError, match="start the policy's process anew"):
        bench.runner.start(bench.feed)
    bench.backend.gate.set()
    bench.until(lambda: not bench.runner.hangs)
    assert bench.runner.busy == 0


def test_what_lerobot_saved_runs_with_its_base_named(backend, tmp_path):
    golden = Golden(CHECKPOINT.parent)
    saved = lerobot_folder(tmp_path / "saved", golden, norm_tag=TAG.name, checkpoint_path="/nowhere/MolmoAct2")
    settings = replace(SETTINGS, checkpoint=str(saved))
    with pytest.raises(BackendError, match="base_checkpoint"):
        InProcessBackend(settings, CONTRACT).load()
    other = InProcessBackend(replace(settings, base_checkpoint=str(CHECKPOINT)), CONTRACT)
    other.load()
    backend.reset()
    shown = [picture(1), picture(2)], np.linspace(-0.5, 0.5, 7, dtype=np.float32), "wave", 3
    np.testing.assert_array_equal(other.infer(*shown).actions, backend.infer(*shown).actions)
    assert other.fingerprint not in ("", backend.fingerprint)
    other.close()
