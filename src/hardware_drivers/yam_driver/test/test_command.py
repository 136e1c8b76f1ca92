# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 yam`, and the double as a program."""

import argparse
import os
import pickle
import signal
import subprocess
import sys

import can
import pytest

from yam_driver.command import register
from yam_driver.double import Status
from yam_driver.double.command import BadLine, obey


def yam(*words: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(["yam", *words])
    return args.func(args)


def channel(double) -> list[str]:
    return ["--channel", f"slcan:{double.adapter.link}"]


def test_state_names_every_motor_and_moves_nothing(double, capsys):
    assert yam("state", *channel(double)) == 0
    said = capsys.readouterr().out
    assert said.count("motor ") == 7 and "DM4340 joint 1" in said and "lets go after 1.00 s" in said
    assert all(motor.enabled_times == 0 for motor in double.motors)


def test_the_grippers_limits_are_found_only_when_it_may_move(double, capsys, monkeypatch):
    monkeypatch.setattr("yam_driver.double.arm.FRAME", 1 / 200)    # one motor is spoken to, 200 times a second
    assert yam("gripper", *channel(double)) == 2
    assert "--move" in capsys.readouterr().err and double.motor(7).enabled_times == 0
    assert yam("gripper", *channel(double), "--move") == 0
    found = capsys.readouterr().out.split("gripper_limits=")[1]
    assert [float(value) for value in found.split(",")] == pytest.approx([6.5, 0.0], abs=0.1)
    assert [motor.enabled_times for motor in double.motors] == [0, 0, 0, 0, 0, 0, 1]
    assert double.motor(7).status == Status.OFF


def test_a_timeout_that_was_off_is_set_saved_and_then_accepted(double, make, capsys):
    double.motor(3).registers[9] = double.motor(3).saved[9] = 0
    assert yam("timeout", *channel(double), "--seconds", "0.5") == 0
    double.power(False)
    double.power(True)
    assert all(motor.registers[9] == 10000 for motor in double.motors)
    make(double).connect()


@pytest.mark.parametrize("seconds", ["0", "5"])
def test_a_timeout_is_never_switched_off_nor_made_long(double, capsys, seconds):
    assert yam("timeout", *channel(double), "--seconds", seconds) == 2
    assert "out of range" in capsys.readouterr().err and double.motor(1).registers[9] == 20000


def test_limp_is_done_only_where_the_arm_may_fall(double, capsys):
    for motor in double.motors:
        motor.status, motor.registers[9] = Status.ON, 0    # left on by a process that is gone
    assert yam("limp", *channel(double)) == 2
    assert "falls" in capsys.readouterr().err and double.motor(1).status == Status.ON
    assert yam("limp", *channel(double), "--falls") == 0
    assert all(motor.status == Status.OFF for motor in double.motors)


def test_what_is_wrong_is_said_and_is_a_bad_exit(double, capsys):
    double.power(False)
    assert yam("state", *channel(double)) == 1
    assert "no motor answers" in capsys.readouterr().err
    assert yam("state", "--channel", "/dev/ttyACM0") == 2
    assert "is no CAN channel" in capsys.readouterr().err


def test_limp_goes_on_past_a_motor_that_does_not_answer_and_says_which(double, capsys, monkeypatch):
    monkeypatch.setattr("yam_driver.motors.REPLY", 0.2)
    for motor in double.motors:
        motor.status = Status.ON
    double.motor(2).plugged = False
    assert yam("limp", *channel(double), "--falls") == 1
    assert "motors [2]" in capsys.readouterr().err
    assert [motor.id for motor in double.motors if motor.status == Status.ON] == [2]


def test_a_motor_that_does_not_answer_is_said_and_is_no_traceback(double, capsys):
    double.motor(3).plugged = False
    assert yam("timeout", *channel(double)) == 1
    assert "motor 3 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError("gone"), can.CanOperationError("gone")])
def test_an_adapter_that_fails_is_said_and_is_no_traceback(double, capsys, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("yam_driver.motors.MotorBus.disable", fail)
    assert yam("limp", *channel(double), "--falls") == 1
    assert "fails (gone)" in capsys.readouterr().err


def test_a_driver_can_be_sent_to_another_process(double, make):
    driver = make(double)
    there = pickle.loads(pickle.dumps(driver))
    there.connect()
    there.close()


def test_faults_are_typed_into_the_double(double):
    obey(double, "fail 4 overload")
    obey(double, "heat 2 71")
    obey(double, "cable 3 out")
    obey(double, "drop 0.25")
    assert double.motor(4).status == Status.OVERLOAD and double.motor(2).rotor == 71
    assert not double.motor(3).plugged and double.adapter.drop == 0.25
    for bad in ("explode", "fail 9 OVERLOAD", "fail 4 TIRED", "drop many"):
        with pytest.raises(BadLine, match="faults, one a line"):
            obey(double, bad)


def test_the_double_is_a_program_that_tells_its_options_and_ends_when_asked(tmp_path, make, contract):
    link = tmp_path / "arm"
    program = subprocess.Popen(
        [sys.executable, "-m", "yam_driver.double", "--link", str(link), "--plain"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    try:
        options = dict(word.split("=", 1) for word in program.stdout.readline().split())
        from yam_driver.driver import create

        driver = create(contract, contract.arm("right"), options)
        driver.connect()
        assert driver.read().positions[3] == pytest.approx(-0.24, abs=1e-2)
        program.stdin.write("adapter out\n")
        program.stdin.flush()
        assert program.stdout.readline() == "done: adapter out\n" and not os.path.lexists(link)
        driver.close()
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0
    finally:
        program.kill()
