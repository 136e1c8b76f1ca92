# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""An arm in a person's hand."""

import numpy as np
import pytest
from servo_rig import WAIT

from arm_controller.chunk import Refusal
from arm_controller.controller_state import Fault, Refused
from arm_controller.driver import DriverError


@pytest.fixture
def guided(rig):
    """An armed arm that a hand has moved by 0.3 rad in its first joint."""
    rig.tick(5)
    rig.operator.hand_guide()
    rig.driver.push[0] = 0.01
    rig.tick(30)
    rig.driver.push[0] = 0.0
    return rig


def test_a_guided_arm_gets_no_setpoints_and_goes_where_it_is_led(guided):
    mark = len(guided.driver.sent)
    guided.tick(20)
    assert len(guided.driver.sent) == mark
    assert guided.controller.measured.positions[0] == pytest.approx(0.3)
    assert guided.state == "HOLDING"
    assert "person's hand" in guided.controller.reason


def test_a_guided_arm_follows_no_chunk(guided):
    led = np.tile(guided.driver.positions, (30, 1))
    assert "person's hand" in guided.accept(guided.chunk(led))
    assert guided.controller.last.refusal == Refusal.STATE


def test_after_guiding_the_arm_is_held_where_it_was_left_without_a_snap(guided):
    left = guided.driver.positions.copy()
    guided.operator.resume()
    guided.tick(10)
    assert guided.state == "HOLDING"
    assert np.abs(np.array(guided.driver.sent[-10:]) - left).max() < 1e-9


def test_after_resume_the_policy_moves_the_arm_from_where_it_was_left(guided):
    guided.operator.resume()
    guided.tick(WAIT)
    mark = len(guided.driver.sent)
    away = np.tile(guided.driver.positions, (30, 1))
    away[:, 0] += np.linspace(0.0, 0.2, 30)
    assert guided.accept(guided.chunk(away)) == ""
    guided.tick(60)
    sent = np.array(guided.driver.sent[mark - 1 :])[:, 0]
    assert np.abs(np.diff(sent)).max() < 0.02
    assert sent[-1] > 0.35


@pytest.mark.parametrize("verb", ["stop", "pause"])
def test_a_stop_takes_a_guided_arm_back_and_the_policy_waits_for_a_resume(guided, verb):
    left = guided.driver.positions.copy()
    getattr(guided.operator, verb)()
    guided.tick(5)
    assert guided.state == "HOLDING"
    assert np.abs(guided.driver.sent[-1] - left).max() < 1e-9
    assert guided.accept(guided.chunk(np.tile(left, (30, 1)))) != ""


def test_a_guided_arm_that_is_disarmed_is_held_by_its_device(guided):
    guided.operator.disarm()
    mark = len(guided.driver.sent)
    guided.tick(10)
    assert guided.state == "DISARMED"
    assert guided.driver.push is None
    assert guided.driver.goal[0] == pytest.approx(0.3)
    assert len(guided.driver.sent) == mark


def test_an_arm_led_beyond_its_limits_is_not_taken_back_with_a_step(guided):
    guided.driver.push[0] = 0.02
    guided.tick(100)
    guided.driver.push[0] = 0.0
    guided.tick(2)
    mark = len(guided.driver.sent)
    with pytest.raises(Refused, match="'shoulder_pan' is .* outside its limits"):
        guided.operator.resume()
    guided.tick(5)
    assert len(guided.driver.sent) == mark
    guided.driver.push[0] = -0.02
    guided.tick(60)
    guided.driver.push[0] = 0.0
    guided.operator.resume()
    assert guided.state == "HOLDING"


def test_a_fault_while_guided_holds_the_arm_where_it_is(guided):
    left = guided.driver.positions.copy()
    guided.ros_ns += 1_000_000_000
    guided.tick(5)
    assert guided.controller.state.fault == Fault.CLOCK_JUMP
    assert np.abs(guided.driver.sent[-1] - left).max() < 1e-9


@pytest.mark.parametrize("trouble", ["silent", "stale", "not a number"])
def test_where_nobody_sees_a_guided_arm_any_more_its_device_takes_it_out_of_the_hand(guided, trouble):
    mark = len(guided.driver.sent)
    if trouble == "silent":
        guided.driver.failure = "servo 3 does not answer"
    elif trouble == "not a number":
        guided.driver.positions[2] = np.nan
    else:
        guided.driver.stale_ns = 2_000_000_000
    guided.tick(2)
    assert guided.state == "FAULT"
    assert guided.driver.push is None and len(guided.driver.sent) == mark


def test_a_defect_of_ours_while_guided_has_the_device_take_the_arm_out_of_the_hand(guided):
    guided.controller.fail(Fault.INTERNAL, "the controller failed in itself")
    assert guided.driver.push is None and guided.controller.command is None


def test_a_fault_of_an_arm_that_was_led_beyond_its_limits_leaves_it_to_its_device_to_hold(guided):
    guided.driver.push[0] = 0.02
    guided.tick(100)
    guided.ros_ns += 1_000_000_000
    mark = len(guided.driver.sent)
    guided.tick(5)
    assert guided.controller.state.fault == Fault.CLOCK_JUMP
    assert guided.driver.push is None and len(guided.driver.sent) == mark


def test_an_arm_that_moves_or_is_shadowed_is_not_put_into_a_hand(rig, make_rig):
    rig.accept(rig.chunk(rig.sway()))
    with pytest.raises(Refused, match="must be holding"):
        rig.operator.hand_guide()
    shadow = make_rig(shadow=True)
    shadow.operator.arm()
    with pytest.raises(Refused, match="shadowed"):
        shadow.operator.hand_guide()


def test_a_device_that_cannot_yield_says_so_and_the_arm_goes_on_holding(rig, monkeypatch):
    def cannot():
        raise DriverError("this driver offers no hand guiding")

    monkeypatch.setattr(rig.driver, "guide", cannot)
    with pytest.raises(Refused, match="offers no hand guiding"):
        rig.operator.hand_guide()
    mark = len(rig.driver.sent)
    rig.tick(3)
    assert rig.state == "HOLDING"
    assert len(rig.driver.sent) == mark + 3
