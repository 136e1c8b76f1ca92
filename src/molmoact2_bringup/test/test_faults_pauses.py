# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a pause of the computer excuses in a campaign, and what it does not."""

import os
import signal
import time

import pytest

from molmoact2_bringup.faults.command import table
from molmoact2_bringup.faults.pauses import PAUSE, TRIES, PauseWatch, tried
from molmoact2_bringup.faults.stage import Row


@pytest.fixture
def watch():
    watch = PauseWatch()
    yield watch
    watch.close()


class Attempts:
    """Rows that fail so often, and pauses of the computer meanwhile."""

    def __init__(self, failing, pause):
        self._failing, self._pause = failing, pause
        self.tries = self.recoveries = 0

    def row(self):
        self.tries += 1
        return Row("a fault", "hold", "it held", 0.1, "it went on" if self.tries <= self._failing else "")

    def recover(self):
        self.recoveries += 1

    def run(self):
        return tried(self.row, lambda since: self._pause, self.recover)


def test_a_pause_of_the_computer_is_noticed_and_its_length_told(watch):
    began = time.monotonic()
    os.kill(watch.process.pid, signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(watch.process.pid, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while watch.longest(began) < 0.2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert watch.longest(time.monotonic() + 60.0) == 0.0


def test_a_row_that_fails_in_a_pause_is_tried_again_and_the_table_says_so():
    attempts = Attempts(failing=1, pause=0.08)
    row = attempts.run()
    assert not row.failed and row.excused == "the computer paused for 0.08 s (it went on)"
    assert (attempts.tries, attempts.recoveries) == (2, 1)
    assert "| passed, tried again, because the computer paused for 0.08 s (it went on) |" in table([row])


def test_a_row_that_fails_without_a_pause_has_failed():
    attempts = Attempts(failing=1, pause=0.0)
    row = attempts.run()
    assert (row.failed, row.excused, attempts.tries, attempts.recoveries) == ("it went on", "", 1, 1)


def test_a_row_that_fails_each_time_has_failed_however_often_the_computer_pauses():
    attempts = Attempts(failing=100, pause=PAUSE)
    row = attempts.run()
    assert row.failed and row.excused.count("paused") == TRIES - 1 and attempts.tries == TRIES


def test_a_row_that_passes_is_not_tried_again():
    attempts = Attempts(failing=0, pause=1.0)
    assert attempts.run() == Row("a fault", "hold", "it held", 0.1, "")
    assert (attempts.tries, attempts.recoveries) == (1, 0)
