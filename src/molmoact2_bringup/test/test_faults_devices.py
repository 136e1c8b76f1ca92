# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of devices: the table by itself, and every row of each driver in the running system of its double."""

import os

import pytest
from fault_table import names_of_passed

from franka_driver.double.robot_server import ERRORS
from franka_driver.double.server import Double
from molmoact2_bringup.faults.campaign import of_devices
from molmoact2_bringup.faults.command import SYSTEMS, faults
from molmoact2_bringup.faults.control_rows import ControlRows
from molmoact2_bringup.faults.devices import FAULTS, GONE, SOUND, double_of, driver_of, faults_of
from molmoact2_bringup.faults.policy_rows import PolicyRows
from molmoact2_contract import ContractError, load_system
from so101_driver.double.bus import BusDouble
from so101_driver.double.plants import PointPlant
from so101_driver.double.servo import ServoDouble
from yam_driver.double import DoubleArm
from yam_driver.double.command import obey

DOMAINS = {"so101_double": 79, "yam_single_double": 80, "franka_droid_double": 112}


def lines(driver):
    return [line for fault in FAULTS[driver] for line in (*fault.spoil, *fault.mend)]


def test_the_so101s_double_knows_every_line():
    plant = PointPlant()
    bus = BusDouble([ServoDouble(number + 1, number, plant) for number in range(6)])
    for line in lines("so101"):
        if line not in ("unplug", "replug"):    # of the port
            bus.spoil(line)


def test_the_yams_double_knows_every_line(tmp_path):
    arm = DoubleArm(tmp_path / "can", real_time=False)
    try:
        for line in lines("yam"):
            obey(arm, line)
    finally:
        arm.close()


def test_the_frankas_double_knows_every_line():
    for line in lines("franka"):
        verb, *words = line.split()
        assert callable(getattr(Double, f"_{verb}"))
        assert verb != "reflex" or words[0] in ERRORS


# Of each driver, the rows without which a kind of fault would be missing.
NEEDED = {
    "so101": {
        "answers that do not come": ("single answers are lost", "a servo is silent", "every answer is late"),
        "corrupt answers": ("single answers are corrupt", "every answer is corrupt"),
        "unplugged and plugged in": ("the cable is pulled and plugged in",),
        "a motor": ("a servo is overloaded", "a servo is hot", "a servo overheats", "the power of one servo dips"),
        "the power": ("the power fails", "the supply sags"),
    },
    "yam": {
        "answers that do not come": ("single answers are lost", "every answer is lost", "the bus is off"),
        "corrupt answers": ("single answers are corrupt", "every answer is corrupt"),
        "unplugged and plugged in": ("the adapter is pulled and plugged in", "a motor's cable comes off"),
        "a motor": ("a motor is overloaded", "a motor is hot", "a motor overheats"),
        "the power": ("the power fails",),
    },
    "franka": {
        "states that do not come": ("the robot is silent", "states repeat themselves", "the hand is silent"),
        "commands that do not arrive": ("commands are lost", "commands come late"),
        "unplugged": ("the connection is cut",),
        "reflexes": ("a joint meets resistance", "the hand meets resistance", "the joints need too much power"),
        "stopped by a person": ("the user stop is pressed", "the brakes close"),
        "the power": ("the power fails",),
    },
}


def test_faults_of_every_kind_that_a_bus_has_are_in_the_table():
    assert set(FAULTS) == set(NEEDED)
    for driver, table in FAULTS.items():
        by_name = {fault.name: fault for fault in table}
        assert len(by_name) == len(table)
        for kind, names in NEEDED[driver].items():
            assert set(names) <= set(by_name), f"{driver}: {kind}"
        assert by_name["the power fails"].mend, "it comes back"


def test_single_faults_are_chosen_by_their_names_and_another_name_is_refused_with_those_there_are(tmp_path, capsys):
    system = load_system("yam_single_double")
    assert faults_of(system) == FAULTS["yam"]
    assert [fault.name for fault in faults_of(system, ["the power fails", "a motor is hot"])] == [
        "a motor is hot", "the power fails",
    ]
    assert faults(["yam_single_double"], tmp_path, only=["the power"]) == 2
    assert "no fault of its devices is called 'the power'; there are: a motor has" in capsys.readouterr().err
    assert faults(["so101_sim"], tmp_path, only=["the power fails"]) == 2
    assert "its devices are no doubles" in capsys.readouterr().err


def test_all_campaigns_together_have_at_least_sixty_rows():
    simulated = [*ControlRows(None, None, None).rows(), *PolicyRows(None, None, "front", "wrist").rows()]
    assert len(simulated) + sum(map(len, FAULTS.values())) >= 60


def test_where_setpoints_reach_a_device_in_time_the_arm_has_to_be_brought_to_rest_within_its_limits():
    for driver, table in FAULTS.items():
        named = [fault for fault in table if fault.named]
        assert any(fault.bus == SOUND and not fault.falls for fault in named), driver
        assert all(fault.bus != GONE for fault in table if not fault.named)


def test_a_world_that_only_shows_doubles_is_left_out_and_one_that_they_live_in_is_not():
    left = of_devices(load_system("franka_droid_double"))
    assert {process.name for process in left.processes} == {"double", "arm_controller"}
    assert left.process("double").parameters["mirror"] is False
    assert {process.name for process in of_devices(load_system("so101_double")).processes} >= {"world", "double"}


def test_each_arm_of_a_system_of_doubles_has_one():
    for name in (*SYSTEMS[1:], "yam_bimanual_double"):
        system = load_system(name)
        assert driver_of(system) in FAULTS
        found = {double_of(system, arm).name for arm in system.contract.arms}
        assert len(found) == len(system.contract.arms)
    with pytest.raises(ContractError, match="no process is the double of arm 'arm'"):
        double_of(load_system("so101_sim"), "arm")


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.long
def test_a_fault_of_a_device_is_named_and_latched_stops_every_arm_and_moves_nothing_until_an_operator_says_so(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAINS[name]))
    assert faults([name], tmp_path) == 0, capsys.readouterr().out + (tmp_path / "log.txt").read_text()
    rows = names_of_passed((tmp_path / "faults.md").read_text())
    system = load_system(name)
    assert len(rows) == len(FAULTS[driver_of(system)]) + len(system.contract.arms)    # other arms', and the recording


# Two YAM drivers at 250 Hz and their doubles take more than one core; beside them two cores tell arms' states too late.
@pytest.mark.skipif((os.cpu_count() or 1) < 4, reason="two arms with their doubles need four cores")
@pytest.mark.long
def test_a_fault_of_one_of_two_arms_stops_both_whichever_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROS_DOMAIN_ID", "144")
    chosen = ["a motor is hot", "a motor overheats"]    # one in which it holds, one in which it falls
    code = faults(["yam_bimanual_double"], tmp_path, only=chosen)
    assert code == 0, capsys.readouterr().out + (tmp_path / "log.txt").read_text()
    rows = [row.split("|")[1].strip() for row in (tmp_path / "faults.md").read_text().splitlines()[2:]]
    assert rows == [
        *(f"yam_bimanual_double, left: {fault}" for fault in chosen),
        f"yam_bimanual_double, right: {chosen[0]}",
        "the recording of the rows above (yam_bimanual_double)",
    ]
