# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 serve` over real HTTP with the golden checkpoint: as existing clients use it, and the extension."""

import json
import random
import shutil
import threading

import numpy as np
import pytest
from asked import IMAGES, STATE, extended, general, host
from served import Served, pack
from test_serving_wire import spoil

from molmoact2_model import DecodeError, ModelError
from molmoact2_model.serving.tokens import Token
from molmoact2_model.session import Session

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def served(policy):
    served = Served(policy)
    yield served
    served.close()


@pytest.fixture(scope="module")
def thinking(policy):
    """A server whose plain requests reason depth adaptively."""
    from molmoact2_model.serving.extension import SessionSettings

    served = Served(policy, settings=SessionSettings(depth="adaptive"), num_steps=1)
    yield served
    served.close()


# --- as existing servers ----------------------------------------------------------------------------------------------
def test_a_probe_tells_what_is_served_and_what_is_offered_beyond(served):
    status, about = served.ask("GET", "/act")
    assert status == 200
    assert (about["status"], about["norm_tag"], about["num_cameras"], about["state_dim"]) == ("ok", "tiny_arm", 2, 7)
    assert about["device"] == "cpu" and about["dtype"] == "torch.float32"
    assert ["top_cam", "wrist_cam"] in about["image_keys"]
    offer = about["molmoact2"]
    assert offer["name"] == "molmoact2_act.v1" and offer["fingerprint"] == "f" * 64
    assert set(offer["tags"]) == {"tiny_arm", "tiny_fast"} and offer["tags"]["tiny_arm"]["noise_shape"] == [30, 32]
    assert "adaptive" in offer["depth"] and offer["machine"]["torch"]
    assert served.ask("GET", "/healthz") == (200, {"status": "ok"})
    health = served.ask("GET", "/health")[1]
    assert (health["default_norm_tag"], health["n_obs_steps"]) == ("tiny_arm", 1)
    assert health["default_style"] == "robot_action"
    assert (health["num_steps"], health["modes"]) == (2, ["continuous"])


def test_a_server_that_spells_actions_by_another_tokenizer_is_told_from_the_one_before(policy, golden, tmp_path):
    other = tmp_path / "fast"
    shutil.copytree(golden.fast_tokenizer, other)
    config = other / "processor_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scale": 20}))
    found = []
    for folder in (golden.fast_tokenizer, golden.fast_tokenizer, other):
        serving = Served(policy, fast_tokenizer=folder)
        found.append(serving.ask("GET", "/act")[1]["molmoact2"]["machine"]["fast_tokenizer_digest"])
        serving.close()
    assert found[0] == found[1] != found[2]


def test_a_client_of_an_existing_robots_server_gets_what_it_knows(served):
    status, answer = served.ask("POST", "/act", host(num_steps=3, timestamp=1.0, enable_cuda_graph=True))
    assert status == 200 and set(answer) == {"actions", "dt_ms"}
    assert answer["actions"].shape == (30, 7) and answer["actions"].dtype == np.float32
    assert np.isfinite(answer["actions"]).all() and answer["dt_ms"] > 0


def test_a_client_of_the_existing_general_server_gets_what_it_knows(served):
    status, answer = served.ask("POST", "/act", general(n_action_steps=4))
    assert status == 200 and set(answer) == {"style", "actions", "action_shape", "latency_ms"}
    assert np.shape(answer["actions"]) == (4, 7) and answer["action_shape"] == [1, 4, 7]
    assert answer["style"] == "robot_action"


def test_plain_requests_remember_nothing_and_sessions_do(thinking):
    first, second = (thinking.ask("POST", "/act", general())[1] for _ in range(2))
    assert first["style"] == "robot_depth_action" and first["depth_shape"] == [1, 100]
    assert first["depth_predictions"] == second["depth_predictions"]
    keep = general(action_chunk=True, session_id="arm:1")
    assert thinking.ask("POST", "/act", keep)[1]["inference_calls"] == 1
    codes = thinking.ask("POST", "/act", keep)[1]["depth_buffer_codes"]
    assert len(codes) == 100 and thinking.service.session_count == 1
    thinking.ask("POST", "/act", general(action_chunk="true", session_id="arm:2"))
    status, answer = thinking.ask("POST", "/reset", {"session_id": "arm", "prefix": True})
    assert status == 200 and sorted(answer["removed"]) == ["arm:1", "arm:2"]
    assert thinking.ask("POST", "/reset", {"session_id": "arm:1"})[1] == {"status": "ok", "removed": []}
    status, answer = thinking.ask("POST", "/reset", {})
    assert status == 400 and "session_id" in answer["error"]


def test_single_actions_are_those_of_one_chunk_until_it_is_used_up(served):
    ask = general(single_action=True, n_action_steps=2, session_id="one")
    answers = [served.ask("POST", "/act", ask)[1] for _ in range(3)]
    assert [a["inference_calls"] for a in answers] == [1, 0, 1]
    assert all(len(a["action"]) == 7 and a["action_shape"] == [1, 7] for a in answers)
    other = served.ask("POST", "/act", general(single_action=True, session_id="one", task="wave", instruction=""))[1]
    assert other["inference_calls"] == 1


