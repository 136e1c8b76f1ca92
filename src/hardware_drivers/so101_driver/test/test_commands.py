# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 calibrate so101` with a scripted person at the terminal, and the other commands, against the double."""

import argparse

import numpy as np
import pytest

from molmoact2_contract.cli import main
from so101_driver import tools
from so101_driver.calibrate import Stopped
from so101_driver.calibration import MOTORS, CalibrationError, load_calibration
from so101_driver.double.plants import LOWER, UPPER
from so101_driver.identify import ArmError
from so101_driver.registers import (
    GOAL_POSITION,
    HOMING_OFFSET,
    ID,
    MAX_POSITION,
    MIN_POSITION,
    OVERLOAD,
    P_GAIN,
    PHASE,
    TORQUE_ENABLE,
)


class Person:
    """Does what the terminal asks for: the middle pose, then the sweep. middle: rad, (6,); sweeps: poses in turn."""

    def __init__(self, plant, middle, sweeps):
        self._plant, self._middle, self._sweeps = plant, middle, list(sweeps)
        self.said = []

    def _place(self, pose):
        for index, angle in enumerate(pose):
            self._plant.push(index, angle)

    def say(self, text):
        self.said.append(text)

    def ask(self, text):
        self.said.append(text)
        self._place(self._middle)

    def entered(self, text):
        if not self._sweeps:
            return True
        self._place(self._sweeps.pop(0))
        return False


class Leaves(Person):
    """Presses Ctrl-C in the sweep."""

    def entered(self, text):
        raise Stopped


class LeavesAtOnce(Person):
    """Presses Ctrl-C at the first question."""

    def ask(self, text):
        raise Stopped


def between(a, b):
    """A slow hand's way."""
    return [a + (b - a) * share for share in np.linspace(0, 1, 9)]


MIDDLE = (LOWER + UPPER) / 2
SWEEP = [*between(MIDDLE, LOWER), *between(LOWER, UPPER)]


def arguments(rig, tmp_path, **changes):
    given = {
        "port": rig.link, "baud": 1_000_000, "name": "", "out": str(tmp_path / "new.json"), "replace": False,
        "write": False, "contract": str(rig.contract.path), **changes,
    }
    return argparse.Namespace(**given)


def memory(rig):
    return [[servo.value(r) for r in (HOMING_OFFSET, MIN_POSITION, MAX_POSITION)] for servo in rig.bus.servos]


def test_a_calibration_goes_into_the_file_and_into_the_servos_and_the_arm_then_connects(rig, tmp_path):
    person = Person(rig.plant, MIDDLE, SWEEP)
    assert tools.calibrate(arguments(rig, tmp_path), person) == 0
    made = load_calibration(str(tmp_path / "new.json"))
    assert memory(rig) == [[m.homing_offset, m.range_min, m.range_max] for m in made.values()]
    assert made["wrist_roll"].range_min == 0 and made["wrist_roll"].range_max == 4095
    driver = rig.new_driver(calibration=made)
    driver.connect()
    rig.plant.push(0, 0.3)
    assert driver.read().positions[0] == pytest.approx(0.3, abs=0.003)
    driver.close()


def test_ctrl_c_leaves_the_servos_as_they_were_and_no_file(rig, tmp_path):
    before = memory(rig)

    person = Leaves(rig.plant, MIDDLE, [])
    with pytest.raises(Stopped):
        tools.calibrate(arguments(rig, tmp_path), person)
    assert memory(rig) == before and not (tmp_path / "new.json").exists()
    assert "that they had" in person.said[-1] and "The arm is limp" in person.said[-1]


def test_ctrl_c_gives_a_servo_back_the_setting_that_a_calibration_clears(rig, tmp_path):
    rig.bus.servo(3).burn(PHASE, 0x1C)
    person = Leaves(rig.plant, MIDDLE, [])
    with pytest.raises(Stopped):
        tools.calibrate(arguments(rig, tmp_path), person)
    assert PHASE.within(rig.bus.servo(3).read(0, PHASE.end), 0) == 0x1C


