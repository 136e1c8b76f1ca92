# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 view` as a person starts it: it serves this machine, says where, and ends when asked to."""

import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("rerun", reason="rerun-sdk is installed beside the wheels only")

PATIENCE = 60.0    # [s]; only a failing test waits that long


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def view(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "97")
    begun = []

    def begin(*arguments: str) -> subprocess.Popen:
        command = [shutil.which("molmoact2"), "view", *arguments]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_a_browser_on_this_machine_is_served_until_ctrl_c(view):
    ports = free_port(), free_port()
    process = view("--port", str(ports[0]), "--web-port", str(ports[1]))
    page = re.search(r"http://\S+", process.stdout.readline())[0]
    assert page.startswith(f"http://127.0.0.1:{ports[1]}/")
    with urllib.request.urlopen(page, timeout=PATIENCE) as answer:
        assert answer.status == 200 and b"re_viewer" in answer.read()
    listening = Path("/proc/net/tcp").read_text()
    for port in ports:
        assert f"0100007F:{port:04X} 00000000:0000 0A" in listening    # 127.0.0.1
        assert f"00000000:{port:04X} 00000000:0000 0A" not in listening
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, "the viewer's server goes on"


def test_a_port_that_is_taken_is_named(view):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = view("--port", str(port), "--web-port", str(free_port()))
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert f"port {port} is taken" in errors


def test_an_unknown_system_is_refused(view):
    process = view("no_such_system")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "so101_sim" in errors