def test_single_actions_of_the_reasoning_style_tell_the_depth_codes_of_their_chunk(thinking):
    ask = general(single_action=True, n_action_steps=2, session_id="codes")
    answers = [thinking.ask("POST", "/act", ask)[1] for _ in range(2)]
    assert [a["inference_calls"] for a in answers] == [1, 0] and answers[0]["style"] == "robot_depth_action"
    assert len(answers[0]["depth_buffer_codes"]) == 100
    assert answers[0]["depth_buffer_codes"] == answers[1]["depth_buffer_codes"]
    thinking.ask("POST", "/reset", {"session_id": "codes"})


def test_who_names_a_norm_tag_gets_the_general_servers_answer(served):
    for name in ("tag", "norm_tag"):
        answer = served.ask("POST", "/act", host(**{name: "tiny_arm"}))[1]
        assert set(answer) == {"style", "actions", "action_shape", "latency_ms"}


# --- the extension ----------------------------------------------------------------------------------------------------
def test_with_the_same_seed_noise_and_running_chunk_the_answer_is_the_sessions_own_to_the_last_bit(served, policy):
    session = policy.session(norm_tag="tiny_arm", depth="adaptive")
    noise = np.random.default_rng(3).standard_normal((30, 32)).astype(np.float32)
    running = np.tile(STATE, (10, 1))
    asked = ({"seed": 5}, {"seed": 2**62}, {"noise": noise, "seed": None},
             {"seed": 5, "prefix": running, "frozen": 3, "overlap": 12})
    for number, options in enumerate(asked):
        extra = {key: value for key, value in options.items() if value is not None}
        if "noise" in extra:
            extra["seed"] = None
        status, answer = served.ask("POST", "/act", extended(number, "equal", **extra))
        assert status == 200, answer
        wanted = session.infer(IMAGES, STATE, "pick up the cube", num_steps=2, **options)
        np.testing.assert_array_equal(answer["actions"], wanted.actions)
        entry, trace = answer["molmoact2"], answer["molmoact2"]["trace"]
        assert (entry["request"], entry["session"], entry["flow_steps"]) == (str(number), "equal", 2)
        assert entry["guided"] == ("prefix" in options)
        for name in ("prompt", "depth_codes", "refreshed", "cell_ages", "code_probs", "depth_mode", "cause", "seed"):
            np.testing.assert_array_equal(trace[name], getattr(wanted.trace, name), err_msg=name)


def test_a_reset_in_a_request_forgets_before_it_and_its_cause_is_told(served):
    causes = [
        served.ask("POST", "/act", extended(1, "resets", **more))[1]["molmoact2"]["trace"]["cause"]
        for more in ({}, {}, {"reset": "reset"}, {"settings": {"depth": "adaptive", "max_gap": 9.0}})
    ]
    assert causes == ["first_call", "", "reset", "first_call"]


def test_settings_that_are_refused_leave_the_session_as_it_was(served):
    causes = []
    for settings, wanted in (("adaptive", 200), ("adaptive", 200), ("deep", 400), ("adaptive", 200)):
        status, answer = served.ask("POST", "/act", extended(1, "stays", settings={"depth": settings}))
        assert status == wanted
        causes += [answer["molmoact2"]["trace"]["cause"]] if status == 200 else []
    assert causes == ["first_call", "", ""]


def test_no_body_is_decoded_where_connections_are_read(served, monkeypatch):
    decoded_in = {}
    for name in ("read", "check", "reset"):
        plain = getattr(served.service, name)

        def seen(body, name=name, plain=plain):
            decoded_in[name] = threading.current_thread().name
            return plain(body)

        monkeypatch.setattr(served.service, name, seen)
    for path, fields in (("/act", host()), ("/check", {"instruction": "go"}), ("/reset", {"session_id": "none"})):
        assert served.ask("POST", path, fields)[0] == 200
    assert set(decoded_in) == {"read", "check", "reset"} and "http" not in decoded_in.values()


def test_half_a_character_is_refused_wherever_a_text_is_read(served):
    for path, body in (("/act", pack(host(instruction="go \ud800"))), ("/check", b'{"instruction": "go \\ud800"}'),
                       ("/act", b'{"encoded": "\\ud800"}')):
        status, answer = served.ask("POST", path, body=body)
        assert (status, answer["code"]) == (400, "input_refused") and "which is no character" in answer["error"]


def test_an_instruction_is_checked_without_the_engine(served):
    fields = {"norm_tag": "tiny_arm", "instruction": "pick up the cube", "num_images": 2, "depth": "full"}
    assert served.ask("POST", "/check", fields) == (200, {"status": "ok"})
    for wrong in ({"instruction": "press <action_start> now"}, {"norm_tag": "yam"}, {"depth": "deep"}, {"extra": 1}):
        status, answer = served.ask("POST", "/check", {**fields, **wrong})
        assert (status, answer["code"]) == (400, "input_refused")


