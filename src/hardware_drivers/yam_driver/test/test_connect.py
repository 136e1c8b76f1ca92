# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""At connect everything is looked at, what does not fit is named with its mend, and nothing moves."""

import logging
import math
import os
import pty

import pytest

from arm_controller.driver import DriverError
from arm_controller.health import Level, level
from molmoact2_contract import load_contract
from yam_driver.channel import Lock, interface_error, parse_channel
from yam_driver.double import Motor, Status
from yam_driver.double.arm import GRIPPER_LIMITS
from yam_driver.driver import create


def refusal(driver) -> str:
    with pytest.raises(DriverError) as raised:
        driver.connect()
    return str(raised.value)


def untouched(double) -> bool:
    """Nobody was enabled, told to move, or written to."""
    quiet = all(motor.enabled_times == 0 and motor.command.kp == 0 for motor in double.motors)
    writes = [data for number, data in double.frames if number == 0x7FF and data[2] in (0x55, 0xAA)]
    return quiet and not writes and double.positions()[:6] == [0.0] * 6


def test_connecting_enables_nothing_writes_nothing_and_reads_the_arm(double, make):
    driver = make(double)
    driver.connect()
    assert driver.read().positions == pytest.approx([0, 0, 0, 0, 0, 0, 0.5], abs=1e-3)
    assert untouched(double)


def test_a_motor_that_does_not_answer_is_named_and_nothing_moves(double, make):
    double.motor(4).plugged = False
    said = refusal(make(double))
    assert "motor 4 (left_joint_3) does not answer" in said and "1, 2, 3, 5, 6, 7 do" in said and "cable" in said
    assert untouched(double)


def test_a_motor_with_another_id_is_found_there(double, make):
    double.motor(4).registers[8] = 9
    said = refusal(make(double))
    assert "motor 4 (left_joint_3) does not answer" in said and "id 9 answers and belongs to no joint" in said


def test_an_arm_without_power_is_named(double, make):
    double.power(False)
    said = refusal(make(double))
    assert "no motor answers" in said and "E-stop" in said


def test_two_motors_with_one_id_are_named_and_nothing_moves(double, make):
    twin = Motor(5, "DM4310")
    twin.registers[15] = 4711
    double.motors.append(twin)
    assert "answer as id 5" in refusal(make(double))
    assert untouched(double)


def test_a_motor_that_belongs_to_no_joint_is_named(double, make):
    double.motors.append(Motor(8, "DM4310"))
    assert "motor 8 answers" in refusal(make(double))


def test_the_wrong_motor_on_an_id_is_named_with_what_it_is(double, make):
    double.motors[3] = Motor(4, "DM4340")
    said = refusal(make(double))
    assert "motor 4 (left_joint_3) is no DM4310" in said and "DM4340" in said and "arm_type" in said
    assert untouched(double)


def test_the_wrong_arm_type_is_a_wrong_motor(double, make):
    assert "motor 4 (left_joint_3) is no DM4340" in refusal(make(double, arm_type="yam_ultra_2"))


@pytest.mark.parametrize(
    ("register", "value", "name"),
    [(22, 30.0, "VMAX 30, expected 10"), (23, 10.0, "TMAX 10, expected 28"), (10, 2, "CTRL_MODE 2, expected 1")],
)
def test_a_register_that_would_change_what_commands_mean_is_named_and_left_as_it_is(
    double, make, register, value, name
):
    double.motor(2).registers[register] = value
    said = refusal(make(double))
    assert "motor 2 (left_joint_1)" in said and name in said
    assert double.motor(2).registers[register] == value and untouched(double)


def test_a_command_timeout_that_is_off_is_refused_with_the_mend_and_not_changed(double, make):
    double.motor(3).registers[9] = 0
    said = refusal(make(double))
    assert "motor 3 (left_joint_2) has its command timeout switched off" in said and "molmoact2 yam timeout" in said
    assert double.motor(3).registers[9] == 0 and untouched(double)