def test_ctrl_c_before_the_arm_is_limp_leaves_it_holding_and_says_that_nothing_was_changed(armed, tmp_path):
    armed.driver.close()
    person = LeavesAtOnce(armed.plant, MIDDLE, [])
    with pytest.raises(Stopped):
        tools.calibrate(arguments(armed, tmp_path), person)
    assert person.said[-1].strip() == "Nothing was changed." and all(armed.torques)


def test_servos_that_do_not_get_back_what_they_had_are_an_error_that_says_so(rig, tmp_path):
    class Unplugs(Person):
        def entered(self, text):
            rig.spoil("silent 2")
            raise Stopped

    with pytest.raises(ArmError, match="did not get back what they had.*the arm is limp"):
        tools.calibrate(arguments(rig, tmp_path), Unplugs(rig.plant, MIDDLE, []))


@pytest.mark.parametrize(("command", "said"), [
    (["set-id", "--id", "3"], "may have its new id"), (["release", "--limp"], "some servos may be off"),
    (["state"], "nothing was changed"),
])
def test_ctrl_c_in_a_command_says_how_it_leaves_the_servos(command, said, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tools, "open_bus", interrupted)
    assert main(["so101", *command, "--port", "/dev/nothing"]) == 130
    error = capsys.readouterr().err
    assert said in error and ("nothing was changed" in error) == (command == ["state"])


def test_a_joint_that_was_not_swept_is_named_and_nothing_is_changed(rig, tmp_path):
    before, still = memory(rig), [pose.copy() for pose in SWEEP]
    for pose in still:
        pose[2] = MIDDLE[2]
    with pytest.raises(ArmError, match="elbow_flex hardly moved"):
        tools.calibrate(arguments(rig, tmp_path), Person(rig.plant, MIDDLE, still))
    assert memory(rig) == before and not (tmp_path / "new.json").exists()


def test_an_arm_that_reaches_less_than_the_contract_is_told_what_to_write_there(rig, tmp_path):
    person = Person(rig.plant, MIDDLE, [0.95 * pose for pose in SWEEP])
    assert tools.calibrate(arguments(rig, tmp_path), person) == 0
    assert "elbow_flex: {position: [-1.6" in person.said[-1]


def test_an_arm_that_holds_is_made_limp_only_after_a_word(armed, tmp_path):
    armed.driver.close()
    person = Person(armed.plant, MIDDLE, SWEEP)
    tools.calibrate(arguments(armed, tmp_path), person)
    assert "it will fall" in person.said[0] and not any(armed.torques)


def test_a_file_is_not_replaced_by_itself(rig, tmp_path):
    (tmp_path / "new.json").write_text("{}")
    with pytest.raises(CalibrationError, match="--replace"):
        tools.calibrate(arguments(rig, tmp_path), Person(rig.plant, MIDDLE, SWEEP))


def test_a_file_is_written_back_into_servos_that_lost_it(rig, tmp_path):
    tools.calibrate(arguments(rig, tmp_path), Person(rig.plant, MIDDLE, SWEEP))
    made = memory(rig)
    rig.bus.servo(2).burn(HOMING_OFFSET, 0)
    tools.calibrate(arguments(rig, tmp_path, write=True), Person(rig.plant, MIDDLE, []))
    assert memory(rig) == made


