# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The policy's backend on a server: molmoact2 serve over loopback, and a double of existing servers."""

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from act_double import Double
from served import PATIENCE, Served
from tiny_robot import CHECKPOINT, CONTRACT, SETTINGS, TAG, picture

from molmoact2_model import MolmoAct2Policy, fingerprint
from molmoact2_model.serving.tokens import Token
from molmoact2_policy.act_backend import NO_TRACE, ActBackend, Remote
from molmoact2_policy.backend import BackendError, InProcessBackend, Unanswered
from molmoact2_policy.continuity import Prefix
from molmoact2_policy.replay.configured import Configured, Wanted, unpromised
from molmoact2_policy.smoothing import Smoothing

STATE = np.linspace(-1, 1, 7, dtype=np.float32)
PLAIN = replace(SETTINGS, checkpoint="", depth="off", rtc="off", num_steps=0)
SECRET = "0123456789abcdef"
KEYS = "top_cam,wrist_cam"


def images(seed):
    return [picture(seed), picture(7)]


@pytest.fixture(scope="module")
def policy():
    return MolmoAct2Policy.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def served(policy):
    served = Served(policy, fingerprint=fingerprint(CHECKPOINT))
    yield served
    served.close()


@pytest.fixture(scope="module")
def here():
    backend = InProcessBackend(SETTINGS, CONTRACT)
    backend.load()
    yield backend
    backend.close()


@pytest.fixture
def there(served):
    backend = ActBackend(SETTINGS, CONTRACT, Remote(served.url))
    backend.load()
    yield backend
    backend.close()


@pytest.fixture
def double():
    double = Double()
    yield double
    double.close()


def on(double, settings=PLAIN, **options):
    return ActBackend(settings, CONTRACT, Remote(double.url, **{"image_keys": KEYS, "timeout": 30.0, **options}))


# --- molmoact2 serve --------------------------------------------------------------------------------------------------
def test_with_the_same_seeds_a_server_gives_what_the_engine_in_this_process_gives_to_the_last_bit(here, there):
    first = None
    for seed in range(3):
        prefix = None if first is None else Prefix(first[4:], 2, 28)
        inputs = (images(seed), STATE, "pick up the cube", seed, prefix)
        if seed == 0:
            here.reset()
        one, other = here.infer(*inputs), there.infer(*inputs)
        np.testing.assert_array_equal(one.actions, other.actions)
        assert (one.flow_steps, one.guided) == (other.flow_steps, other.guided)
        for name in ("prompt", "input_ids", "generated_token_ids", "depth_codes", "refreshed", "cell_ages",
                     "code_probs", "depth_mode", "cause", "decoder_steps", "reused_runs", "seed", "warnings"):
            np.testing.assert_array_equal(getattr(one.trace, name), getattr(other.trace, name), err_msg=name)
        first = one.actions


BACKENDS = {
    "in process": lambda served, settings: InProcessBackend(settings, CONTRACT),
    "on a server": lambda served, settings: ActBackend(settings, CONTRACT, Remote(served.url)),
}


@pytest.mark.parametrize("where", BACKENDS)
def test_a_chunk_is_the_sessions_own_smoothed_but_for_what_is_already_being_followed(policy, served, where):
    backend = BACKENDS[where](served, replace(SETTINGS, depth="off", noise_scale=0.6, smoothing=0.5))
    backend.load()
    session, smooth = policy.session(norm_tag=TAG.name, noise_scale=0.6), Smoothing(0.5, TAG.dt)
    running = session.infer(images=images(0), state=STATE, instruction="go", num_steps=2, seed=1).actions
    made = session.infer(
        images=images(1), state=STATE, instruction="go", num_steps=2, seed=2, prefix=running[4:], frozen=6, overlap=26
    ).actions
    first = backend.infer(images(0), STATE, "go", 1).actions
    np.testing.assert_array_equal(first, smooth(running))
    second = backend.infer(images(1), STATE, "go", 2, Prefix(running[4:], 6, 26)).actions
    np.testing.assert_array_equal(second, smooth(made, 6))
    assert (second[:6] == made[:6]).all() and (second[6:] != made[6:]).any() and (first[:6] != running[:6]).any()
    backend.close()