def test_a_command_timeout_of_ten_seconds_is_refused(double, make):
    double.motor(1).registers[9] = 200_000
    assert "command timeout 200000" in refusal(make(double))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.UNDER_VOLTAGE, "under voltage"),
        (Status.MOS_HOT, "mosfet over temperature"),
        (Status.OVERLOAD, "overload"),
    ],
)
def test_a_motor_in_error_is_named_and_not_cleared(double, make, status, words):
    double.motor(6).fail(status)
    said = refusal(make(double))
    assert "motor 6 (left_joint_5)" in said and words in said
    assert double.motor(6).status == status and untouched(double)


def test_motors_that_let_go_when_an_earlier_process_died_are_no_error(double, make):
    for motor in double.motors:
        motor.fail(Status.COMM_LOSS)
    driver = make(double)
    driver.connect()
    driver.read()


def test_a_joint_outside_its_range_means_a_lost_zero_and_is_refused(double, make):
    double.motor(2).position = -0.8
    double.plant._low[1] = -1.0
    double.place([0, -0.8, 0, 0, 0, 0, 3.25])
    said = refusal(make(double))
    assert "motor 2 (left_joint_1) reads -0.80 rad, outside 0.00 .. 3.67" in said


def test_a_motor_that_was_switched_on_a_whole_turn_off_is_read_right(double, make):
    double.plant._high[0] = 10.0
    double.place([0.5 + 6.283185, 0, 0, 0, 0, 0, 3.25])
    driver = make(double)
    driver.connect()
    assert driver.read().positions[0] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(("shaft", "right"), [(0.22, True), (6.2, False)])
def test_a_gripper_that_may_be_open_or_closed_is_warned_of_at_connect_until_it_was_seen_where_only_that_fits(
    double, make, until, caplog, shaft, right
):
    double.place([0, 0, 0, 0, 0, 0, shaft])
    double.motor(7).turns = -math.tau * round(shaft / math.tau)    # as after a power-up
    driver = make(double)
    with caplog.at_level(logging.WARNING, "yam_driver"):
        driver.connect()
    assert "motor 7 (left_gripper) reads" in caplog.text and "(closed)" in caplog.text
    assert "rad (open); look at it before you arm" in caplog.text and "half open by hand" in caplog.text

    def in_doubt():
        reading = {reading.name: reading for reading in driver.health()}["left_gripper possible turns"]
        return level(reading) == Level.WARN

    assert in_doubt()
    between = driver.read().positions[6]
    double.place([0, 0, 0, 0, 0, 0, 3.25])    # by hand
    until(lambda: abs(driver.read().positions[6] - between) > 0.3)
    assert in_doubt() != right


def test_a_gripper_between_its_ends_is_not_warned_of(double, make, caplog):
    with caplog.at_level(logging.WARNING, "yam_driver"):
        make(double).connect()
    # The vendor's library warns by itself, of motors that answered while they were off.
    assert not [record.message for record in caplog.records if record.name.startswith("yam_driver")]


# --- the bus ----------------------------------------------------------------------------------------------------------
def test_a_second_process_on_the_bus_is_refused_and_the_first_goes_on(double, driver, make):
    assert "in use by another process" in refusal(make(double))
    driver.read()


def test_two_names_of_one_device_are_one_bus(double, driver, make):
    real = os.path.realpath(double.adapter.link)
    assert "in use by another process" in refusal(make(double, channel=f"slcan:{real}"))


def test_an_interface_is_locked_too_and_free_again_when_its_holder_is_gone():
    first = Lock(parse_channel("can0"))
    with pytest.raises(DriverError, match="can0 is in use by another process"):
        Lock(parse_channel("can0"))
    first.release()
    Lock(parse_channel("can0")).release()


def test_another_program_that_drives_motors_is_heard_before_anything_is_sent(double, make, until):
    from threading import Event, Thread

    done = Event()

    def talk():
        while not done.wait(0.01):
            double.adapter.say((0x12, bytes(8)))

    Thread(target=talk).start()
    try:
        said = refusal(make(double))
    finally:
        done.set()
    assert "another program is driving motors" in said and "0x012" in said
    assert double.frames == []


