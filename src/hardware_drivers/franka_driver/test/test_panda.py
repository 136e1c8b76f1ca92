# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The older Panda: the vendor's libfranka 0.9 in panda_py against the double in version 5 of the protocol."""

import logging
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from robot_double import wait_until
from test_franka_connect import refused, told
from test_franka_controller import Arm, twice
from test_franka_driver import HOME, PERIOD, fails_with, follow, hand_fails_with, moving, ramps_down, recovers
from test_franka_power import power_fails_and_comes_back

from arm_controller.controller_state import State
from arm_controller.driver import DriverError
from franka_driver import panda, session
from franka_driver.double import server
from franka_driver.driver import create
from franka_driver.panda import WALLS, PandaSession

panda_py = pytest.importorskip("panda_py")
constants = pytest.importorskip("panda_py.constants")


@pytest.fixture
def driver(panda_double, make_panda):
    driver = make_panda(panda_double.host)
    driver.connect()
    return driver


def recovered(driver):
    wait_until(lambda: recovers(driver))
    here = driver.read().positions
    assert np.abs(follow(driver, here, 0.2).positions - here)[:7].max() < 0.03


def test_connecting_moves_nothing_and_gives_the_robot_the_contracts_thresholds(driver, panda_double, panda_contract):
    state = driver.read()
    assert np.allclose(state.positions[:7], HOME, atol=2e-3) and state.positions[7] == pytest.approx(1.0, abs=0.01)
    assert abs(time.time_ns() - state.stamp_ns) < 2e9
    given = panda_contract.arm("arm").compliance
    assert told(panda_double) == [given.torque_thresholds, given.force_thresholds]
    assert not panda_double.ask()["moving"] and panda_double.ask()["hand"] == []


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("user_stop", "user stop is pressed.*release it"),
        ("brakes", "joints are locked.*open the brakes in Desk"),
        ("refuse on", "does not take thresholds of its collision reflex"),
        ("version 4", "speaks version 4 of the protocol, this driver 5; update the Panda to system 4.2"),
        ("version 7", "speaks version 7 of the protocol, this driver 5; it is a Research 3: .*; update .* system 5.9"),
        ("version 10", "speaks version 10 of the protocol, this driver 5; it is a Research 3: [^;]*franka_droid$"),
    ],
)
def test_a_panda_that_cannot_be_moved_is_named(panda_double, make_panda, fault, text):
    panda_double.say(fault)
    refused(make_panda(panda_double.host), text)
    assert not panda_double.ask()["moving"]


def test_a_host_that_refuses_has_fci_off_and_one_that_nobody_knows_is_named(make_panda):
    refused(make_panda("127.0.9.9"), "FCI is off.*activate FCI in Desk")
    refused(make_panda("no-such-robot.invalid"), "nobody knows the host 'no-such-robot.invalid'")


def test_a_host_whose_address_is_not_found_is_not_connected_to(panda_double, make_panda, monkeypatch):
    """The addresses are what a connection can be ended by."""

    def unknown(*_):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    refused(make_panda(panda_double.host), "nobody knows the host")
    assert panda_double.ask()["clients"] == 0


def test_the_driver_of_a_research_3_says_that_this_is_a_panda_and_how_to_reach_it(panda_double, make_driver):
    refused(make_driver(panda_double.host), "speaks version 5 of the protocol, this driver 10.*robot=panda.*droid")


def test_realtime_is_enforced_unless_told_otherwise(panda_double, make_panda, monkeypatch):
    monkeypatch.setattr(session, "check_priority", lambda: None)
    monkeypatch.setattr(panda_py.libfranka, "has_realtime_kernel", lambda: False)
    refused(make_panda(panda_double.host, realtime="enforce"), "no real-time kernel.*realtime=ignore")
    assert panda_double.ask()["clients"] == 0


def test_a_robot_that_falls_silent_while_it_is_connected_to_is_named_and_let_go(panda_double, make_panda, monkeypatch):
    def silent(*_):
        raise RuntimeError("libfranka: UDP receive: Timeout")

    driver = make_panda(panda_double.host)
    with monkeypatch.context() as patched:
        patched.setattr(panda, "Reader", silent)
        refused(driver, "connection to the robot .* is lost")
    driver.connect()
    assert panda_double.ask()["clients"] == 2


def test_without_the_package_the_error_says_how_to_get_it(make_panda, monkeypatch):
    monkeypatch.setitem(sys.modules, "panda_py", None)
    refused(make_panda("127.0.0.1"), r"panda-python is missing.*pip install --no-deps panda-python==1\.1\.1")


def test_another_version_of_the_package_which_may_not_heed_the_guard_is_refused(make_panda, monkeypatch):
    monkeypatch.setattr(panda, "version", lambda _: "1.2.0")
    refused(make_panda("127.0.0.1"), r"panda-python is 1\.2\.0.*pip install --no-deps panda-python==1\.1\.1")