@pytest.mark.parametrize("where", BACKENDS)
def test_where_chunks_are_smoothed_another_scipy_is_a_reason_why_actions_need_not_be_equal(served, where, monkeypatch):
    plain, smoothed = (BACKENDS[where](served, replace(SETTINGS, smoothing=seconds)) for seconds in (0.0, 0.5))
    assert "scipy" not in plain.facts()
    then, wanted = Configured(0, smoothed.facts()), Wanted(SETTINGS, CONTRACT, TAG, {})
    before = unpromised(then, wanted, smoothed.facts())
    monkeypatch.setattr("scipy.__version__", "0.1")
    now = unpromised(then, wanted, smoothed.facts())
    assert [text for text in now if text not in before] == [f"scipy was {then.facts['scipy']} and is 0.1"]


def test_the_time_on_the_way_is_told_beside_the_servers_own(there):
    timings = there.infer(images(0), STATE, "go", 1).trace.timings
    assert timings["transport"] > 0
    assert sum(v for k, v in timings.items() if k != "total") <= timings["total"] + 1e-6


def test_a_reset_reaches_the_server_with_its_cause_also_where_the_request_after_it_was_lost(there, monkeypatch):
    there.infer(images(0), STATE, "go", 1)
    there.reset("call_failed")
    with monkeypatch.context() as patch:
        patch.setattr(there, "_remote", replace(there._remote, timeout=1e-6))
        with pytest.raises(Unanswered):
            there.infer(images(0), STATE, "go", 1)
    there._client._not_before = 0.0
    assert there.infer(images(0), STATE, "go", 1).trace.cause == "call_failed"
    assert there.infer(images(0), STATE, "go", 1).trace.cause == ""


@pytest.mark.parametrize(("before", "cause"), [("", "call_failed"), ("reset", "reset")])
def test_after_an_answer_that_was_lost_the_server_begins_anew(there, served, monkeypatch, before, cause):
    there.infer(images(0), STATE, "go", 1)
    if before:
        there.reset(before)
    answer, given_up = served.service._answer, threading.Event()

    def late(*asked):
        found = answer(*asked)    # so that its session remembers it
        assert given_up.wait(PATIENCE)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(served.service, "_answer", late)
        patch.setattr(there, "_remote", replace(there._remote, timeout=0.3))
        with pytest.raises(Unanswered) as error:
            there.infer(images(1), STATE, "go", 1)
    given_up.set()
    assert error.value.kind == "server_slow"
    assert [there.infer(images(2), STATE, "go", 1).trace.cause for _ in range(2)] == [cause, ""]


def test_it_tells_what_its_results_depend_on_and_which_checkpoint_it_is(there, here):
    assert there.fingerprint == fingerprint(CHECKPOINT) and there.name.startswith("http://127.0.0.1:")
    facts, own = there.facts(), here.facts()
    differing = {name for name in own if facts[name] != own[name]}
    assert differing <= {"threads"}
    assert (facts["act"], facts["act_images"]) == ("molmoact2_act.v1", "raw")


def test_png_changes_nothing_and_jpeg_little(served, there):
    actions = {}
    for encoding in ("raw", "png", "jpeg"):
        backend = ActBackend(SETTINGS, CONTRACT, Remote(served.url, images=encoding))
        backend.load()
        actions[encoding] = backend.infer(images(3), STATE, "go", 1).actions
        backend.close()
    np.testing.assert_array_equal(actions["raw"], actions["png"])
    assert 0 < np.abs(actions["jpeg"] - actions["raw"]).max() < 0.2 * np.ptp(actions["raw"])


def test_an_instruction_is_checked_where_the_model_is(there, served):
    there.check_instruction("pick up the cube")
    with pytest.raises(ValueError, match="instruction"):
        there.check_instruction("press <action_start> now")
    with pytest.raises(ValueError, match="blank"):
        there.check_instruction(" ")


def test_what_the_engine_refuses_is_refused_as_in_this_process(there, here, monkeypatch):
    for backend in (here, there):
        with pytest.raises(Unanswered) as error:
            backend.infer(images(0), STATE, "press <action_start> now", 1)
        assert error.value.kind == "input_refused" and not error.value.passing


