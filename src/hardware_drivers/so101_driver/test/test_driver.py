# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The driver against the double of its bus: what it does when all is well, and what stopping means."""

import logging

import numpy as np
import pytest
from arm_rig import Rig, refusal, until

from arm_controller.driver import DriverError, make_driver
from so101_driver import protocol
from so101_driver.calibration import MOTORS, RADIANS_PER_COUNT
from so101_driver.double.plants import START
from so101_driver.registers import (
    ACCELERATION,
    D_GAIN,
    GOAL_POSITION,
    GOAL_VELOCITY,
    I_GAIN,
    MAX_TORQUE,
    P_GAIN,
    RETURN_DELAY,
    TORQUE_ENABLE,
    TORQUE_LIMIT,
)

HERE = np.array([*START[:5], (0.4 + 0.174533) / (1.74533 + 0.174533)])
RESOLUTION = RADIANS_PER_COUNT


def test_connecting_reads_and_sets_but_moves_nothing_and_switches_nothing_on(rig):
    goals = rig.goals
    rig.driver.connect()
    assert rig.goals == goals
    assert rig.torques == [False] * 6


def test_positions_are_radians_from_the_middle_of_the_range_and_the_gripper_a_share(rig):
    rig.driver.connect()
    assert rig.driver.read().positions == pytest.approx(HERE, abs=RESOLUTION)


def test_an_arm_goes_where_it_is_told_within_a_count(armed):
    goal = np.array([0.5, -0.4, 0.3, 0.8, -0.6, 0.9])
    assert armed.go(goal, near=1.5 * RESOLUTION) == pytest.approx(goal, abs=1.5 * RESOLUTION)


def test_the_first_setpoint_switches_every_servo_on_where_it_is(rig):
    rig.driver.connect()
    before = [rig.present(motor) for motor in MOTORS]
    rig.driver.write(rig.driver.read().positions)
    assert rig.torques == [True] * 6
    assert rig.goals == pytest.approx(before, abs=1)


def test_a_servo_that_another_program_left_on_gets_the_speed_and_the_torque_that_are_ours(rig):
    gripper = rig.bus.servo(6)
    rig.driver.connect()
    rig.driver.close()
    at = rig.present("gripper")
    theirs = {TORQUE_LIMIT: 1000, ACCELERATION: 5, GOAL_VELOCITY: 40, GOAL_POSITION: at, TORQUE_ENABLE: 1}
    for register, value in theirs.items():
        gripper.write(register.address, register.encode(value))
    rig.driver.connect()
    rig.driver.write(rig.driver.read().positions)
    rig.driver.read()
    assert [gripper.value(r) for r in (TORQUE_LIMIT, ACCELERATION, GOAL_VELOCITY)] == [500, 254, 0]
    assert rig.goals[5] == pytest.approx(at, abs=1) and all(rig.torques)


def test_a_first_setpoint_far_from_the_arm_switches_nothing_on(rig):
    rig.driver.connect()
    far = rig.driver.read().positions + np.array([0, 0, 0, 0.3, 0, 0])
    assert "wrist_flex lies 0.30" in refusal(lambda: rig.driver.write(far))
    assert rig.torques == [False] * 6


def test_servos_of_a_killed_program_hold_and_are_taken_over_where_they_are(armed):
    goals = armed.goals
    armed.driver._servos.close()    # as a kill does: the port closes, nothing is said
    later = armed.new_driver()
    later.connect()
    assert armed.torques == [True] * 6 and armed.goals == goals
    later.write(later.read().positions)
    assert armed.torques == [True] * 6
    later.close()


def test_a_goal_outside_the_range_is_refused_and_not_bent_into_it(armed):
    goals = armed.goals
    for joint, beyond in ((0, 2.0), (1, -1.8), (5, 1.05)):
        positions = armed.driver.read().positions
        positions[joint] = beyond
        assert MOTORS[joint] in refusal(lambda positions=positions: armed.driver.write(positions))
    assert armed.goals == goals


@pytest.mark.parametrize("setpoint", [[np.nan] * 6, [np.inf, 0, 0, 0, 0, 0], [0.0] * 5])
def test_a_setpoint_that_is_no_six_numbers_is_refused(armed, setpoint):
    goals = armed.goals
    assert "finite numbers" in refusal(lambda: armed.driver.write(np.array(setpoint)))
    assert armed.goals == goals


def test_stop_holds_where_the_arm_is_and_not_where_it_was_going(armed):
    armed.driver.write(np.array([1.5, -0.9, 0.75, 1.3, 0.0, 0.3]))
    until(lambda: armed.driver.read().positions[0] > 0.1)
    armed.driver.stop()
    at = armed.driver.read().positions
    assert at[0] < 1.4
    assert armed.torques == [True] * 6
    until(lambda: armed.goals == pytest.approx([armed.present(motor) for motor in MOTORS], abs=1))


def test_stopping_an_arm_that_is_limp_does_not_switch_it_on(rig):
    rig.driver.connect()
    rig.driver.stop()
    assert rig.torques == [False] * 6


def test_closing_leaves_the_arm_holding(armed):
    goals = armed.goals
    armed.driver.close()
    assert armed.torques == [True] * 6 and armed.goals == goals


def test_torque_goes_off_only_at_the_rest_pose_or_when_asked_limp(armed):
    assert "park it first" in refusal(armed.driver.release)
    assert armed.torques == [True] * 6
    armed.go(armed.contract.values("rest", MOTORS))
    armed.driver.release()
    assert armed.torques == [False] * 6


def test_a_limp_release_lets_the_arm_fall_wherever_it_is(armed):
    lift, armed.plant.falls = armed.present("shoulder_lift"), True
    armed.driver.release(limp=True)
    until(lambda: armed.present("shoulder_lift") < lift - 50)


