# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a pause of the computer excuses in a campaign, and what it does not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fault_table import names_of_passed

from molmoact2_bringup.faults.campaign import _judge_all, _recover
from molmoact2_bringup.faults.command import table
from molmoact2_bringup.faults.pauses import PAUSE, TRIES, PauseWatch, tried
from molmoact2_bringup.faults.reasons import Late, joined
from molmoact2_bringup.faults.stage import Row, Stage
from molmoact2_bringup.lifecycle import BringUpError
from molmoact2_bringup.running import Stopped
from molmoact2_contract.stop_flag import StopFlag
from molmoact2_msgs.msg import ControllerStatus

PARENT = """
import time
from molmoact2_bringup.faults.pauses import PauseWatch
if __name__ == "__main__":
    print(PauseWatch().process.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def watch():
    watch = PauseWatch()
    yield watch
    watch.close()


LATE = Late("the last setpoint was fast")


class Attempts:
    """Rows that fail so often, pauses of the computer meanwhile, and what was broken besides."""

    def __init__(self, failing, pause, why=LATE, besides=""):
        self._failing, self._pause, self._why, self._besides = failing, pause, why, besides
        self.tries = self.recoveries = 0

    def row(self):
        self.tries += 1
        return Row("a fault", "hold", "it held", 0.1, self._why if self.tries <= self._failing else "")

    def recover(self):
        self.recoveries += 1
        return self._besides

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


def test_the_watch_ends_with_its_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    watching = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{watching}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_is_excused_where_the_watch_has_ended(watch):
    watch.process.kill()
    watch.process.join()
    assert watch.longest(0.0) == 0.0


def test_a_row_that_is_late_in_a_pause_is_tried_again_and_the_table_says_so():
    attempts = Attempts(failing=1, pause=0.08)
    row = attempts.run()
    assert not row.failed and row.excused == f"the computer paused for 0.08 s ({LATE})"
    assert (attempts.tries, attempts.recoveries) == (2, 1)
    text = table([row])
    assert f"| passed, tried again, because the computer paused for 0.08 s ({LATE}) |" in text
    with pytest.warns(UserWarning, match="a fault: passed, tried again"):
        assert names_of_passed(text) == ["a fault"]


def test_a_row_that_fails_without_a_pause_has_failed():
    attempts = Attempts(failing=1, pause=0.0)
    row = attempts.run()
    assert (row.failed, row.excused, attempts.tries, attempts.recoveries) == (LATE, "", 1, 1)
    with pytest.raises(AssertionError):
        names_of_passed(table([row]))


def test_no_pause_excuses_what_lateness_cannot_cause():
    attempts = Attempts(failing=1, pause=0.5, why="the fault cleared itself")
    assert (attempts.run().failed, attempts.tries) == ("the fault cleared itself", 1)


def test_a_promise_that_was_broken_besides_is_kept_and_not_tried_again():
    attempts = Attempts(failing=1, pause=0.5, besides="the arm armed itself: armed")
    assert (attempts.run().failed, attempts.tries) == (f"{LATE}; the arm armed itself: armed", 1)


def test_a_row_that_fails_each_time_has_failed_however_often_the_computer_pauses():
    attempts = Attempts(failing=100, pause=PAUSE)
    row = attempts.run()
    assert row.failed and row.excused.count("paused") == TRIES - 1 and attempts.tries == TRIES


def test_a_row_that_passes_is_not_tried_again():
    attempts = Attempts(failing=0, pause=1.0)
    assert attempts.run() == Row("a fault", "hold", "it held", 0.1, "")
    assert (attempts.tries, attempts.recoveries) == (1, 0)


def test_reasons_that_stand_together_are_late_only_where_each_is():
    assert joined("", "") == "" and not isinstance(joined(), Late)
    assert isinstance(joined(LATE, "", Late("b")), Late)
    assert joined(LATE, "b") == f"{LATE}; b" and not isinstance(joined(LATE, "b"), Late)


class Acted:
    """A stage in a state, with what was broken of its promises; notes what an operator does."""

    def __init__(self, state, broken="", clears=""):
        self.status, self._broken, self._clears = ControllerStatus(state=state), broken, clears
        self.running, self.beside = SimpleNamespace(stopping=StopFlag()), ""
        self.acts = []
        self.witness = SimpleNamespace(forget_told=lambda: self.acts.append("forget_told"))

    def broken(self):
        self.acts.append("broken")
        return self._broken

    def clear_fault(self):
        self.acts.append("clear_fault")
        self.status.state = ControllerStatus.DISARMED
        return self._clears

    def must_be_alone(self):
        if self.beside:
            raise BringUpError(self.beside)

    def operate(self, verb):
        self.acts.append(verb)
        return ""


@pytest.fixture
def led(monkeypatch):
    for act in ("resume_where_asked", "follow"):
        monkeypatch.setattr(Stage, act, lambda stage, act=act: stage.acts.append(act) or "")


def test_before_a_row_is_tried_again_what_was_broken_is_asked_and_only_then_it_is_recovered(led):
    stage = Acted(ControllerStatus.FAULT, broken="the arm armed itself: armed")
    assert _recover([stage]) == "the arm armed itself: armed"
    assert stage.acts == ["broken", "clear_fault", "arm", "forget_told", "resume_where_asked", "follow"]


def test_an_arm_that_cannot_be_recovered_is_said_and_not_armed(led):
    stage = Acted(ControllerStatus.FAULT, clears="clear_fault: the cause is still there")
    found = _recover([stage])
    assert found == "it could not be gone on: clear_fault: the cause is still there" and not isinstance(found, Late)
    assert "arm" not in stage.acts


def test_a_campaign_begins_no_further_row_beside_another_system():
    stage, begun = Acted(ControllerStatus.HOLDING), []

    def row():
        begun.append(True)
        stage.beside = "another system runs"
        return Row("a fault", "hold", "it held", 0.1, "")

    with pytest.raises(BringUpError, match="another system runs"):
        _judge_all(iter([row, row]), [stage], lambda row: None)
    assert begun == [True]


def test_a_campaign_that_is_told_to_stop_begins_no_further_row():
    stage, begun = Acted(ControllerStatus.HOLDING), []

    def row():
        begun.append(True)
        stage.running.stopping.set()
        return Row("a fault", "hold", "it held", 0.1, "")

    with pytest.raises(Stopped):
        _judge_all(iter([row, row]), [stage], lambda row: None)
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("state", "code", "late"),
    [
        (ControllerStatus.FAULT, ControllerStatus.FAULT_DRIVER, True),
        (ControllerStatus.FAULT, ControllerStatus.FAULT_CLOCK_JUMP, False),
        (ControllerStatus.HOLDING, ControllerStatus.FAULT_DRIVER, False),
    ],
)
def test_an_arm_that_does_not_go_on_is_late_only_in_a_fault_of_what_did_not_answer(state, code, late):
    status = ControllerStatus(state=state, fault_code=code, fault_text="no motor answers any more")
    reason = Stage.stopped(SimpleNamespace(status=status), "the arm does not go on")
    assert reason == "the arm does not go on: no motor answers any more" and isinstance(reason, Late) is late