def test_a_server_that_was_started_anew_is_found_again_and_its_first_call_says_so(policy):
    first = Served(policy)
    backend = ActBackend(SETTINGS, CONTRACT, Remote(first.url))
    backend.load()
    backend.infer(images(0), STATE, "go", 1)
    first.close()
    with pytest.raises(Unanswered) as error:
        backend.infer(images(0), STATE, "go", 1)
    assert error.value.kind == "server_away" and error.value.passing
    again = Served(policy, port=first.port)
    backend._client._not_before = 0.0
    assert backend.infer(images(0), STATE, "go", 1).trace.cause == "first_call"
    with pytest.raises(ValueError, match="could not be checked"):
        again.close()
        backend.check_instruction("go")
    backend.close()


WRONG = {
    "tag": ({"norm_tag": "other_arm"}, "'other_arm' is not in"),
    "joints": ({"norm_tag": "tiny_fast"}, "has 3 state values, the contract tiny_arm.yaml has 7 joints"),
    "waypoints": ({"n_action_steps": 31}, "n_action_steps is 31, expected an integer 1..30"),
    "action mode": ({"action_mode": "discrete"}, "it offers continuous"),
    "tokenizer": ({"fast_tokenizer": "x"}, "fast_tokenizer is the server's own"),
    "checkpoint": ({"checkpoint": "someone/else"}, "set checkpoint to '' to take what is served"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_server_cannot_do_is_refused_when_configuring_with_the_mend(served, name):
    changed, said = WRONG[name]
    with pytest.raises(BackendError) as error:
        ActBackend(replace(SETTINGS, **changed), CONTRACT, Remote(served.url)).load()
    assert said in str(error.value)


def test_another_checkpoint_than_the_one_that_is_named_is_refused(policy):
    other = Served(policy, fingerprint="0" * 64)
    with pytest.raises(BackendError, match="parameter checkpoint is elsewhere"):
        ActBackend(replace(SETTINGS, checkpoint="elsewhere"), CONTRACT, Remote(other.url)).load()
    ActBackend(replace(SETTINGS, checkpoint=""), CONTRACT, Remote(other.url)).load()
    other.close()


@pytest.mark.parametrize(("name", "value"), [
    ("optimizations", "graphs,no_reuse"), ("optimizations", "compiled"), ("optimizations", "unwatched"),
    ("offload", "language"),
])
def test_what_is_untried_on_a_server_is_refused_for_a_robot_that_is_not_simulated(served, monkeypatch, name, value):
    about = served.service.about()
    about["molmoact2"]["machine"] |= {name: value}
    monkeypatch.setattr(served.service, "about", lambda: about)
    with pytest.raises(BackendError, match="not for a robot that moves; start molmoact2 serve without it"):
        ActBackend(SETTINGS, CONTRACT, Remote(served.url)).load()
    simulated = ActBackend(SETTINGS, CONTRACT, Remote(served.url), simulation=True)
    simulated.load()
    simulated.close()


def test_without_the_servers_token_nothing_is_configured(policy, tmp_path):
    served = Served(policy, token=Token(SECRET))
    file = tmp_path / "token"
    file.write_text(SECRET)
    file.chmod(0o600)
    with pytest.raises(BackendError, match="no token came"):
        ActBackend(SETTINGS, CONTRACT, Remote(served.url)).load()
    with pytest.raises(BackendError, match="cannot be read"):
        ActBackend(SETTINGS, CONTRACT, Remote(served.url, token_file=str(tmp_path / "none"))).load()
    backend = ActBackend(SETTINGS, CONTRACT, Remote(served.url, token_file=str(file)))
    backend.load()
    assert SECRET not in str(backend.facts())
    served.close()


def test_where_nobody_listens_it_says_so():
    with pytest.raises(BackendError, match="http://127.0.0.1:1 cannot be reached: Connection refused"):
        ActBackend(SETTINGS, CONTRACT, Remote("http://127.0.0.1:1")).load()


# --- existing servers -------------------------------------------------------------------------------------------------
def test_a_plain_server_drives_and_its_trace_says_that_there_is_none(double):
    backend = on(double)
    backend.load()
    double.actions = lambda fields: np.tile(fields["state"] + 1, (30, 1))
    answer = backend.infer(images(0), STATE, "go", 5)
    np.testing.assert_array_equal(answer.actions, np.tile(STATE + 1, (30, 1)))
    assert answer.trace.warnings == (NO_TRACE,) and answer.trace.seed is None and not answer.guided
    assert (backend.facts()["act"], backend.facts()["checkpoint"], backend.fingerprint) == ("plain", double.repo_id, "")
    backend.check_instruction("anything")
    backend.close()


def test_the_general_kind_of_plain_server_drives_too():
    double = Double("general")
    backend = on(double, image_keys="")
    backend.load()
    assert backend.infer(images(0), STATE, "go", 5).actions.shape == (30, 7)
    double.close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"rtc": "gradient"}, "set rtc=off, and let arm_controller join by splice"),
     ({"depth": "adaptive"}, "set depth=off"), ({"action_mode": "discrete"}, "set action_mode=continuous")],
    ids=str,
)
def test_what_the_plain_protocol_cannot_do_is_refused_when_configuring_with_the_mend(double, changed, said):
    with pytest.raises(BackendError) as error:
        on(double, replace(PLAIN, **changed)).load()
    assert said in str(error.value) and "or serve the checkpoint with molmoact2 serve" in str(error.value)
    assert not double.requests