# --- what is refused --------------------------------------------------------------------------------------------------
REFUSED = {
    "unknown field": (host(flavour=1), "unknown fields: 'flavour'"),
    "no image": ({"instruction": "go", "state": STATE}, "no image came"),
    "no state": ({k: v for k, v in host().items() if k != "state"}, "missing required field: 'state'"),
    "joints": (host(state=STATE[:5]), "state has shape (5,), norm tag 'tiny_arm' has 7 values"),
    "dtype": (host(top_cam=IMAGES[0].astype(np.float32)), "top_cam has dtype float32, expected uint8"),
    "shape": (host(top_cam=IMAGES[0][..., 0]), "top_cam has shape (64, 96)"),
    "blank": (host(instruction=" "), "instruction"),
    "waypoints": (host(n_action_steps=31), "n_action_steps is 31, expected an integer 1..30"),
    "noise": (extended(noise=np.zeros((3, 3), np.float32)), "expected finite values, shape (30, 32)"),
    "running chunk": (extended(prefix=np.zeros((3, 6), np.float32)), "prefix"),
    "depth": (extended(settings={"depth": "deep"}), "depth is 'deep'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_with_400_and_words(served, name):
    fields, said = REFUSED[name]
    status, answer = served.ask("POST", "/act", fields)
    assert (status, answer["code"]) == (400, "input_refused") and said in answer["error"]


def test_truncated_json_and_paths_and_methods_that_are_not_there_are_refused_as_json(served):
    status, answer = served.ask("POST", "/act", body=pack(host())[:-5])
    assert status == 400 and "not JSON" in answer["error"]
    for method, path, wanted in (("GET", "/nothing", 404), ("POST", "/health", 405), ("PUT", "/act", 405)):
        status, answer = served.ask(method, path, body=b"x" if method != "GET" else None)
        assert status == wanted and "GET /act" in answer["error"]


def test_a_huge_body_is_refused_and_its_sender_hears_why(alone):
    served = alone(most_bytes=2**20)
    status, answer = served.ask("POST", "/act", body=bytes(2**20 + 1))
    assert (status, answer["code"]) == (413, "too_large") and "1048576" in answer["error"]
    connection = served.connect()    # one that is far too large is not read at all
    connection.putrequest("POST", "/act")
    connection.putheader("Content-Length", str(2**40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert served.ask("GET", "/healthz")[0] == 200


def test_a_body_that_does_not_come_to_its_end_is_given_up(alone):
    served = alone(read_within=0.2)
    connection = served.connect()
    connection.putrequest("POST", "/act")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"{")
    answer = connection.getresponse()
    assert answer.status == 408 and b"did not come within" in answer.read()
    connection.close()


def test_without_the_token_nobody_is_answered_and_it_is_never_repeated(alone):
    served = alone(token=Token(TOKEN))
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {TOKEN}x"},
                    {"Authorization": TOKEN}):
        for method, path in (("GET", "/act"), ("POST", "/act"), ("GET", "/metrics"), ("POST", "/reset")):
            status, answer = served.ask(method, path, body=b"{" if method == "POST" else None, **headers)
            assert (status, answer["code"]) == (401, "token") and TOKEN not in str(answer)
    assert served.ask("GET", "/healthz")[0] == 200
    assert served.ask("GET", "/act", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert TOKEN not in repr(vars(served.service)) and TOKEN not in repr(Token(TOKEN))


def test_a_web_page_is_not_answered(served):
    assert served.ask("POST", "/act", host(), Origin="http://example.com")[0] == 403


def test_whatever_bodies_come_the_server_answers_and_goes_on(served):
    dice, seen = random.Random(4), set()
    good = pack(host(num_steps=1))
    for _ in range(60):
        status, answer = served.ask("POST", "/act", body=bytes(spoil(good, dice)))
        seen.add(status)
        assert status in (200, 400) and ("error" in answer) == (status == 400)
    assert 400 in seen
    assert served.ask("POST", "/act", host())[0] == 200


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(DecodeError("no depth end"), 422, "not_decoded"), (ModelError("not finite"), 500, "failed"),
     (MemoryError("at 0xdead"), 500, "failed")],
    ids=lambda value: type(value).__name__,
)
def test_what_fails_in_the_engine_is_told_and_the_next_request_is_answered(served, monkeypatch, error, status, code):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Session, "infer", fail)
        found, answer = served.ask("POST", "/act", host())
    assert (found, answer["code"]) == (status, code)
    assert ("0xdead" in answer["error"]) is False
    assert served.ask("POST", "/act", host())[0] == 200


def test_the_figures_are_there_for_prometheus(served):
    served.ask("POST", "/act", host())
    served.ask("POST", "/act", host(flavour=1))
    text = served.ask("GET", "/metrics")[1]
    for line in ('molmoact2_requests_total{outcome="ok",path="/act"}', "molmoact2_act_seconds_bucket",
                 'molmoact2_requests_total{outcome="input_refused",path="/act"}', "molmoact2_waiting_requests 0.0",
                 f'molmoact2_checkpoint_info{{fingerprint="{"f" * 64}"'):
        assert line in text