def test_a_silent_servo_does_not_keep_the_others_from_being_switched_off_and_is_named(armed):
    armed.spoil("silent 1")
    text = refusal(lambda: armed.driver.release(limp=True))
    assert "shoulder_pan did not answer, and may be on" in text and "power off" in text
    assert armed.torques == [True] + [False] * 5


def test_only_a_driver_whose_port_is_the_double_moves_no_real_arm(rig, contract):
    arm = contract.arm("arm")
    assert not make_driver("so101", contract, arm, ["port=double", "calibration=double"]).real
    assert make_driver("so101", contract, arm, ["port=/dev/ttyACM0", "calibration=double"]).real
    assert rig.driver.real


def test_at_close_an_arm_is_released_at_rest_and_held_elsewhere(contract, tmp_path):
    rig = Rig(contract, str(tmp_path / "bus"), at_close="release")
    rig.driver.connect()
    rig.driver.write(rig.driver.read().positions)
    rig.driver.close()
    assert rig.torques == [True] * 6
    rig.driver.connect()
    rig.driver.write(rig.driver.read().positions)
    rig.go(contract.values("rest", MOTORS))
    rig.driver.close()
    assert rig.torques == [False] * 6
    rig.close()


def test_a_run_that_only_looked_leaves_an_arm_standing_that_another_left_so(contract, tmp_path):
    rig = Rig(contract, str(tmp_path / "bus"))
    rig.driver.connect()
    rig.driver.write(rig.driver.read().positions)
    rig.go(contract.values("rest", MOTORS))
    rig.driver.close()
    later = rig.new_driver(at_close="release")
    later.connect()
    later.read()
    later.stop()    # as a controller in shadow may
    later.close()
    assert rig.torques == [True] * 6
    later.connect()
    later.write(later.read().positions)
    later.close()
    assert rig.torques == [False] * 6
    rig.close()


def test_a_release_at_close_that_is_refused_is_said(contract, tmp_path, caplog):
    rig = Rig(contract, str(tmp_path / "bus"), at_close="release")
    rig.driver.connect()
    rig.driver.write(rig.driver.read().positions)
    with caplog.at_level(logging.WARNING, "so101_driver"):
        rig.driver.close()
    assert "closed with its torque on" in caplog.text and "park it first" in caplog.text
    assert rig.torques == [True] * 6
    rig.close()


def test_settings_are_those_of_a_follower_and_written_once(rig):
    rig.driver.connect()
    for servo in rig.bus.servos:
        assert [servo.value(r) for r in (P_GAIN, I_GAIN, D_GAIN, RETURN_DELAY)] == [16, 0, 32, 0]
    assert rig.bus.servo(6).value(MAX_TORQUE) == 500
    written = rig.bus.eeprom_writes
    rig.driver.close()
    rig.driver.connect()
    assert written > 0 and rig.bus.eeprom_writes == written


def test_settings_outlive_a_loss_of_power(rig):
    rig.driver.connect()
    rig.spoil("power_off")
    rig.spoil("power_on")
    assert [servo.value(P_GAIN) for servo in rig.bus.servos] == [16] * 6
    assert rig.bus.servo(6).value(TORQUE_LIMIT) == 500


def test_servos_that_hold_with_other_gains_are_not_changed_under_the_arm(armed):
    armed.driver.close()
    armed.bus.servo(2).burn(P_GAIN, 32)
    text = refusal(armed.driver.connect)
    assert "servo 2 (shoulder_lift)" in text and "release" in text
    assert armed.bus.servo(2).value(P_GAIN) == 32


def test_an_arm_in_a_hand_gives_way_to_it_stays_where_it_is_left_and_keeps_its_torque(armed):
    armed.driver.guide()
    armed.plant.held.add(0)
    armed.plant.push(0, 0.6)
    armed.driver.read()
    until(lambda: armed.driver.read().positions[0] > 0.5 and armed.goals[0] > armed.present("shoulder_pan") - 80)
    armed.plant.held.clear()
    assert armed.torques == [True] * 6
    armed.driver.stop()
    assert armed.driver.read().positions[0] > 0.4


def test_an_arm_that_is_not_held_is_not_put_into_a_hand(rig):
    rig.driver.connect()
    assert "arm it first" in refusal(rig.driver.guide)


def test_a_contract_that_allows_more_than_the_arm_reaches_is_refused(rig):
    narrow = dict(rig.calibration)
    motor = narrow["elbow_flex"]
    narrow["elbow_flex"] = type(motor)(motor.id, 0, motor.homing_offset, motor.range_min + 60, motor.range_max - 60)
    text = refusal(lambda: rig.new_driver(calibration=narrow))
    assert "'elbow_flex'" in text and "narrow `position`" in text


def test_the_driver_is_found_by_name_and_says_which_options_it_needs(contract):
    arm = contract.arm("arm")
    assert "needs the option port" in refusal(lambda: make_driver("so101", contract, arm, []))
    assert "no option speed" in refusal(lambda: make_driver("so101", contract, arm, ["speed=1"]))
    assert "option baud" in refusal(
        lambda: make_driver("so101", contract, arm, ["port=/dev/null", "calibration=double", "baud=9600"])
    )
    with pytest.raises(DriverError, match="neither a file nor a name"):
        make_driver("so101", contract, arm, ["port=/dev/null", "calibration=nobody"])


def test_every_cycle_is_one_question_for_all_positions_and_one_frame_of_goals(armed):
    positions = armed.driver.read().positions
    armed.bus.instructions.clear()
    armed.driver.write(positions)
    armed.driver.read()
    # And one servo in turn is asked whether it still has its torque.
    assert [code for _, code, _ in armed.bus.instructions] == [protocol.SYNC_WRITE, protocol.SYNC_READ, protocol.READ]
