# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The flag that signal handlers set."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from molmoact2_contract.stop_flag import StopFlag

WAITS = """
import signal
from molmoact2_contract.stop_flag import StopFlag
flag = StopFlag()
signal.signal(signal.SIGINT, lambda *_: flag.set())
signal.signal(signal.SIGTERM, lambda *_: (flag.set(), flag.clear(), flag.set()))
print("waiting", flush=True)
while not flag.is_set():
    flag.wait(0)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_at_any_step_of_waiting_ends_the_process(number):
    # An Event in its place hangs in one of three such processes.
    waiting = [subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for process in waiting:
        assert process.stdout.readline() == "waiting\n"
    for process in waiting:
        process.send_signal(number)
    try:
        assert [process.wait(60) for process in waiting] == [0] * len(waiting)
    finally:
        for process in waiting:
            process.kill()
            process.stdout.close()


def test_waiting_ends_when_another_thread_sets_the_flag():
    flag = StopFlag()
    setter = threading.Timer(0.05, flag.set)
    setter.start()
    assert flag.wait() and flag.is_set()
    setter.join()


def test_waiting_ends_with_its_time_and_a_cleared_flag_is_waited_for_again():
    flag = StopFlag()
    flag.set()
    flag.clear()
    began = time.monotonic()
    assert not flag.wait(0.05)
    assert time.monotonic() - began >= 0.05