def test_a_seed_is_refused_where_the_server_takes_none_and_all_that_lacks_is_said_at_once(double):
    settings = replace(PLAIN, rtc="replace", depth="full")
    with pytest.raises(BackendError) as error:
        ActBackend(settings, CONTRACT, Remote(double.url), seeded=True).load()
    for mend in ("rtc=off", "depth=off", "seed=-1"):
        assert mend in str(error.value)


def test_a_running_chunk_is_refused_where_rtc_is_off_here_and_there(double, here):
    backend = on(double)
    backend.load()
    prefix = Prefix(np.zeros((3, 7), np.float32), 1, 3)
    in_process = InProcessBackend(replace(SETTINGS, rtc="off"), CONTRACT)
    for each in (backend, in_process):
        with pytest.raises(Unanswered, match="set joining of arm_controller") as error:
            each.infer(images(0), STATE, "go", 5, prefix)
        assert error.value.kind == "rtc_off" and not error.value.passing


def test_a_plain_server_for_another_robot_is_refused_when_configuring():
    for options, said in (
        ({"dim": 14}, "takes 14 state values, the contract tiny_arm.yaml has 7 joints"),
        ({"tag": "yam_dual_molmoact2"}, "serves norm tag 'yam_dual_molmoact2'"),
        ({"keys": ("a", "b", "c")}, "takes 3 images"),
    ):
        double = Double(**options)
        with pytest.raises(BackendError) as error:
            on(double).load()
        assert said in str(error.value)
        double.close()


def test_how_a_plain_server_names_its_images_must_be_known(double):
    with pytest.raises(BackendError, match="set server_image_keys, to a,b,c or one of yam"):
        on(double, image_keys="").load()
    with pytest.raises(BackendError, match="has 2 cameras"):
        on(double, image_keys="yam").load()
    with pytest.raises(BackendError, match="wrist_cam"):
        on(double, image_keys="top_cam,hand_cam").load()


@pytest.mark.parametrize(
    ("spoil", "kind", "passing"),
    [({"pause": 30.0}, "server_slow", True), ({"hang_up": True}, "server_away", True),
     ({"status": 500}, "server_failed", False), ({"status": 503}, "server_away", True),
     ({"actions": lambda _: np.full((30, 7), np.nan)}, "answer_refused", False),
     ({"actions": lambda _: np.zeros((30, 6))}, "answer_refused", False),
     ({"answer": lambda _: b"{"}, "answer_refused", False)],
    ids=["slow", "hangs up", "fails", "behind a proxy", "NaN", "wrong joints", "truncated"],
)
def test_a_bad_answer_is_none_and_says_whether_it_may_pass(double, spoil, kind, passing):
    backend = on(double)
    backend.load()
    backend._remote = replace(backend._remote, timeout=0.3 if "pause" in spoil else 30.0)
    for name, value in spoil.items():
        setattr(double, name, value)
    with pytest.raises(Unanswered) as error:
        backend.infer(images(0), STATE, "go", 5)
    assert (error.value.kind, error.value.passing) == (kind, passing)


def test_neither_server_nor_engine_is_loaded_to_ask_one():
    code = (
        "import sys, molmoact2_policy.act_backend;"
        "print([m for m in ('torch', 'starlette', 'uvicorn', 'rclpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
