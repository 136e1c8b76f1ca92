# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 serve`, as independent clients written for the existing servers find it, over real HTTP."""

import ast
import base64
import sys
from pathlib import Path

import cv2
import numpy as np
import plain_act_client
import pytest
from golden_set import textured
from plain_act_client import GeneralClient, Refused, RobotClient
from served import Served

from molmoact2_model import ModelError
from molmoact2_model.serving.extension import SessionSettings
from molmoact2_model.session import Session

STATE = np.linspace(-1, 1, 7, dtype=np.float32)
CAMERAS = ("external_cam", "wrist_cam")    # as servers for a robot with two cameras name them
IMAGES = [textured(1, size=(64, 96)), textured(2, size=(48, 48))]
TASK = "pick up the cube"
PLAIN = {"style", "actions", "action_shape", "latency_ms"}


@pytest.fixture(scope="module")
def server(policy):
    served = Served(policy)
    yield served
    served.close()


@pytest.fixture(scope="module")
def reasoning(policy):
    """A server that reasons depth."""
    served = Served(policy, settings=SessionSettings(depth="adaptive"), num_steps=1)
    yield served
    served.close()


@pytest.fixture
def robot(server):
    return RobotClient(server.url, CAMERAS)


@pytest.fixture
def general(server):
    return GeneralClient(server.url)


@pytest.fixture
def thinker(reasoning):
    return GeneralClient(reasoning.url)


def fields(**changed):
    return {"images": IMAGES, "state": STATE, "instruction": TASK, **changed}


def refusal(call, *values, **named):
    with pytest.raises(Refused) as refused:
        call(*values, **named)
    return refused.value.status, str(refused.value)


def test_the_clients_are_of_the_standard_library_and_numpy_alone():
    tree, modules = ast.parse(Path(plain_act_client.__file__).read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module).partition(".")[0])
    assert "numpy" in modules and modules - {"numpy"} <= sys.stdlib_module_names


# --- servers for one robot --------------------------------------------------------------------------------------------
def test_the_probe_tells_what_is_served_and_that_it_lives(robot):
    about = robot.probe()
    assert about["status"] == "ok" and isinstance(about["repo_id"], str) and about["norm_tag"] == "tiny_arm"
    assert (about["device"], about["dtype"]) == ("cpu", "torch.float32")
    assert (about["num_cameras"], about["state_dim"]) == (len(CAMERAS), len(STATE))
    assert robot.get("/healthz")["status"] == "ok"


@pytest.mark.parametrize(
    "more", [{}, {"num_steps": 3, "enable_cuda_graph": True, "timestamp": 12.5}, {"normalization_tag": "yam"}],
    ids=["what must be there", "all that may", "what is ignored"],
)
def test_named_images_state_and_instruction_give_a_chunk_and_milliseconds(robot, more):
    actions, milliseconds = robot.act(IMAGES, STATE, TASK, **more)
    assert actions.shape == (30, 7) and actions.dtype == np.dtype("<f4") and np.isfinite(actions).all()
    assert milliseconds > 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"state": STATE[:6]}, "state"),
        ({"state": np.full(7, np.nan, np.float32)}, "state"),
        ({"external_cam": IMAGES[0].astype(np.float32)}, "external_cam"),
        ({"instruction": ""}, "instruction"),
        ({"num_steps": 0}, "num_steps"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_answered_with_400_and_the_name_of_the_field(robot, changed, named):
    status, words = refusal(
        robot.post, "/act", {**dict(zip(CAMERAS, IMAGES, strict=True)), "state": STATE, "instruction": TASK, **changed}
    )
    assert status == 400 and named in words
    assert robot.act(IMAGES, STATE, TASK)[0].shape == (30, 7)


def test_a_camera_that_is_missing_is_named(server):
    lone = RobotClient(server.url, CAMERAS[:1])
    status, words = refusal(lone.act, IMAGES[:1], STATE, TASK)
    assert status == 400 and CAMERAS[1] in words


def test_an_engine_that_fails_is_answered_with_500_and_the_next_request_as_ever(robot, monkeypatch):
    def fail(*_, **__):
        raise ModelError("the model produced actions that are not finite")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "infer", fail)
        status, words = refusal(robot.act, IMAGES, STATE, TASK)
    assert status == 500 and "not finite" in words
    assert robot.act(IMAGES, STATE, TASK)[0].shape == (30, 7)


