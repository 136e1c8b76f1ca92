# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 check`: the policy's engine, the computer, drivers and the report. No ROS here."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arm_controller.driver import ArmDriver, ArmState, DriverError
from molmoact2_bringup.check import machine
from molmoact2_bringup.check.checkpoint import look
from molmoact2_bringup.check.drivers import bus_line, driver_line, process_lines, stopping_line
from molmoact2_bringup.check.heard import Heard, Thinking
from molmoact2_bringup.check.latency import LATENCY, PLAN, latency_lines, load, measure, plan_line
from molmoact2_bringup.check.line import FAIL, PASS, SKIP, WARN, Line, failed, passed
from molmoact2_bringup.check.policy import PolicyCheck, made_up
from molmoact2_bringup.check.report import Interrupted, Report
from molmoact2_bringup.check.wanted import configuration_of, controllers_of, policy_of
from molmoact2_contract import load_system
from molmoact2_policy.act_backend import Remote
from molmoact2_policy.backend import BackendError, Inference, Unanswered

SYSTEM = load_system("so101_sim")
CONFIGURATION = configuration_of(policy_of(SYSTEM))
CONTRACT = CONFIGURATION.contract
HOME = CONTRACT.values("home")
STEPS = 30    # one second of chunk


class Clock:
    """Goes on only when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class FakeBackend:
    """Takes `usual` seconds, and `whole` after a reset; error: raised by each inference."""

    name, fingerprint = "fake", "0" * 64

    def __init__(self, clock, usual=0.1, whole=0.2, error=None, fails_to_load=None):
        self.clock, self.usual, self.whole, self.error, self.fails_to_load = clock, usual, whole, error, fails_to_load
        self.fresh, self.shown, self.closed = True, [], False

    def load(self):
        if self.fails_to_load:
            raise self.fails_to_load

    def infer(self, images, state, instruction, seed, prefix=None):
        if self.error:
            raise self.error
        self.clock.now += self.whole if self.fresh else self.usual
        self.fresh = False
        self.shown.append((images, state, instruction))
        return Inference(np.tile(state, (STEPS, 1)), None, 10)

    def check_instruction(self, instruction):
        if not instruction:
            raise ValueError("blank")

    def reset(self, because="reset"):
        self.fresh = True

    def close(self):
        self.closed = True


def measured(usual, whole=None, configuration=CONFIGURATION):
    clock = Clock()
    backend = FakeBackend(clock, usual, usual if whole is None else whole)
    return measure(backend, configuration, made_up(SYSTEM, configuration), HOME, clock)


def latency(usual, age=0.0, whole=None) -> Line:
    return next(x for x in latency_lines(measured(usual, whole), age, CONFIGURATION) if x.name == LATENCY)


# --- latency ----------------------------------------------------------------------------------------------------------
def test_inferences_as_they_follow_each_other_and_with_every_code_anew_are_told_apart():
    found = measured(0.1, 0.4)
    assert found.seconds == pytest.approx([0.1] * 5) and found.whole == pytest.approx([0.4] * 3)
    off = replace(CONFIGURATION, settings=replace(CONFIGURATION.settings, depth="off"))
    assert measured(0.1, 0.4, off).whole == ()


@pytest.mark.parametrize(("usual", "age", "outcome"), [
    (0.2, 0.05, PASS),
    (0.6, 0.05, WARN),     # motion pauses
    (0.2, 0.4, WARN),      # the images are late
    (0.94, 0.0, WARN),
    (0.96, 0.0, FAIL),     # a chunk lasts 1 s, and shall come 0.05 s before its end
    (0.2, 0.8, FAIL),
    (3.0, 0.0, FAIL),
])
def test_latency_is_held_against_what_a_chunk_lasts(usual, age, outcome):
    line = latency(usual, age)
    assert line.outcome == outcome and "1.000 s that a chunk lasts" in line.text
    assert outcome == PASS or "policy.device=cuda" in line.mend


def test_a_full_depth_pass_that_is_too_slow_is_remarked():
    assert latency(0.1, whole=0.7).outcome == WARN
    assert latency(0.1, whole=0.3).outcome == PASS


def test_of_slow_inferences_few_are_made():
    found = measured(40.0)
    assert len(found.seconds) == 1 and len(found.whole) == 1


def test_ctrl_c_ends_it_between_two_inferences():
    clock = Clock()
    with pytest.raises(Interrupted):
        measure(
            FakeBackend(clock), CONFIGURATION, made_up(SYSTEM, CONFIGURATION), HOME, clock, lambda: clock.now > 0.3
        )
    assert clock.now < 0.5


def test_of_a_policy_that_runs_its_own_latency_is_taken_and_nothing_is_loaded(tmp_path):
    running = Thinking(True, CONFIGURATION.settings.checkpoint, CONFIGURATION.tag.name, 0.2, 0.3, "")
    _, known = look(CONFIGURATION.settings, CONTRACT, CONFIGURATION.tag)

    def lines(policy):
        report = Report(tmp_path, "so101_sim")
        check = PolicyCheck(SYSTEM, CONFIGURATION, known, report, lambda _: None)
        check.ask(Heard({}, {}, "joint_states", {}, policy=policy))
        return [(line.name, line.outcome) for line in report.lines]

    assert lines(running) == [("policy", PASS), (LATENCY, PASS)]
    assert lines(replace(running, late=0.6)) == [("policy", PASS), (LATENCY, WARN)]
    assert lines(replace(running, latency=1.0, late=1.2))[1] == (LATENCY, FAIL)
    assert lines(replace(running, latency=0.0, late=0.0))[1] == (LATENCY, SKIP)
    assert lines(replace(running, checkpoint="another"))[0] == ("policy", FAIL)
    assert lines(replace(running, trouble="no instruction was given"))[0] == ("policy", WARN)


def test_a_chunk_that_would_be_refused_as_too_old_fails():
    long = replace(measured(1.2), actions=np.tile(HOME, (300, 1)))    # ten seconds
    lines = latency_lines(long, 0.0, CONFIGURATION)
    assert [line.outcome for line in lines] == [PASS, FAIL] and "max_observation_age" in lines[1].text


def test_a_plan_that_does_not_begin_where_the_arm_is_or_leaves_its_limits_is_remarked():
    def line(actions):
        return plan_line(np.array(actions, np.float32), HOME, CONTRACT, CONFIGURATION.tag)

    still = np.tile(HOME, (STEPS, 1))
    assert line(still).outcome == PASS
    elsewhere = still.copy()
    elsewhere[:, 1] *= -1
    assert line(elsewhere).outcome == WARN and "shoulder_lift" in line(elsewhere).text
    leaving = still.copy()
    leaving[-1, 0] = 3.0
    assert line(leaving).outcome == WARN and "shoulder_pan" in line(leaving).text
    assert line(np.full((STEPS, 6), np.nan)).outcome == FAIL


# --- the policy's part, whole -----------------------------------------------------------------------------------------
def policy_lines(tmp_path, backend):
    report = Report(tmp_path, "so101_sim")
    _, known = look(CONFIGURATION.settings, CONTRACT, CONFIGURATION.tag)
    check = PolicyCheck(SYSTEM, CONFIGURATION, known, report, lambda _: backend)
    check.load()
    check.ask(None)
    check.close()
    return {line.name: line for line in report.lines}


def test_without_devices_made_up_images_of_the_systems_size_are_shown_and_said_to_be_made_up(tmp_path):
    backend = FakeBackend(Clock())
    lines = policy_lines(tmp_path, backend)
    images, _, instruction = backend.shown[0]
    assert [image.shape for image in images] == [(240, 320, 3)] * 2 and instruction == "pick up the red cube"
    assert lines["inference"].outcome == SKIP and "made-up" in lines["inference"].text
    assert PLAN not in lines and backend.closed


def test_what_a_server_computes_is_measured_and_its_memory_is_its_own(tmp_path):
    report, backend = Report(tmp_path, "so101_sim"), FakeBackend(Clock())
    there = replace(CONFIGURATION, remote=Remote("http://127.0.0.1:8202"))
    check = PolicyCheck(SYSTEM, there, None, report, lambda _: backend)
    check.load()
    check.ask(None)
    found = {line.name: line.outcome for line in report.lines}
    assert found[machine.MEMORY] == SKIP and found["checkpoint loads"] == PASS and found[LATENCY] == PASS


def test_a_model_that_cannot_be_loaded_or_gives_no_action_is_a_line_and_no_crash(tmp_path):
    lines = policy_lines(tmp_path, FakeBackend(Clock(), fails_to_load=BackendError("device 'cuda' was asked for")))
    assert lines["checkpoint loads"].outcome == FAIL and "cuda" in lines["checkpoint loads"].text
    assert lines[LATENCY].outcome == SKIP
    assert load(FakeBackend(Clock(), fails_to_load=MemoryError("no memory"))).outcome == FAIL
    line = measure(FakeBackend(Clock(), error=Unanswered("not_decoded", "no depth map")), CONFIGURATION, [], HOME)
    assert line.outcome == FAIL and "no depth map" in line.text


# --- the computer -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("needed", "free", "gpu", "outcome"), [
    (2e9, 8e9, "", PASS), (9e9, 8e9, "", FAIL), (7e9, 8e9, "", WARN), (2e9, 8e9, "a GPU", WARN),
])
def test_weights_are_held_against_free_memory(needed, free, gpu, outcome):
    assert machine.memory_line(int(needed), int(free), "main memory", gpu).outcome == outcome


@pytest.mark.parametrize(("free", "rate", "outcome"), [
    (1e8, 0.0, FAIL), (1e8, 1e6, FAIL), (1e9, 1e7, WARN), (1e11, 1e7, PASS), (1e9, 0.0, PASS),
])
def test_a_full_disk_fails_and_one_for_minutes_of_recording_is_remarked(free, rate, outcome):
    line = machine.disk_line(free, rate, Path("out/bags"))
    assert line.outcome == outcome and "GB are free" in line.text


def test_free_disk_is_that_of_the_folder_a_recording_will_be_in(tmp_path):
    assert machine.free_disk(tmp_path / "not" / "yet") == pytest.approx(machine.free_disk(tmp_path), rel=0.1)


def test_a_robot_that_the_whole_network_can_command_is_remarked():
    assert machine.ros_line({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": "7"}).outcome == PASS
    assert "domain 7" in machine.ros_line({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": "7"}).text
    assert machine.ros_line({}).outcome == WARN


def test_rights_of_the_setpoint_process_are_told_as_it_tells_them():
    assert machine.realtime_line("").outcome == PASS
    line = machine.realtime_line("no real-time priority (Operation not permitted)")
    assert line.outcome == WARN and "Operation not permitted" in line.text


# --- drivers ----------------------------------------------------------------------------------------------------------
class FakeDriver(ArmDriver):
    def __init__(self, clock, takes=0.002, error=None, breaks_after=None):
        self.clock, self.takes, self.error, self.breaks_after = clock, takes, error, breaks_after
        self.reads, self.closed, self.moved = 0, 0, 0

    def connect(self):
        if self.error:
            raise self.error

    def read(self):
        self.reads += 1
        if self.breaks_after and self.reads > self.breaks_after:
            raise DriverError("servo 3 (elbow_flex) is silent")
        self.clock.now += self.takes
        return ArmState(HOME, 0)

    def write(self, positions):
        self.moved += 1

    def stop(self):
        self.moved += 1

    def close(self):
        self.closed += 1


def bus(**given):
    clock = Clock()
    driver = FakeDriver(clock, **given)
    line = bus_line("arm", driver, 0.01, 20, clock, clock.sleep)
    assert driver.closed == 1 and driver.moved == 0
    return line


def test_a_device_is_opened_read_and_closed_and_never_moved():
    line = bus()
    assert line.outcome == PASS and "2.0 ms" in line.text
    assert bus(takes=0.02).outcome == FAIL


def test_a_device_that_does_not_open_or_falls_silent_fails_with_the_drivers_own_words():
    line = bus(error=DriverError("there is no port /dev/ttyACM0; ports there are: none"))
    assert line.outcome == FAIL and "cannot be opened: there is no port /dev/ttyACM0" in line.text
    assert "failed in itself" in bus(error=ZeroDivisionError()).text
    line = bus(breaks_after=5)
    assert line.outcome == FAIL and "stopped answering" in line.text and "elbow_flex" in line.text


def controller(**parameters):
    process = controllers_of(load_system("so101"))["arm"]
    return replace(process, parameters={**process.parameters, **parameters})


@pytest.mark.parametrize(("parameters", "words"), [
    ({"driver_options": ["port=/dev/ttyACM0", "calibration=nobodys_arm"]}, "nobodys_arm"),
    ({"driver_options": ["port=/dev/ttyACM0", "calibration=double", "speed=3"]}, "speed"),
    ({"driver_options": ["calibration=double"]}, "port"),
    ({"driver_options": ["calibration"]}, "key=value"),
    ({"driver": "no_such_driver"}, "no_such_driver"),
    ({"arm": "left"}, "left"),
])
def test_a_driver_whose_options_or_calibration_do_not_fit_fails_before_anything_is_opened(parameters, words):
    line, driver = driver_line("arm", controller(**parameters), CONTRACT)
    assert line.outcome == FAIL and words in line.text and driver is None


def test_what_stopping_does_to_the_arm_is_shown_as_the_contract_says_it():
    arm = CONTRACT.arm("arm")
    line = stopping_line(arm)
    assert line.outcome == PASS and line.name == "stopping arm"
    assert arm.stopping.process_death in line.text and arm.stopping.close in line.text
    assert stopping_line(replace(arm, stopping=None)).outcome == SKIP


def test_a_port_that_is_not_there_is_named_by_the_driver_itself(tmp_path):
    options = [f"port={tmp_path}/no_port", "calibration=double"]
    line, driver = driver_line("arm", controller(driver_options=options), CONTRACT)
    assert line.outcome == PASS
    line = bus_line("arm", driver, 0.01)
    assert line.outcome == FAIL and f"{tmp_path}/no_port" in line.text


def test_a_system_that_lacks_a_controller_a_program_or_a_camera_says_so():
    assert [line.outcome for line in process_lines(SYSTEM)] == [PASS]
    world = SYSTEM.processes[0]
    absent = replace(SYSTEM, processes=(world, replace(world, name="other", executable="no_such_program")))
    lines = {line.name: line for line in process_lines(absent)}
    assert lines["installed"].outcome == FAIL and "no_such_program" in lines["installed"].text
    assert lines["controllers"].outcome == FAIL and "'arm'" in lines["controllers"].text
    assert lines["camera processes"].outcome == WARN and "front, wrist" in lines["camera processes"].text


# --- report -----------------------------------------------------------------------------------------------------------
def test_each_line_is_one_line_and_all_are_kept(tmp_path, capsys):
    report = Report(tmp_path, "my_robot")
    report.add(passed("camera front", "shows something"))
    assert not report.failed
    report.add([failed("joint a", "is 1 | 2", "move it")])
    assert report.failed and report.write() == "1 passed, 0 to be looked at, 1 failed, 0 not looked at"
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and out[1].split(maxsplit=3) == ["fail", "joint", "a", "is 1 | 2  -> move it"]
    content = json.loads((tmp_path / "check.json").read_text())
    assert content["failed"] and content["lines"][1]["mend"] == "move it"
    assert "| **fail** | joint a | is 1 \\| 2 | move it |" in (tmp_path / "check.md").read_text()
