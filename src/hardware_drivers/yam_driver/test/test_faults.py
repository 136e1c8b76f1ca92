# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of motors and bus while the arm holds: each is named, the rest of the arm is held, and it comes back only when
it is switched on anew."""

import logging
import threading

import numpy as np
import pytest
from yam_rig import complaint, hold_here, others_hold, switch_on_again

from arm_controller.driver import DriverError
from yam_driver.checks import SHORTEST
from yam_driver.double import DoubleArm, Status
from yam_driver.motors import REPLY


def specials(double, begun):
    """What motors were told, since so many frames, of clearing an error (0xFB) or switching on (0xFC)."""
    return [
        (number, data[7]) for number, data in double.frames[begun:]
        if data[:7] == b"\xff" * 7 and data[7] in (0xFB, 0xFC)
    ]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.OVER_CURRENT, "over current"),
        (Status.OVERLOAD, "overload"),
        (Status.UNDER_VOLTAGE, "under voltage"),
        (Status.OVER_VOLTAGE, "over voltage"),
        (Status.COMM_LOSS, "loss communication"),
        (Status.OFF, "disabled"),
    ],
)
def test_a_motor_that_fails_is_named_the_others_hold_and_it_comes_back_only_when_armed(
    double, on, until, monkeypatch, status, words
):
    double.motor(4).fail(status)
    until(lambda: f"motor 4 (left_joint_3) reports {words}" in complaint(on))
    monkeypatch.setattr("yam_driver.loop.RAMP", 0.0)    # the time for it is over
    with pytest.raises(DriverError, match="motor 4"):
        on.write(on._loop.command)
    assert others_hold(double, 4, until) and double.motor(4).status == status
    until(lambda: not complaint(on))
    with pytest.raises(DriverError, match=r"motor 4 \(left_joint_3\) let go and stays limp until clear_fault and arm"):
        hold_here(on)
    assert double.motor(4).status == status    # nobody clears it by itself, and no setpoint does
    switch_on_again(on, until)
    assert all(motor.status == Status.ON for motor in double.motors)


def test_a_hot_motor_is_named_as_long_as_it_is_hot(double, on, until):
    double.motor(2).rotor = 101.0
    until(lambda: "motor 2 (left_joint_1) reports motor over temperature at 101 degC" in complaint(on))
    assert others_hold(double, 2, until)
    double.motor(2).rotor = 45.0
    switch_on_again(on, until)
    assert double.motor(2).status == Status.ON


def test_a_warm_motor_is_warned_of_once_and_at_70_degrees_the_arm_stops_and_holds(double, on, until, caplog):
    with caplog.at_level(logging.WARNING, "yam_driver"):
        double.motor(3).mos = 62.0
        until(lambda: "motor 3 (left_joint_2) is at 62 degC" in caplog.text)
        count = len(double.frames)
        until(lambda: len(double.frames) > count + 14)
        assert caplog.text.count("is at 62 degC") == 1 and not complaint(on)
        double.motor(3).mos = 71.0
        until(lambda: "is at 71 degC, more than 70; the arm holds" in complaint(on))
    assert others_hold(double, 0, until)
    assert complaint(on)    # however long nobody comes
    on.recover()            # an operator clears the fault, and has time to park
    on.write(on._loop.command)
    double.motor(3).mos = 40.0
    cycled = on._loop._cycled
    until(lambda: on._loop._cycled > cycled)
    double.motor(3).mos = 71.0
    until(lambda: "is at 71 degC" in complaint(on))    # hot again: stopped again


def test_an_error_that_does_not_clear_is_refused_by_name_when_armed(double, on, until):
    double.motor(5).fail(Status.OVERLOAD, sticky=True)
    until(lambda: "motor 5" in complaint(on))
    until(lambda: not complaint(on))
    on.recover()
    with pytest.raises(DriverError, match=r"motor 5 \(left_joint_4\) cannot be switched on.*overload"):
        hold_here(on)
    assert others_hold(double, 5, until)
    with pytest.raises(DriverError, match="motor 5"):    # what an operator clears is tried once
        hold_here(on)


def test_a_fault_that_is_heard_between_a_look_and_its_setpoint_is_not_cleared_by_that(double, on, until, monkeypatch):
    """The readings of a turn are in, and what they mean is not known yet: then a setpoint finds a motor off."""
    wanted, begun = on._loop.command, len(double.frames)
    turn, heard, refused = on._loop._exchange.turn, threading.Event(), threading.Event()

    def turn_with_a_fault(*given):
        if heard.is_set():
            return turn(*given)
        double.motor(4).fail(Status.OVERLOAD)
        turn(*given)
        heard.set()
        until(lambda: on._loop._requests or refused.is_set())

    monkeypatch.setattr(on._loop._exchange, "turn", turn_with_a_fault)
    assert heard.wait(120.0)
    on.write(wanted)    # taken as the first one of a ramp to rest, and no more
    refused.set()
    until(lambda: "motor 4 (left_joint_3) reports overload" in complaint(on))
    assert others_hold(double, 4, until)
    assert double.motor(4).status == Status.OVERLOAD and not specials(double, begun)


def test_a_motor_that_fails_in_motion_stays_limp_whatever_is_sent_until_an_operator_clears_it(double, on, until):
    begun, known = len(double.frames), []

    def sway(times):
        """Setpoints that heed no reading, for so many turns."""
        until_frame = len(double.frames) + 7 * times
        while len(double.frames) < until_frame:
            wanted = on._loop.command
            wanted[:-1] += 0.02 * (-1) ** (len(double.frames) // 70)
            try:
                on.write(np.clip(wanted, on._lower, on._upper))
            except DriverError as error:
                known.append(str(error))

    sway(20)
    assert not known
    double.motor(4).fail(Status.OVERLOAD)
    until(lambda: sway(1) or not on._loop.all_on)
    until(lambda: sway(10) or known and "stays limp until clear_fault and arm" in known[-1])
    sway(50)
    assert not specials(double, begun) and double.motor(4).status == Status.OVERLOAD
    assert others_hold(double, 4, until)
    on.recover()
    assert not specials(double, begun)
    hold_here(on)
    assert {number for number, _ in specials(double, begun)} == {4}
    assert all(motor.status == Status.ON for motor in double.motors)


def test_what_the_gripper_holds_it_goes_on_holding_when_another_motor_has_failed(double, on, until, monkeypatch):
    advance = double.plant.advance

    def advance_with_a_cube(torques):    # between the jaws: they stay half open
        advance(torques)
        double.plant._position[6], double.plant._velocity[6] = 3.25, 0.0

    monkeypatch.setattr(double.plant, "advance", advance_with_a_cube)
    closing = on._loop.command
    closing[-1] = 0.2
    on.write(closing)
    until(lambda: abs(on._loop.command[-1] - 0.2) < 1e-6)
    until(lambda: double.motor(7).command.pos > 3.25 + 0.03)
    double.motor(4).fail(Status.OVERLOAD)
    until(lambda: "motor 4" in complaint(on))
    held = on.held()
    assert np.isnan(held[3]) and held[-1] == pytest.approx(0.2) and np.isfinite(np.delete(held, 3)).all()
    until(lambda: not complaint(on))
    on.stop()
    assert on.held()[-1] == pytest.approx(0.2)
    on.recover()
    begun = len(double.frames)
    on._loop.switch_on()
    assert on._loop.command[-1] == pytest.approx(0.2) and on.held()[-1] == pytest.approx(0.2)
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 70)
    sent = [data for number, data in double.frames[begun:] if number == 7 and data[:7] != b"\xff" * 7]
    told = [double.motor(7).meant(data).pos for data in sent]
    assert told and min(told) > 3.25 + 0.03    # closed is 6.5: it squeezes within the vendor's limit
    assert on.read().positions[-1] == pytest.approx(0.5, abs=0.01)


def test_what_let_go_with_the_adapter_gone_stays_off_until_an_operator_clears_it(double, on, until):
    double.adapter.unplug()
    until(lambda: "adapter" in complaint(on))
    double.pass_time(1.2)
    double.adapter.plug()
    until(lambda: not complaint(on))
    begun = len(double.frames)
    with pytest.raises(DriverError, match="stays limp until clear_fault and arm"):
        hold_here(on)
    assert not specials(double, begun)


def test_a_motor_whose_cable_comes_off_is_named_and_the_others_hold(double, on, until):
    double.motor(6).plugged = False
    until(lambda: "motor 6 (left_joint_5) does not answer any more; the others hold" in complaint(on))
    assert others_hold(double, 6, until)
    double.motor(6).plugged = True
    switch_on_again(on, until)
    assert double.motor(6).status == Status.ON


def test_power_that_goes_is_named_and_comes_back_off(double, on, until):
    double.power(False)
    until(lambda: "no motor on" in complaint(on) and "E-stop" in complaint(on))
    double.power(True)
    until(lambda: not complaint(on))
    assert all(motor.status == Status.OFF for motor in double.motors)
    switch_on_again(on, until)
    assert all(motor.status == Status.ON for motor in double.motors)


def test_after_a_loss_of_power_motors_are_believed_only_when_their_turns_were_looked_at_anew(double, on, until):
    """The gripper goes more than a turn: it comes back a whole one off, and an open command would close it."""
    double.power(False)
    double.place([0, 0, 0, 0, 0, 0, 5.2])    # nearly closed
    until(lambda: complaint(on))
    double.power(True)
    assert double.motor(7).turns != 0.0
    seen = []

    def believed():
        try:
            seen.append(on.read().positions[-1])
        except DriverError:
            return False
        return True

    until(believed)
    assert seen == [pytest.approx(0.2, abs=0.05)]
    on.recover()
    hold_here(on)
    opening = on._loop.command
    opening[-1] = 1.0
    on.write(opening)
    until(lambda: abs(double.positions()[6] - 5.2) > 0.5)
    assert double.positions()[6] < 5.2


def test_a_motor_that_came_back_otherwise_than_it_was_saved_is_named_and_the_others_hold(
    double, on, until, monkeypatch
):
    monkeypatch.setattr("yam_driver.loop.RAMP", 0.0)
    double.motor(4).saved[22] = 10.0    # VMAX: what commands mean
    double.motor(4).power_cycle()
    until(lambda: "motor 4 (left_joint_3) has VMAX 10, expected 30" in complaint(on))
    assert others_hold(double, 4, until)
    with pytest.raises(DriverError, match="VMAX"):
        on.write(on._loop.command)
    double.motor(4).registers[22] = 30.0
    switch_on_again(on, until)


def test_all_motors_are_checked_as_at_connect_when_their_power_returns(double, on, until):
    double.motor(2).saved[9] = 0
    double.power(False)
    until(lambda: "no motor on" in complaint(on))
    double.power(True)
    until(lambda: "motor 2 (left_joint_1) has its command timeout switched off" in complaint(on))
    assert all(motor.status == Status.OFF for motor in double.motors)


@pytest.mark.parametrize(("share", "turns"), [(0.01, -1), (0.99, 0)])
def test_a_gripper_that_may_be_open_or_closed_is_taken_to_be_where_it_was_and_that_is_said(
    double, driver, until, caplog, share, turns
):
    double.place([0, 0, 0, 0, 0, 0, 6.5 * (1 - share)])
    until(lambda: abs(driver.read().positions[-1] - share) < 1e-3)
    double.power(False)
    until(lambda: complaint(driver))
    with caplog.at_level(logging.WARNING, "yam_driver"):
        double.power(True)
        until(lambda: not complaint(driver))
    assert double.motor(7).turns == pytest.approx(turns * 6.2832, abs=1e-3)
    assert driver.read().positions[-1] == pytest.approx(share, abs=1e-3)
    assert "look at it before you arm" in caplog.text


def test_a_motor_that_is_cut_off_costs_the_others_no_more_than_one_question_a_turn(double, on, until):
    begun = len(double.frames)
    double.motor(6).plugged = False
    until(lambda: "motor 6" in complaint(on))
    asked = [number for number, data in double.frames[begun:] if number != 0x7FF]
    assert asked.count(6) >= 3 and all(pair != (6, 6) for pair in zip(asked, asked[1:], strict=False))


def test_motors_with_the_shortest_timeout_that_is_accepted_hold_though_all_but_one_are_cut_off(tmp_path, make, until):
    """In bus time: a question without an answer takes as long as the loop waits for one on a real bus."""
    arm = DoubleArm(tmp_path / "short", start=(0, 0, 0, 0, 0, 0, 3.25), real_time=False)
    try:
        for motor in arm.motors:
            motor.registers[9] = motor.saved[9] = SHORTEST
        driver = make(arm)
        driver.connect()
        hold_here(driver)
        arm.unanswered = REPLY
        for motor in arm.motors[1:]:
            motor.plugged = False
        until(lambda: "motor 2 (left_joint_1), 3" in complaint(driver))
        count = len(arm.frames)
        until(lambda: len(arm.frames) > count + 14)
        assert arm.motor(1).status == Status.ON
    finally:
        arm.close()


def test_an_arm_for_which_no_command_can_be_made_is_held_as_it_was_and_that_is_a_fault(double, on, until, monkeypatch):
    until(lambda: all(motor.command.kp > 0 for motor in double.motors))
    before = [motor.command.pos for motor in double.motors]

    def refuse():
        raise RuntimeError("too large torques")

    monkeypatch.setattr("yam_driver.loop.RAMP", 3600.0)
    monkeypatch.setattr(on._loop.robot, "update", refuse)
    until(lambda: "no command can be made (too large torques)" in complaint(on))
    commanded = on._loop.command
    on.write(commanded + np.array([0.1, 0, 0, 0, 0, 0, 0]))    # of a ramp; a leap when commands can be made again
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 140)
    assert all(motor.status == Status.ON for motor in double.motors)
    assert [motor.command.pos for motor in double.motors] == pytest.approx(before, abs=0.01)
    assert on._loop.command == pytest.approx(commanded)
    monkeypatch.undo()
    until(lambda: not complaint(on))
    on.write(on._loop.command)


def test_an_arm_that_cannot_be_carried_as_it_lies_is_not_switched_on(double, driver, monkeypatch):
    def refuse():
        raise RuntimeError("too large torques")

    monkeypatch.setattr(driver._loop.robot, "update", refuse)
    with pytest.raises(DriverError, match="cannot be carried as it lies"):
        hold_here(driver)
    assert all(motor.status == Status.OFF for motor in double.motors)


def test_readings_are_new_or_an_error_never_frozen(double, on, until, monkeypatch):
    stamps = set()
    until(lambda: stamps.add(on.read().stamp_ns) or len(stamps) > 5)
    on._loop._ending.set()      # as if its thread had ended
    on._loop._thread.join()
    monkeypatch.setattr("yam_driver.loop.OLD", 0.15)
    until(lambda: "have not been heard" in complaint(on))


def test_a_motor_that_reads_otherwise_when_it_is_on_is_switched_off_again(double, driver):
    double.motor(3).jump = 0.5
    with pytest.raises(DriverError, match=r"motor 3 \(left_joint_2\) read .* rad off and .* on"):
        hold_here(driver)
    assert all(motor.status == Status.OFF for motor in double.motors)


def test_a_fault_while_guided_holds_the_arm_where_it_is(double, on, until):
    on.guide()
    until(lambda: double.motor(1).command.kp == 0)
    double.motor(7).fail(Status.OVERLOAD)
    until(lambda: "motor 7 (left_gripper)" in complaint(on))
    until(lambda: double.motor(1).command.kp > 0)


def test_the_driver_never_switches_a_command_timeout_off(on):
    with pytest.raises(ValueError):
        on._loop._bus.write_timeout(1, 0)