def test_the_state_of_an_arm_is_printed(rig, capsys):
    assert main(["so101", "state", "--port", rig.link, "--calibration", "double"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in MOTORS) and "-0.900" in printed


def test_release_is_refused_away_from_rest_and_done_at_it(armed, capsys):
    rest = armed.contract.values("rest", MOTORS)
    armed.driver.close()
    contract = str(armed.contract.path)
    release = ["so101", "release", "--port", armed.link, "--calibration", "double", "--contract", contract]
    assert main(release) == 1
    assert "park it first" in capsys.readouterr().err and all(armed.torques)
    armed.driver.connect()
    armed.driver.write(armed.driver.read().positions)
    armed.go(rest)
    armed.driver.close()
    assert main(release) == 0
    assert not any(armed.torques)


def test_an_arm_that_reaches_less_than_the_contract_allows_is_released_all_the_same(rig, tmp_path):
    file, reach = str(tmp_path / "new.json"), [0.97 * pose for pose in SWEEP]
    tools.calibrate(arguments(rig, tmp_path), Person(rig.plant, MIDDLE, reach))
    for index, angle in enumerate(0.97 * rig.contract.values("rest", MOTORS)):
        rig.plant.push(index, angle)
    for name, servo in zip(MOTORS, rig.bus.servos, strict=True):
        servo.write(GOAL_POSITION.address, GOAL_POSITION.encode(rig.present(name)))
        servo.write(TORQUE_ENABLE.address, bytes([1]))
    assert main(["so101", "release", "--port", rig.link, "--calibration", file]) == 0
    assert not any(rig.torques)


def test_an_arm_that_another_program_has_set_otherwise_is_released_and_its_settings_are_let_be(armed):
    armed.go(armed.contract.values("rest", MOTORS))
    armed.driver.close()
    armed.bus.servo(2).burn(P_GAIN, 32)
    assert main(["so101", "release", "--port", armed.link, "--calibration", "double"]) == 0
    assert not any(armed.torques) and armed.bus.servo(2).value(P_GAIN) == 32


def test_release_limp_is_for_an_arm_in_a_hand(armed):
    armed.driver.close()
    assert main(["so101", "release", "--port", armed.link, "--limp"]) == 0
    assert not any(armed.torques)


def test_release_limp_switches_off_all_that_hear_it_and_says_who_does_not_answer(armed, capsys):
    armed.driver.close()
    armed.spoil("silent 1")
    assert main(["so101", "release", "--port", armed.link, "--limp"]) == 1
    assert "shoulder_pan did not answer, and may be on" in capsys.readouterr().err
    assert armed.torques == [True] + [False] * 5


def test_a_hot_arm_at_rest_is_released_and_one_with_an_overloaded_servo_too(armed):
    armed.go(armed.contract.values("rest", MOTORS))
    armed.driver.close()
    armed.spoil("heat 2 68")
    armed.bus.servo(4).error = OVERLOAD
    contract = str(armed.contract.path)
    release = ["so101", "release", "--port", armed.link, "--calibration", "double", "--contract", contract]
    assert main(release) == 0
    assert not any(armed.torques)


def test_two_new_servos_with_one_id_are_not_renamed_together(rig, capsys):
    rig.bus.servos[:] = [rig.bus.servo(1), rig.bus.servo(1).twin()]
    assert main(["so101", "set-id", "--port", rig.link, "--id", "3"]) == 1
    assert "two servos have the same id" in capsys.readouterr().err
    assert [servo.value(ID) for servo in rig.bus.servos] == [1, 1]


def test_a_new_servo_gets_its_id_only_while_it_is_alone(rig, capsys):
    assert main(["so101", "set-id", "--port", rig.link, "--id", "3"]) == 1
    assert "exactly one servo" in capsys.readouterr().err
    rig.bus.servos[:] = rig.bus.servos[:1]
    assert main(["so101", "set-id", "--port", rig.link, "--id", "3"]) == 0
    assert rig.bus.servos[0].value(ID) == 3
    rig.spoil("power_off")
    rig.spoil("power_on")
    assert rig.bus.servos[0].value(ID) == 3


def test_a_port_that_is_not_there_is_bad_input(rig, capsys):
    assert main(["so101", "state", "--port", "/dev/nothing"]) == 2
    assert "no port /dev/nothing" in capsys.readouterr().err
