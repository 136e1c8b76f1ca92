# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 serve`: who can reach it, what it refuses before it serves, and how it ends."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys

import pytest
from golden_set import GOLDEN

from molmoact2_contract import cli
from molmoact2_model import InputError
from molmoact2_model.serving.server import check_reach, is_loopback, listen
from molmoact2_model.serving.tokens import Token

CHECKPOINT = str(GOLDEN / "checkpoint")
SECRET = "0123456789abcdef"
PATIENCE = 60.0    # [s]; only a failing test waits that long


def refused(capsys, *arguments):
    """What the command says, after which it has ended with exit code 2."""
    assert cli.main(["serve", "--checkpoint", CHECKPOINT, *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_where_others_could_reach_it_it_does_not_start_without_a_token(capsys, host):
    assert not is_loopback(host)
    assert "give --token-file, or serve on 127.0.0.1" in refused(capsys, "--host", host)
    check_reach(host, Token(SECRET))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_for_this_machine_alone_no_token_is_needed(host):
    assert is_loopback(host)
    check_reach(host, None)


WRONG = {
    "port": (("--port", "70000"), "--port is 70000, expected 0 .. 65535"),
    "steps": (("--num-steps", "-1"), "--num-steps is -1"),
    "far too many steps": (("--num-steps", "101"), "--num-steps is 101, expected 0 .. 100"),
    "patience": (("--patience", "0"), "--patience is 0"),
    "no token file": (("--token-file", "/nowhere/token"), "token file /nowhere/token cannot be read"),
    "several tags": (("--port", "0"), "name one with --tag: tiny_arm, tiny_fast"),
    "tag": (("--port", "0", "--tag", "yam"), "'yam' is not in this checkpoint"),
    "image keys": (("--port", "0", "--tag", "tiny_arm", "--image-keys", "a,,b"), "image keys 'a,,b'"),
    "discrete": (("--port", "0", "--tag", "tiny_arm", "--action-mode", "discrete"), "fast_tokenizer"),
    "tokenizer": (("--port", "0", "--tag", "tiny_arm", "--fast-tokenizer", "/nowhere"), "/nowhere is not a folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_named_before_anything_is_served(capsys, name):
    arguments, said = WRONG[name]
    assert said in refused(capsys, *arguments)


def test_a_port_that_is_taken_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}" in refused(capsys, "--tag", "tiny_arm", "--port", str(port))
        with pytest.raises(InputError, match="--port"):
            listen("127.0.0.1", port)


def test_the_command_serves_with_a_token_and_ends_when_it_is_told_to(tmp_path):
    token = tmp_path / "token"
    token.write_text(SECRET)
    token.chmod(0o600)
    program = subprocess.Popen(
        [sys.executable, "-m", "molmoact2_contract.cli", "serve", "--checkpoint", CHECKPOINT, "--tag", "tiny_arm",
         "--port", "0", "--token-file", str(token), "--num-steps", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        said = program.stdout.readline() + program.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/act", said)[1])
        assert "top_cam,wrist_cam" in said and "with a token" in said
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {SECRET}"}, 200)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request("GET", "/act", headers=headers)
            answer = connection.getresponse()
            assert answer.status == status and SECRET not in str(json.loads(answer.read()))
            connection.close()
        program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=PATIENCE)
        assert (program.returncode, err) == (0, "") and SECRET not in said + out
    finally:
        program.kill()
        program.communicate()
