# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Another robot in the same ROS domain, whose names are the same: no check and no evaluation may move it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import rclpy
from rclpy.context import Context
from std_srvs.srv import Trigger

from molmoact2_bringup.check import alone, command
from molmoact2_bringup.check.alone import shared, speaking
from molmoact2_bringup.check.line import FAIL, passed
from molmoact2_bringup.check.move import move_lines
from molmoact2_bringup.check.options import Options
from molmoact2_bringup.evaluation import live
from molmoact2_bringup.evaluation.attempts import Condition
from molmoact2_bringup.faults import stage as stage_module
from molmoact2_bringup.faults.campaign import campaign
from molmoact2_bringup.faults.stage import Stage
from molmoact2_bringup.lifecycle import BringUpError
from molmoact2_bringup.processes import Exit
from molmoact2_bringup.running import RunningSystem, Stopped, SystemEnded
from molmoact2_contract import load_system
from molmoact2_contract.qos import STATUS
from molmoact2_msgs.msg import ControllerStatus, PolicyStatus

DOMAIN = 119
VERBS = ("arm", "resume", "clear_fault", "stop")
PATIENCE = 60.0    # [s]; only for what never comes


class Robots:
    """What robots say and offer in this domain. asked: of whom somebody asked which service."""

    def __init__(self):
        self._context, self._number = Context(), 0
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self.asked: list[tuple[str, str]] = []

    def node(self):
        self._number += 1
        node = rclpy.create_node(f"robot_{self._number}", context=self._context)
        self._executor.add_node(node)
        return node

    def controller(self, arm, name):
        """One that says that it is disarmed, and does nothing that it is asked."""
        node, status = self.node(), ControllerStatus(measured=[0.0] * 6)
        status.header.frame_id = arm
        publisher = node.create_publisher(ControllerStatus, f"{arm}/status", STATUS)
        node.create_timer(0.05, lambda: publisher.publish(status))
        for verb in VERBS:
            asked = partial(lambda verb, _, answer: self.asked.append((name, verb)) or answer, verb)
            node.create_service(Trigger, f"{arm}/{verb}", asked)
        return node

    def end(self, node):
        self._executor.remove_node(node)
        node.destroy_node()

    def policy(self):
        self.node().create_publisher(PolicyStatus, "policy/status", STATUS)

    def spin(self):
        self._executor.spin()

    def close(self):
        self._executor.shutdown()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def robots(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    robots = Robots()
    spinner = threading.Thread(target=robots.spin, daemon=True)
    with ExitStack() as stack:
        stack.callback(spinner.join)
        stack.callback(robots.close)
        spinner.start()
        yield robots


def until(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("other", "said"), [
    (lambda robots: robots.controller("arm", "theirs"), "arm/status has 2 publishers"),
    (lambda robots: robots.controller("left", "of two arms"), "left/status is published"),
    (lambda robots: robots.policy(), "policy/status has 2 publishers"),
])
def test_an_arm_is_moved_only_where_no_other_system_can_hear_it(robots, other, said):
    system = load_system("so101_robot")
    contract = system.contract
    tag = next(iter(contract.norm_tags.values()))
    with RunningSystem(replace(system, processes=()), lambda line: None) as running:
        robots.controller("arm", "ours")
        until(lambda: shared(running.node, "arm") == "")
        before = speaking(running.node)
        other(robots)
        until(lambda: speaking(running.node) != before)
        [line] = move_lines(running, contract, tag, "arm", "", True, lambda text: None)
    assert line.outcome == FAIL and "another system runs" in line.text and said in line.text
    assert "ROS_DOMAIN_ID" in line.mend and robots.asked == []


@pytest.mark.parametrize("other", [
    lambda robots: robots.controller("arm", "theirs"), lambda robots: robots.policy(),
])
def test_an_evaluation_asks_nothing_of_an_arm_that_another_system_may_have(robots, other, monkeypatch):
    monkeypatch.setattr(alone, "GONE", 0.5)
    system = load_system("so101_sim")
    bench = live.LiveBench(replace(system, processes=()), Condition("touch"), None, lambda line: None)
    with bench._running:
        robots.controller("arm", "ours")
        robots.policy()
        until(lambda: shared(bench._running.node, "arm") == "")
        alone.must_be_alone(bench._running, ["arm"])
        before = speaking(bench._running.node)
        other(robots)
        until(lambda: speaking(bench._running.node) != before)
        with pytest.raises(BringUpError, match="another system runs.*nothing more is asked of the arm.*ROS_DOMAIN_ID"):
            bench._place(80000, None)
        bench._verbs = {"arm": bench._running.node.create_client(Trigger, "arm/arm")}
        with pytest.raises(BringUpError, match="another system runs"):    # where it comes in the middle of that
            bench._operate("arm")
    assert robots.asked == []


def test_a_campaign_asks_nothing_but_a_stop_of_an_arm_that_another_system_may_have(robots, monkeypatch):
    monkeypatch.setattr(alone, "GONE", 0.5)
    system = load_system("so101_sim")
    with RunningSystem(replace(system, processes=()), lambda line: None) as running:
        stage = Stage(running, system.contract, None, "arm", None)
        robots.controller("arm", "ours")
        until(lambda: shared(running.node, "arm") == "")
        assert stage.operate("resume") == "resume: "
        before = speaking(running.node)
        robots.controller("left", "of two arms")
        until(lambda: speaking(running.node) != before)
        for verb in ("arm", "resume", "clear_fault"):
            with pytest.raises(BringUpError, match="another system runs.*nothing more is asked of the arm"):
                stage.operate(verb)
        stage.operate("stop")
    assert robots.asked == [("ours", "resume"), ("ours", "stop")]


def test_what_a_campaign_killed_is_started_anew_when_it_is_heard_no_more(robots, monkeypatch):
    system, heard = load_system("so101_sim"), []
    with RunningSystem(replace(system, processes=()), lambda line: None) as running, ThreadPoolExecutor() as pool:
        stage = Stage(running, system.contract, None, "arm", None)
        monkeypatch.setattr(running, "start", lambda process: heard.append((process, stage._speakers())))
        node = robots.controller("arm", "killed")
        name = node.get_name()
        until(lambda: name in stage._speakers())
        starting = pool.submit(stage.start, name)
        robots.end(node)
        starting.result(PATIENCE)
    assert heard == [(name, set())]


@pytest.mark.parametrize("other", [lambda robots: robots.controller("arm", "theirs"), lambda robots: robots.policy()])
def test_nothing_is_started_where_a_system_runs_already(robots, other, monkeypatch):
    monkeypatch.setattr(alone, "GONE", 0.5)
    monkeypatch.setattr(alone, "DISCOVERY", PATIENCE)    # until it is heard
    other(robots)
    system, said = load_system("so101_sim"), []
    with pytest.raises(BringUpError, match="a system runs in this ROS domain already: .*/status;.*ROS_DOMAIN_ID"):
        campaign(system, said.append, lambda row: None)
    bench = live.LiveBench(system, Condition("touch"), None, said.append)
    with pytest.raises(BringUpError, match="a system runs in this ROS domain already"), bench:
        pass
    assert robots.asked == [] and not any("[arm_controller]" in line for line in said)


def test_a_campaign_ends_where_what_it_killed_is_heard_on(robots, monkeypatch):
    monkeypatch.setattr(stage_module, "GONE", 0.5)
    system = load_system("so101_sim")
    with RunningSystem(replace(system, processes=()), lambda line: None) as running:
        stage, name = Stage(running, system.contract, None, "arm", None), robots.controller("arm", "theirs").get_name()
        until(lambda: name in stage._speakers())
        monkeypatch.setattr(running, "start", lambda process: pytest.fail("it was started"))
        with pytest.raises(BringUpError, match=f"a node '{name}' is heard.*ROS_DOMAIN_ID"):
            stage.start(name)


def test_where_a_process_of_ours_has_ended_whoever_has_its_names_is_asked_nothing():
    stopped = SimpleNamespace(ended=[Exit("arm_controller", 1)], wait_for_rest=lambda: "arm: holding")
    with pytest.raises(SystemEnded, match="'arm_controller' ended with exit code 1"):
        alone.must_be_alone(stopped, ["arm"])


def test_a_stop_ends_the_wait_for_another_system(robots):
    with RunningSystem(replace(load_system("so101_sim"), processes=()), lambda line: None) as running:
        robots.controller("left", "of two arms")
        until(lambda: alone.another(running.node, ["arm"]))
        running.stopping.set()
        with pytest.raises(Stopped):
            alone.must_be_alone(running, ["arm"])


@pytest.fixture
def looked(monkeypatch):
    """Drivers that were opened, and moves, of a check whose devices are well but for what is really looked at."""
    opened, moved = [], []

    def bus_line(arm, *_):
        opened.append(arm)
        return passed(f"bus {arm}", "it opens")

    def check_move(*_):
        moved.append("arm")
        return []

    monkeypatch.setattr(command, "absent", lambda: "molmoact2_policy")
    monkeypatch.setattr(command, "bus_line", bus_line)
    monkeypatch.setattr(command, "check_move", check_move)
    return opened, moved


def checked(tmp_path):
    settings = ["arm_controller.driver_options=[port=double, calibration=double]"]
    code = command.check("so101_robot", settings, Options(tmp_path, move=True, yes=True))
    return code, (tmp_path / "check.md").read_text()


def test_beside_a_system_that_runs_no_device_is_opened_and_nothing_moves(robots, looked, tmp_path):
    robots.controller("arm", "theirs")
    robots.policy()
    code, report = checked(tmp_path)
    assert code == 1 and looked == ([], [])
    assert "already running" in report and "| skip | move | nothing was armed" in report


@pytest.mark.parametrize("fails", [True, False])
def test_a_check_that_has_failed_moves_nothing(fails, looked, tmp_path, monkeypatch):
    found = command.failed("camera front", "it is black", "light") if fails else passed("camera front", "it sees")
    monkeypatch.setattr(command.DeviceCheck, "look_around", lambda _: True)
    monkeypatch.setattr(command.DeviceCheck, "run", lambda self, *_: self._report.add(found) or 0.0)
    code, report = checked(tmp_path)
    assert (code, looked) == ((1, (["arm"], [])) if fails else (0, (["arm"], ["arm"])))
    assert ("| skip | move | nothing was armed, for what failed above: camera front" in report) == fails
