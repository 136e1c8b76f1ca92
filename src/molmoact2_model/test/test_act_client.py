# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The client of /act servers: against a double of the existing ones, and against servers that misbehave."""

import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from act_double import Double

from molmoact2_model import InputError
from molmoact2_model.serving import connection
from molmoact2_model.serving.client import ActClient, ActError
from molmoact2_model.serving.connection import Address
from molmoact2_model.serving.tokens import Token

IMAGES = [np.full((6, 8, 3), value, np.uint8) for value in (1, 2)]
STATE = np.linspace(0, 1, 7, dtype=np.float32)
PATIENCE = 30.0    # [s]; only a failing test waits that long
HOST = {"names": ("top_cam", "wrist_cam"), "within": PATIENCE, "dim": 7}
SECRET = "0123456789abcdef"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def double():
    double = Double()
    yield double
    double.close()


@pytest.fixture
def client(double):
    client = ActClient(double.url)
    yield client
    client.close()


def ask(client, **options):
    return client.act(IMAGES, STATE, "pick up the cube", **{**HOST, **options})


def refusal(client, **options):
    with pytest.raises(ActError) as error:
        ask(client, **options)
    return error.value


def test_a_plain_server_is_met_and_gives_its_actions(double, client):
    double.actions = lambda fields: np.full((30, 7), fields["top_cam"][0, 0, 0] + fields["state"][-1], np.float32)
    server = client.meet()
    assert (server.name, server.norm_tag, server.num_cameras, server.state_dim) == (double.repo_id, "tiny_arm", 2, 7)
    assert server.offer is None
    answer = ask(client, num_steps=4)
    np.testing.assert_array_equal(answer.actions, np.full((30, 7), 2.0, np.float32))
    assert answer.trace is None and answer.seconds > 0
    sent = double.requests[0]
    assert set(sent) == {"top_cam", "wrist_cam", "instruction", "state", "num_steps"}
    assert sent["top_cam"].dtype == np.uint8 and sent["state"].dtype == np.float32
    assert len(ask(client, n_action_steps=5).actions) == 5


def test_the_general_kind_of_server_is_met_by_its_health_and_takes_a_list_of_images():
    double = Double("general")
    client = ActClient(double.url, clock=Clock())
    server = client.meet()
    assert (server.norm_tag, server.name, server.num_cameras) == ("tiny_arm", None, None)
    for _ in range(3):
        assert ask(client, names=()).actions.shape == (30, 7)
    assert len(double.requests) == 3 and double.probes == 1
    double.close()


