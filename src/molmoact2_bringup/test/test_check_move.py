# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 check --move`: which joint, how, and what is made of what it did. No ROS here."""

import math
from dataclasses import replace

import numpy as np
import pytest

from molmoact2_bringup.check.line import FAIL, PASS, WARN
from molmoact2_bringup.check.move_plan import AMOUNT, SPEED, NoMove, judge, plan
from molmoact2_contract import load_contract

CONTRACT = load_contract("so101")
ARM = CONTRACT.arm("arm")
HOME = CONTRACT.values("home")


def test_the_last_joint_that_turns_is_moved_and_no_other():
    move = plan(CONTRACT, ARM, HOME)
    assert move.name == "wrist_roll"
    positions = move.at(np.linspace(-1.0, move.lasts + 1.0, 200))
    moved = np.ptp(positions, axis=0)
    assert moved[move.joint] == pytest.approx(AMOUNT, abs=1e-6)
    assert not np.delete(moved, move.joint).any()


def test_it_begins_and_ends_where_the_arm_is_slowly_and_within_the_contract():
    move = plan(CONTRACT, ARM, HOME, "shoulder_pan")
    times = np.linspace(0.0, move.lasts, 4001)
    positions = move.at(times)
    assert np.allclose(positions[0], HOME) and np.allclose(positions[-1], HOME)
    first, last = move.stands
    standing = positions[(times >= first) & (times <= last), move.joint]
    assert np.allclose(standing, HOME[move.joint] + move.amount)
    speed = np.abs(np.diff(positions[:, move.joint]) / np.diff(times))
    assert speed.max() <= SPEED * 1.001
    assert all(not ARM.outside(position) for position in positions[::100])


def test_it_goes_to_the_side_that_has_room():
    near = HOME.copy()
    near[4] = CONTRACT.joints["wrist_roll"].upper - 0.01
    assert plan(CONTRACT, ARM, near).amount == -AMOUNT
    near[4] = CONTRACT.joints["wrist_roll"].lower + 0.01
    assert plan(CONTRACT, ARM, near).amount == AMOUNT


def test_a_joint_without_room_is_passed_over_and_refused_where_it_was_asked_for():
    wrist = CONTRACT.joints["wrist_roll"]
    narrow = replace(CONTRACT, joints=CONTRACT.joints | {"wrist_roll": replace(wrist, lower=-0.05, upper=0.05)})
    assert plan(narrow, ARM, HOME).name == "wrist_flex"
    with pytest.raises(NoMove, match="wrist_roll"):
        plan(narrow, ARM, HOME, "wrist_roll")
    for name in ("gripper", "tentacle"):
        with pytest.raises(NoMove, match=name):
            plan(CONTRACT, ARM, HOME, name)


def test_a_move_out_of_the_workspace_is_not_planned():
    pose = HOME.copy()
    depth = ARM.depths(pose)
    assert not depth.any()
    low = replace(ARM, workspace=replace(ARM.workspace, table=_height(pose) - 1e-4))
    move = plan(CONTRACT, low, pose, "shoulder_lift")
    assert not low.outside(move.at(np.array(move.seconds)))


def _height(pose):
    """Of the gripper's point [m]."""
    return float(ARM.kinematics.points(pose, ["gripper_frame_link"])[0, 2])


def test_a_person_is_told_what_to_see():
    pan, roll = plan(CONTRACT, ARM, HOME, "shoulder_pan"), plan(CONTRACT, ARM, HOME, "wrist_roll")
    assert "mm along -y of base_link" in pan.looks() and pan.amount > 0
    assert "must turn" in roll.looks() and "of base_link" in roll.looks()
    blind = plan(CONTRACT, replace(ARM, kinematics=None, workspace=None), HOME)
    assert "no kinematics" in blind.looks()
    assert "+3.0 degrees" in pan.words() and "'shoulder_pan'" in pan.words()


def judged(share, others=0.0, back=0.0):
    move = plan(CONTRACT, ARM, HOME)
    far, after = HOME.copy(), HOME.copy()
    far[move.joint] += share * move.amount
    far[0] += others
    after[move.joint] += back
    return {line.name: line for line in judge(move, HOME, far, after)}


@pytest.mark.parametrize(("share", "outcome", "word"), [
    (1.0, PASS, ""), (0.7, PASS, ""), (-1.0, FAIL, "opposite signs"), (0.0, FAIL, "blocked"), (0.3, FAIL, "blocked"),
    (57.3, FAIL, "gear ratio"),
])
def test_the_measured_turn_must_have_the_commanded_sign_and_size(share, outcome, word):
    line = judged(share)["move: direction"]
    assert line.outcome == outcome and word in line.mend
    assert f"{share * math.degrees(AMOUNT):+.2f}" in line.text


def test_another_joint_that_moved_with_it_fails_and_one_that_did_not_come_back_is_remarked():
    assert judged(1.0)["move: other joints"].outcome == PASS
    strayed = judged(1.0, others=0.05)["move: other joints"]
    assert strayed.outcome == FAIL and "shoulder_pan" in strayed.text and "wrist_roll" not in strayed.text
    assert judged(1.0)["move: back"].outcome == PASS
    assert judged(1.0, back=0.03)["move: back"].outcome == WARN