def test_a_package_that_does_not_say_which_version_it_is_is_refused(make_panda, monkeypatch):
    def nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(panda, "version", nothing)
    refused(make_panda("127.0.0.1"), "No package metadata was found for panda-python")


def test_where_the_guard_would_keep_panda_py_from_nothing_the_robot_is_not_connected_to(
    panda_double, make_panda, monkeypatch
):
    monkeypatch.setattr(panda, "METHODS", ())
    refused(make_panda(panda_double.host), "keeps panda_py from having the robot recover by itself does not hold")
    assert panda_double.ask()["clients"] == 0


def test_a_panda_py_that_does_not_speak_through_the_guard_is_let_go(panda_double, make_panda, monkeypatch):
    def past_it(self):
        self._addresses = {panda_double.host}
        return panda_py.Panda(panda_double.host, "another logger", panda_py.libfranka.RealtimeConfig.kIgnore)

    driver = make_panda(panda_double.host)
    with monkeypatch.context() as patched:
        patched.setattr(PandaSession, "_dial", past_it)
        refused(driver, "keeps panda_py from having the robot recover by itself does not hold")
    driver.connect()
    assert panda_double.ask()["clients"] == 2


def test_the_arm_follows_setpoints_and_where_they_cease_the_robots_own_controller_holds(driver, panda_double):
    goal = driver.read().positions
    target = goal.copy()
    target[[0, 3]] += [0.2, 0.15]
    for share in np.linspace(0, 1, 60):
        driver.write(goal + share * (target - goal))
        driver.read()
        time.sleep(PERIOD)
    follow(driver, target, 10.0, lambda: bool(np.abs(driver.read().positions - target)[:7].max() < 0.02))
    assert np.allclose(panda_double.ask()["positions"], target[:7], atol=0.03) and panda_double.ask()["moving"]
    wait_until(lambda: driver.read() is not None and not panda_double.ask()["moving"])
    there = driver.read().positions
    assert np.abs(follow(driver, there, 0.1).positions - there)[:7].max() < 0.03
    assert panda_double.ask()["moving"]
    driver.close()
    assert not panda_double.ask()["moving"]


def test_a_guided_arm_yields_and_is_held_where_it_then_is(driver, panda_double):
    driver.guide()
    before = driver.read().positions
    panda_double.say("push 3 6.0")
    wait_until(lambda: abs(driver.read().positions[3] - before[3]) > 0.1)
    panda_double.say("push 3 0")
    driver.stop()
    here = driver.read().positions
    wait_until(lambda: driver.read() is not None and not panda_double.ask()["moving"])
    assert np.abs(driver.read().positions - here)[:7].max() < 0.15


def test_a_reflex_is_named_and_the_robot_recovers_for_an_operator_only(driver, panda_double):
    goal = moving(driver)
    panda_double.say("reflex joint_reflex")
    fails_with(driver, goal, "(?s)joint_reflex.*torque_thresholds")
    assert panda_double.ask()["recoveries"] == 0
    panda_double.say("by_hand on")
    with pytest.raises(DriverError, match="manual error recovery"):
        driver.recover()
    panda_double.say("by_hand off")
    recovered(driver)
    assert panda_double.ask()["recoveries"] == 2


@pytest.fixture
def no_logging():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_panda_py_does_not_have_a_robot_recover_that_falls_into_reflex_as_a_motion_begins(
    driver, panda_double, no_logging, monkeypatch
):
    """Nor where the newest state that the driver knows is of before, nor where nothing is logged."""
    logging.getLogger(driver._session._guard.name).disabled = True    # as a configuration of logging does
    goal = driver.read().positions
    monkeypatch.setattr(PandaSession, "_must_be_ready", staticmethod(lambda *_: None))
    panda_double.say("reflex joint_reflex")
    with pytest.raises(DriverError, match="the robot is in reflex"):
        driver.write(goal)
    seen = panda_double.ask()
    assert seen["recoveries"] == 0 and not seen["moving"]


@pytest.mark.parametrize(
    ("fault", "text", "cure"),
    [
        ("drop on", "communication_constraints_violation", "drop off"),
        ("freeze on", "has sent no state", "freeze off"),
        ("rate 0.5", "only 50 % of the commands", "rate 1.0"),
        ("user_stop", "user stop is pressed", "release"),
        ("brakes", "joints are locked", "release"),
        ("silent on", "has sent no state|connection to the robot", "silent off"),
    ],
)
def test_what_ends_a_motion_is_named_and_stays_until_an_operator_has_cleared_it(
    driver, panda_double, monkeypatch, fault, text, cure
):
    monkeypatch.setattr(session, "POOR_FOR", 0.2)
    goal = moving(driver)
    panda_double.say(fault)
    fails_with(driver, goal, text)
    panda_double.say(cure)
    recovered(driver)


def test_a_panda_whose_power_fails_is_named_refuses_connections_and_stays_still_when_it_is_back(driver, panda_double):
    power_fails_and_comes_back(driver, panda_double)


