# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import os
import queue
import select
import signal
import subprocess
import sys
import textwrap

import pytest

from molmoact2_bringup.processes import Exit, Processes

READY_THEN_WAIT = "import signal; print('ready', flush=True); signal.pause()"


class Lines:
    """Collects output lines and lets a test wait for one."""

    def __init__(self):
        self.queue: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []

    def __call__(self, line: str) -> None:
        self.queue.put(line)

    def wait_for(self, text: str) -> str:
        while True:
            line = self.queue.get(timeout=30)
            self.seen.append(line)
            if text in line:
                return line


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def processes(lines):
    processes = Processes(lines)
    yield processes
    processes.end_all(grace=5)


def start(processes: Processes, name: str, code: str) -> None:
    processes.start(name, [sys.executable, "-c", textwrap.dedent(code)])


def test_lines_of_a_process_come_out_with_its_name(processes, lines):
    start(processes, "camera", "print('first frame'); import sys; print('a warning', file=sys.stderr)")
    assert lines.wait_for("first frame") == "[camera] first frame"
    assert lines.wait_for("a warning") == "[camera] a warning"


def test_a_process_that_ends_is_named_with_its_code(processes):
    start(processes, "policy", "import sys; sys.exit(3)")
    processes._children["policy"].wait(30)
    assert processes.ended() == Exit("policy", 3)
    assert str(processes.ended()) == "process 'policy' ended with exit code 3"


def test_a_killed_process_is_named_with_its_signal(processes, lines):
    start(processes, "policy", READY_THEN_WAIT)
    lines.wait_for("ready")
    processes._children["policy"].send_signal(signal.SIGKILL)
    processes._children["policy"].wait(30)
    assert str(processes.ended()) == "process 'policy' was killed by SIGKILL"


def test_the_last_started_is_ended_first(processes, lines):
    for name in ("world", "controller", "policy"):
        start(
            processes,
            name,
            """
            import signal, sys
            def end(*_):
                print('ending', flush=True)
                sys.exit(0)
            signal.signal(signal.SIGTERM, end)
            print('ready', flush=True)
            while True:
                signal.pause()
            """,
        )
        lines.wait_for("ready")
    assert processes.end_all() == []
    assert [lines.wait_for("ending") for _ in range(3)] == ["[policy] ending", "[controller] ending", "[world] ending"]


def test_a_process_that_ignores_interruption_is_killed_and_named(processes, lines):
    start(
        processes,
        "stubborn",
        "import signal\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\nprint('ready', flush=True)\n"
        "while True: signal.pause()",
    )
    lines.wait_for("ready")
    assert processes.end_all(grace=0.3) == [Exit("stubborn", -signal.SIGKILL)]


def test_children_end_when_the_parent_is_killed():
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import sys
                from molmoact2_bringup.processes import Processes
                processes = Processes(lambda line: print(line, flush=True))
                processes.start("child", [sys.executable, "-c", {READY_THEN_WAIT!r}])
                import signal; signal.pause()
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout.readline() == "[child] ready\n"
    child = int(subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent.pid)], capture_output=True, text=True).stdout)
    parent.kill()
    parent.wait()
    if _alive(child):
        descriptor = os.pidfd_open(child)
        assert select.select([descriptor], [], [], 30)[0], "the child outlived its parent"
        os.close(descriptor)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