# --- the general server -----------------------------------------------------------------------------------------------
def test_the_general_servers_health_tells_its_defaults(general, thinker):
    health = general.health()
    assert {"status", "device", "num_steps", "n_obs_steps", "n_action_steps", "modes", "default_style",
            "default_norm_tag"} <= set(health)
    assert (health["n_action_steps"], health["default_norm_tag"]) == (30, "tiny_arm")
    assert (health["default_style"], thinker.health()["default_style"]) == ("robot_action", "robot_depth_action")


def test_a_list_of_images_gives_a_chunk_as_lists_also_as_one_text_and_by_every_name_of_state_and_task(general):
    other = {"images": [image.tolist() for image in IMAGES], "states": [STATE.tolist()], "task": TASK}
    asked = [
        general.act(**fields()), general.act_encoded(**fields()), general.act(**other),
        general.act(images=IMAGES, state=STATE, prompt=TASK), general.act(images=IMAGES, state=STATE, question=TASK),
        general.act(**fields(tag="tiny_arm", n_obs_steps=1)), general.act(**fields(norm_tag="tiny_arm", num_steps=1)),
    ]
    for answer in asked:
        assert set(answer) == PLAIN and isinstance(answer["actions"], list) and answer["latency_ms"] > 0
        assert answer["action_shape"] == [1, 30, 7] and np.shape(answer["actions"]) == (30, 7)
    assert np.shape(general.act(**fields(n_action_steps=4))["actions"]) == (4, 7)


def test_a_picture_in_base64_is_the_array_that_it_was_made_of_and_a_plain_request_remembers_nothing(thinker):
    png = [base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1].tobytes()).decode() for image in IMAGES]
    first, again = thinker.act(**fields()), thinker.act(**fields(images=[png[0], f"data:image/png;base64,{png[1]}"]))
    assert set(first) == {*PLAIN, "depth_predictions", "depth_shape"} and first["depth_shape"] == [1, 100]
    assert first["depth_predictions"] == again["depth_predictions"]


def test_a_session_tells_its_depth_codes(thinker):
    answer = thinker.act(**fields(action_chunk=True, session_id="codes"))
    assert set(answer) == {*PLAIN, "inference_calls", "depth_buffer_codes"} and len(answer["depth_buffer_codes"]) == 100


def test_sessions_count_their_inferences_until_they_are_reset_by_name_or_by_the_beginning_of_it(general):
    for name in ("arm", "arm:left", "arms"):
        answer = general.act(**fields(action_chunk=True, session_id=name, num_steps=1))
        assert set(answer) == {*PLAIN, "inference_calls"} and answer["inference_calls"] == 1
    removed = general.reset(session_id="arm", prefix=True)
    assert removed["status"] == "ok" and sorted(removed["removed"]) == ["arm", "arm:left"]
    assert general.reset(session_id="arms") == {"status": "ok", "removed": ["arms"]}
    assert general.reset(session_id="arms") == {"status": "ok", "removed": []}
    status, words = refusal(general.reset, prefix=True)
    assert status == 400 and "session_id" in words


@pytest.mark.parametrize("name", [{}, {"session_id": "one"}], ids=["default", "by name"])
def test_single_actions_come_one_at_a_time_from_a_chunk_until_it_is_used_up(general, name):
    ask = fields(single_action="true", n_action_steps=2, **name)
    answers = [general.act(**ask) for _ in range(3)]
    assert [answer["inference_calls"] for answer in answers] == [1, 0, 1]
    for answer in answers:
        assert set(answer) == {"style", "action", "action_shape", "latency_ms", "inference_calls"}
        assert np.shape(answer["action"]) == (7,)
    assert general.reset(session_id=name.get("session_id", "default"))["removed"] == [name.get("session_id", "default")]


def test_what_the_general_server_refuses_is_told_in_words_and_paths_are_never_opened(general, tmp_path):
    path = tmp_path / "there.png"
    cv2.imwrite(str(path), IMAGES[0])
    for changed, said in (
        ({"images": [str(path), str(path)]}, "images[0]"), ({"tag": "unknown"}, "unknown"),
        ({"n_obs_steps": 2}, "n_obs_steps"), ({"n_action_steps": 31}, "n_action_steps"), ({"state": None}, "state"),
    ):
        status, words = refusal(general.act, **fields(**changed))
        assert status == 400 and said in words