def test_when_the_hand_of_a_panda_fails_setpoints_bring_the_arm_to_rest_and_then_its_motion_ends(driver, panda_double):
    goal = moving(driver)
    panda_double.say("hand fails")
    goal[7] = 0.0
    hand_fails_with(driver, goal, "the hand at")
    assert panda_double.ask()["hand"] == ["grasp 0.000 20"]
    ramps_down(driver, panda_double, goal)


def test_a_setpoint_that_no_panda_could_take_is_not_sent(driver, panda_double):
    goal = driver.read().positions
    for bad, text in ((np.nan, "finite numbers"), (0.5, "joint 4 is 0.5000 rad, outside the robot's limits")):
        goal[3] = bad
        with pytest.raises(DriverError, match=f"{text}.*nothing was sent"):
            driver.write(goal)
    assert not panda_double.ask()["moving"]


@pytest.fixture
def start_arm(panda_contract, panda_double):
    """Starts the controller of a Panda; the one before is ended."""
    arms = []

    def start():
        for arm in arms:
            arm.close()
        panda_double.say("reset")
        arms.append(Arm(panda_contract, panda_double, robot="panda"))
        return arms[-1]

    yield start
    for arm in arms:
        arm.close()


@twice
def test_the_controllers_own_process_stops_at_a_reflex_and_goes_on_when_an_operator_says_so(arm):
    arm.begin_moving()
    arm.double.say("reflex joint_reflex")
    arm.fails_with("joint_reflex")
    assert "clear_fault" in arm.refused("arm") and arm.double.ask()["recoveries"] == 0
    arm.until(lambda: arm.core.operate("clear_fault")[0])
    arm.until(lambda: arm.now.state == State.DISARMED)
    assert not arm.double.ask()["moving"]
    arm.until(lambda: arm.core.operate("arm")[0])
    arm.until(lambda: arm.double.ask()["moving"])


def test_a_panda_whose_robot_is_gone_ends_no_process(panda_contract, panda_double):
    """panda_py's own end of a connection would."""
    code = (
        "import dataclasses, gc, sys, threading\n"
        "from franka_driver.driver import create; from molmoact2_contract import load_contract\n"
        f"contract = load_contract({str(panda_contract.path)!r}); arm = contract.arm('arm')\n"
        "arm = dataclasses.replace(arm, joints=arm.joints[:7])\n"
        f"driver = create(contract, arm, dict(host={panda_double.host!r}, robot='panda', realtime='ignore'))\n"
        "driver.connect(); driver.write(driver.read().positions); driver.stop(); print('moved', flush=True)\n"
        "sys.stdin.readline(); driver.close(); del driver\n"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'panda states']\n"
        "gc.collect(); print('closed', flush=True)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout.readline() == "moved\n"
        panda_double.say("hang_up")
        assert process.communicate("\n") == ("closed\n", None)
    assert process.returncode == 0


def test_a_double_of_a_panda_names_the_compiler_that_it_lacks(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["server", "--host", "127.0.7.20", "--panda"])
    assert server.main() == 1
    assert re.fullmatch(r"error .*needs a compiler, c\+\+.*install.*\n", capsys.readouterr().out)


def test_an_arm_beyond_its_limits_is_not_moved(driver, panda_double, monkeypatch):
    """panda_py would end the process."""
    goal = driver.read().positions
    monkeypatch.setattr(PandaSession, "upper", np.append(HOME[:6] + 1.0, HOME[6] - 0.01))
    goal[6] -= 0.1
    with pytest.raises(DriverError, match="joint 7 is at .*guide the arm away"):
        driver.write(goal)
    assert not panda_double.ask()["moving"]


def test_the_contract_keeps_out_of_the_zones_in_which_panda_py_pushes_back(panda_contract):
    assert np.allclose(panda_contract.values("lower")[:7], PandaSession.lower + WALLS)
    assert np.allclose(panda_contract.values("upper")[:7], PandaSession.upper - WALLS)
    assert np.allclose(PandaSession.lower, constants.JOINT_LIMITS_LOWER)
    assert np.allclose(PandaSession.upper, constants.JOINT_LIMITS_UPPER)


def test_the_contracts_links_are_those_by_which_panda_py_reckons(panda_contract):
    lower, upper = panda_contract.values("lower"), panda_contract.values("upper")
    for positions in np.random.default_rng(0).uniform(lower, upper, (20, 8)):
        tip = panda_contract.arm("arm").kinematics.frames(positions)["panda_hand_tcp"]
        assert np.allclose(tip, panda_py.fk(positions[:7]), atol=5e-4)    # its hand is 0.4 mm longer


def test_the_contract_of_the_other_robot_is_refused_in_either_direction(contract, panda_contract):
    with pytest.raises(DriverError, match="a Panda goes from"):
        create(contract, contract.arm("arm"), {"host": "127.0.0.1", "robot": "panda"})
    with pytest.raises(DriverError, match="a Franka Research 3 goes from"):
        create(panda_contract, panda_contract.arm("arm"), {"host": "127.0.0.1"})