def test_an_adapter_that_is_not_there_is_named(tmp_path, double, make):
    said = refusal(make(double, channel=f"slcan:{tmp_path}/ttyACM7"))
    assert "no CAN adapter" in said and "ttyACM7" in said


def test_a_port_without_permission_is_named_with_the_mend(double, make, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("yam_driver.channel.os.open", refuse)
    assert "usermod -aG dialout" in refusal(make(double))


def test_another_device_than_an_adapter_is_told_from_an_arm_without_power(double, make):
    double.adapter.mute = True
    assert "answers as a LAWICEL (slcan) adapter" in refusal(make(double))


def test_bus_off_is_named(double, make):
    double.adapter.bus_off = True
    said = refusal(make(double))
    assert "bus off" in said and "termination" in said


def test_an_interface_that_is_not_there_is_named_with_those_that_are(contract):
    driver = create(contract, contract.arm("left"), {"channel": "can97", "gripper_limits": GRIPPER_LIMITS})
    assert "no CAN interface 'can97'; there are:" in refusal(driver)


def link(state="ERROR-ACTIVE", rate=1_000_000, up=True, kind="can"):
    data = {"state": state, "bittiming": {"bitrate": rate}}
    return [{"flags": ["NOARP", "UP"] if up else ["NOARP"], "linkinfo": {"info_kind": kind, "info_data": data}}]


@pytest.mark.parametrize(
    ("links", "named"),
    [
        (link(up=False), "is down; bring it up: sudo ip link set can0"),
        (link(rate=500_000), "runs at 500000 bit/s"),
        (link(state="BUS-OFF"), "BUS-OFF"),
        (link(kind="bridge"), "is no CAN interface"),
        ([], "is no CAN interface"),
    ],
)
def test_what_is_wrong_with_an_interface_is_named(links, named):
    assert named in interface_error(links, "can0")


def test_a_sound_interface_has_no_error():
    assert interface_error(link(), "can0") == ""


# --- options ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "needs option channel"),
        ({"channel": "/dev/ttyACM0"}, "slcan:/dev/ttyACM0"),
        ({"channel": "can0", "arm_type": "yam2"}, "yam_ultra"),
        ({"channel": "can0", "gripper": "hand"}, "linear_4310"),
        ({"channel": "can0", "gripper_limits": "1"}, "two numbers"),
        ({"channel": "can0", "gripper_limits": "1,1.1"}, "spans 0.10 rad"),
        ({"channel": "can0"}, "molmoact2 yam gripper --channel can0 --move"),
        ({"channel": "can0", "bitrate": "1"}, "has no option bitrate"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_expected(contract, options, named):
    with pytest.raises(DriverError) as raised:
        driver = create(contract, contract.arm("left"), options)
        driver.connect()
    assert named in str(raised.value)


def test_a_contract_of_another_robot_is_refused(contract):
    so101 = load_contract(contract.path.parent / "so101.yaml")
    with pytest.raises(DriverError, match="a YAM has 6 and then its gripper"):
        create(so101, so101.arm("arm"), {"channel": "can0", "gripper_limits": GRIPPER_LIMITS})


def test_a_contract_with_the_vendors_widened_limits_is_refused_and_the_suites_own_is_taken(contract, tmp_path):
    options = {"channel": "can0", "gripper_limits": GRIPPER_LIMITS}
    own = load_contract(contract.path.parent / "yam_single.yaml")
    create(own, own.arm("arm"), options)
    text = own.path.read_text()
    assert "position: [-1.693, 1.5708]" in text
    (tmp_path / "wide.yaml").write_text(text.replace("position: [-1.693, 1.5708]", "position: [-1.72, 1.7208]"))
    wide = load_contract(tmp_path / "wide.yaml")
    with pytest.raises(DriverError, match=r"lets 'joint_3' go -1.72 .. 1.7208, .* 1.571: more than 0.05 rad beyond it"):
        create(wide, wide.arm("arm"), options)


def test_what_is_no_adapter_at_all_is_refused(double, make):
    master, slave = pty.openpty()
    try:
        assert "LAWICEL" in refusal(make(double, channel=f"slcan:{os.ttyname(slave)}"))
    finally:
        os.close(master)
        os.close(slave)