NAN = np.full((30, 7), np.nan, np.float32)
BAD_ANSWERS = {
    "NaN": (lambda a: {**a, "actions": NAN}, "not finite"),
    "wrong joints": (lambda a: {**a, "actions": np.zeros((30, 6), np.float32)}, "shape (30, 6), expected (any, 7)"),
    "no waypoints": (lambda a: {**a, "actions": np.zeros((0, 7), np.float32)}, "shape (0, 7)"),
    "no actions": (lambda a: {"dt_ms": 1.0}, "it holds no actions"),
    "words": (lambda a: {**a, "actions": "none"}, "expected an array of numbers"),
    "far too many": (lambda a: {**a, "actions": np.zeros((5000, 7), np.float32)}, "over 1000"),
    "too few": (lambda a: {**a, "actions": np.zeros((2, 7), np.float32)}, "2 waypoints, 4 were asked for"),
    "no JSON": (lambda a: b"<html>", "not JSON"),
    "JSON's NaN": (lambda a: b'{"actions": [[NaN, 0, 0, 0, 0, 0, 0]]}', "NaN is no JSON number"),
    "a list": (lambda a: b"[1, 2]", "expected an object"),
    "pickle": (lambda a: b'{"actions": {"__numpy__": "gASVAA==", "dtype": "|O", "shape": [1]}}', "dtype '|O'"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_that_cannot_be_used_is_refused_in_words_and_the_next_good_one_taken(double, client, name):
    change, said = BAD_ANSWERS[name]
    client.meet()
    double.answer = change
    error = refusal(client, n_action_steps=4)
    assert (error.kind, error.passing) == ("answer_refused", False) and said in str(error)
    double.answer = lambda answer: answer
    assert ask(client).actions.shape == (30, 7)


@pytest.mark.parametrize("asked", [0, 5])
@pytest.mark.parametrize("length", [29, 31, 1000])
def test_a_plain_server_gives_as_many_waypoints_as_when_it_was_met_or_its_answer_is_refused(
    double, client, asked, length
):
    client.meet()
    assert len(ask(client, n_action_steps=asked).actions) == (asked or 30)
    double.actions = lambda _: np.zeros((length, 7), np.float32)
    error = refusal(client, n_action_steps=asked)
    assert error.kind == "answer_refused"
    assert f"{length} waypoints, the first answer of this server had 30" in str(error)
    client.meet()
    assert len(ask(client, n_action_steps=asked).actions) == (asked or length)


def test_a_server_that_is_slow_or_drips_is_given_up_within_the_time_and_not_asked_the_same_again(double, client):
    client.meet()
    for slow in ({"pause": PATIENCE}, {"drip": 0.02}):
        for name, value in slow.items():
            setattr(double, name, value)
        count = len(double.requests)
        error = refusal(client, within=0.3)
        assert (error.kind, error.passing) == ("server_slow", True) and "no answer within" in str(error)
        assert len(double.requests) - count <= 1
        double.pause = double.drip = 0.0
    assert ask(client).actions.shape == (30, 7)


def test_a_server_that_hangs_up_or_fails_is_named_and_comes_back(double):
    clock = Clock()
    client = ActClient(double.url, clock=clock)
    client.meet()
    double.hang_up = True
    error = refusal(client)
    assert (error.kind, error.passing) == ("server_away", True) and "was lost" in str(error)
    assert len(double.requests) == 1
    double.hang_up, double.status, clock.now = False, 500, 10.0
    error = refusal(client)
    assert (error.kind, error.passing) == ("server_failed", False) and "out of memory" in str(error)
    double.status = 502
    assert refusal(client).kind == "server_away"
    double.status, clock.now = 200, 20.0
    assert ask(client).actions.shape == (30, 7)


def test_an_image_under_another_name_is_the_servers_400_in_its_words(client):
    client.meet()
    error = refusal(client, names=("top_cam", "hand_cam"))
    assert (error.kind, error.passing) == ("input_refused", False) and "wrist_cam" in str(error)


def test_while_a_server_is_away_it_is_tried_after_pauses_that_double_and_found_again_where_it_was(double):
    clock, port = Clock(), double.port
    client = ActClient(double.url, clock=clock)
    client.meet()
    double.close()
    pauses = []
    for _ in range(9):
        assert "cannot be reached" in str(refusal(client))
        pauses.append(client._not_before - clock.now)
        assert f"is tried again after {pauses[-1]:g} s" in str(refusal(client))
        assert client._not_before - clock.now == pauses[-1]    # it was not tried
        clock.now = client._not_before
    np.testing.assert_allclose(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])
    again = Double(port=port)
    assert ask(client).actions.shape == (30, 7)
    assert again.probes == 1
    again.close()


def test_another_checkpoint_at_the_same_address_is_refused(double):
    clock, port = Clock(), double.port
    client = ActClient(double.url, clock=clock)
    client.meet()
    double.close()
    assert refusal(client).kind == "server_away"
    clock.now = 10.0
    other = Double(port=port)
    other.repo_id = "someone/else"
    error = refusal(client)
    assert (error.kind, error.passing) == ("server_changed", False) and "someone/else" in str(error)
    assert not other.requests
    other.close()


@pytest.mark.parametrize("doubted", [False, True])
def test_a_plain_server_that_was_replaced_is_found_out_after_a_pause_or_a_reset_without_a_failure_between(doubted):
    clock, first = Clock(), Double()
    client = ActClient(first.url, clock=clock)
    client.meet()
    for clock.now in (2.0, 4.0, 6.0):    # who is asked again and again is not probed each time
        assert ask(client).actions.shape == (30, 7)
    assert first.probes == 1
    if doubted:
        client.doubt()
    else:
        clock.now = 10.0
    assert ask(client).actions.shape == (30, 7)    # the same one is asked on
    assert first.probes == 2
    first.close()
    other = Double(port=first.port)
    other.repo_id = "someone/else"
    if doubted:
        client.doubt()
    else:
        clock.now = 14.0
    error = refusal(client)
    assert (error.kind, error.passing) == ("server_changed", False) and "someone/else" in str(error)
    assert not other.requests
    other.close()


def test_a_token_is_sent_and_a_wrong_one_is_named_but_not_shown(tmp_path):
    double = Double(token=SECRET)
    client = ActClient(double.url, Token(SECRET))
    client.meet()
    with pytest.raises(ActError) as error:
        ActClient(double.url, Token(SECRET[::-1])).meet()
    assert error.value.kind == "token" and SECRET[::-1] not in str(error.value)
    double.close()


# --- below HTTP -------------------------------------------------------------------------------------------------------
RAW = {
    "nothing": (b"", "without an answer"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
    "endless headers": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, "no HTTP"),
    "cut off": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "127.0.0.1"),
    "too long": (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, "more than 1000 bytes"),
    "compressed": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "compressed"),
    "a redirection": (b"HTTP/1.1 307 Away\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n", "307"),
    "no server of this kind": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is no /act server"),
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_act_server_is_refused_in_words(name, monkeypatch):
    monkeypatch.setattr(connection, "MOST_ANSWER", 1000)
    sent, said = RAW[name]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            with listener.accept()[0] as made:
                made.recv(4096)
                made.sendall(sent)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ActError) as error:
            ActClient(f"http://127.0.0.1:{listener.getsockname()[1]}").meet(PATIENCE)
        assert said in str(error.value)
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [("http://robot:8202", "http://robot:8202"), ("https://gpu.example/act/", "https://gpu.example:443"),
     ("http://[::1]:9/policy/act", "http://[::1]:9/policy")],
)
def test_addresses_are_read(url, wanted):
    assert Address.read(url).url == wanted


@pytest.mark.parametrize("url", ["", "robot:8202", "ftp://robot", "http://", "http://robot:99999", "http://robot/?a=1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="is not of the form"):
        Address.read(url)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="put a token into a file") as error:
        Address.read("http://user:hunter2@robot:1")
    assert "hunter2" not in str(error.value)


def test_a_token_file_that_others_may_read_or_with_a_token_to_guess_is_refused(tmp_path):
    file = tmp_path / "token"
    with pytest.raises(InputError, match="cannot be read"):
        Token.from_file(file)
    file.write_text(f"{SECRET}\n")
    file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        Token.from_file(file)
    file.chmod(0o600)
    assert Token.from_file(file).matches(f"Bearer {SECRET}") and not Token.from_file(file).matches(f"Bearer {SECRET}x")
    for wrong in ("", "short", "with spaces in its middle", "\u00e4" * 40):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(InputError) as error:
            Token.from_file(file)
        assert not wrong or wrong not in str(error.value)


def test_the_client_loads_no_torch():
    code = "import sys, molmoact2_model.serving.client; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
