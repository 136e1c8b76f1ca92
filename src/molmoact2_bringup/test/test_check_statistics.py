# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 check`: checkpoint and training statistics against the robot's contract. No ROS here."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from molmoact2_bringup.check.checkpoint import cameras_line, look, modes_line, weights_in
from molmoact2_bringup.check.line import FAIL, PASS, WARN, Line
from molmoact2_bringup.check.ranges import limits_line, names_line, ranges_of, state_lines, units_line
from molmoact2_bringup.check.wanted import (
    configuration_of,
    controllers_of,
    heard_as,
    policy_of,
    with_motion,
    without_motion,
)
from molmoact2_contract import ContractError, JointFrame, load_contract, load_system
from molmoact2_policy.model_frame import ModelFrame

TAG, RELEASED = "so101_sim_molmoact2_tiny", "so100_so101_molmoact2"


@pytest.fixture(scope="module")
def contract():
    return load_contract("so101")


@pytest.fixture(scope="module")
def system():
    return load_system("so101_sim")


def stats(low, high, kind=("q01", "q99")):
    return {kind[0]: list(low), kind[1]: list(high)}


def whole(contract, tag, share=0.8):
    """Statistics over a share of each joint's range, in the checkpoint's frame."""
    lower, upper = contract.values("lower"), contract.values("upper")
    middle, half = (lower + upper) / 2, (upper - lower) / 2 * share
    ends = ModelFrame(contract, tag).to_model(np.stack([middle - half, middle + half]))
    return stats(ends.min(axis=0), ends.max(axis=0))


def outcomes(lines: list[Line]) -> list[str]:
    return [line.outcome for line in lines]


# --- ranges -----------------------------------------------------------------------------------------------------------
def test_ranges_in_ros_units_are_in_order_where_the_model_turns_the_other_way(contract):
    tag = contract.norm_tag(RELEASED)
    seen = ranges_of(whole(contract, tag), contract, tag)
    lift = contract.joint_names.index("shoulder_lift")
    assert tag.frames["shoulder_lift"].scale < 0
    assert (seen.ros_low < seen.ros_high).all()
    assert seen.ros_high[lift] == pytest.approx(0.8 * contract.joints["shoulder_lift"].upper, abs=1e-3)


def test_quantiles_are_taken_before_extremes_and_extremes_where_there_are_none(contract):
    tag, numbers = contract.norm_tag(TAG), np.arange(6.0)
    both = stats(numbers, numbers + 1) | stats(numbers - 5, numbers + 5, ("min", "max"))
    assert ranges_of(both, contract, tag).kind == "q01 to q99"
    assert ranges_of(stats(numbers, numbers + 1, ("min", "max")), contract, tag).kind == "min to max"
    assert ranges_of({"mean": [0.0]}, contract, tag) is None
    assert ranges_of(stats([0.0], [1.0]), contract, tag) is None


def test_degrees_declared_as_radians_fail_and_radians_declared_as_degrees_are_remarked(contract):
    tag = contract.norm_tag(RELEASED)
    sound = whole(contract, tag)
    assert units_line(ranges_of(sound, contract, tag), contract).outcome == PASS

    def with_unit(factor):
        frames = {
            name: frame if contract.joints[name].is_gripper else JointFrame(frame.scale * factor, frame.offset)
            for name, frame in tag.frames.items()
        }
        return replace(tag, frames=frames)

    as_radians = with_unit(math.radians(1.0))
    line = units_line(ranges_of(sound, contract, as_radians), contract)
    assert line.outcome == FAIL and "model_frame" in line.mend
    radians = whole(contract, with_unit(math.radians(1.0)))
    assert units_line(ranges_of(radians, contract, tag), contract).outcome == WARN


def test_what_was_asked_for_in_training_and_is_not_allowed_is_named(contract):
    tag = contract.norm_tag(TAG)
    lower, upper = contract.values("lower"), contract.values("upper")
    assert limits_line(ranges_of(stats(lower, upper), contract, tag), contract).outcome == PASS
    wide = upper.copy()
    wide[2] += 0.5
    line = limits_line(ranges_of(stats(lower, wide), contract, tag), contract)
    assert line.outcome == WARN and "elbow_flex" in line.text and "shoulder_pan" not in line.text


def test_a_gripper_that_was_asked_to_squeeze_is_no_matter(contract):
    tag = contract.norm_tag(TAG)
    lower, upper = contract.values("lower").copy(), contract.values("upper").copy()
    lower[5], upper[5] = -0.3, 1.3
    assert limits_line(ranges_of(stats(lower, upper), contract, tag), contract).outcome == PASS


def test_a_joint_outside_its_training_range_is_shown_in_both_frames_and_outside_its_limits_fails(contract):
    tag = contract.norm_tag(RELEASED)
    seen = ranges_of(whole(contract, tag, 0.5), contract, tag)
    state = contract.values("home").copy()
    state[0], state[4] = 1.5, 3.2
    lines = state_lines(state, seen, contract, tag)
    assert [line.name for line in lines] == [f"joint {name}" for name in contract.joint_names]
    assert lines[0].outcome == WARN and "1.500 rad" in lines[0].text and "85.94" in lines[0].text
    assert lines[4].outcome == FAIL and "outside its limits" in lines[4].text
    assert lines[3].outcome == WARN    # home of the wrist lies outside half of its range
    assert lines[2].outcome == PASS


def test_without_a_policy_the_joints_are_held_against_their_limits_alone(contract):
    lines = state_lines(contract.values("home"), None, contract, None)
    assert outcomes(lines) == [PASS] * 6 and "checkpoint" not in lines[0].text


@pytest.mark.parametrize(("names", "values", "outcome"), [
    ([f"{joint}.pos" for joint in load_contract("so101").joints], 6, PASS),
    (["shoulder_lift", "shoulder_pan", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"], 6, FAIL),
    (["joint_0", "joint_1", "joint_2", "joint_3", "joint_4", "joint_5"], 6, WARN),
    ([], 6, PASS),
    ([], 7, FAIL),
])
def test_joints_are_the_checkpoints_in_its_order(contract, names, values, outcome):
    assert names_line(names, values, contract).outcome == outcome


# --- checkpoint -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("keys", "outcome"), [
    (["observation.images.front", "observation.images.wrist"], PASS),
    (["observation.images.wrist", "observation.images.front"], FAIL),
    (["observation.images.top", "observation.images.side"], WARN),
    (["observation.images.front"], FAIL),
    ([], WARN),
])
def test_cameras_are_as_many_as_in_training_and_in_its_order(contract, keys, outcome):
    assert cameras_line(keys, contract.norm_tag(TAG)).outcome == outcome


def test_a_sound_checkpoint_passes_every_line_and_its_weights_are_counted(system):
    configuration = configuration_of(policy_of(system))
    lines, known = look(configuration.settings, configuration.contract, configuration.tag)
    assert set(outcomes(lines)) == {PASS}, lines
    file = system.path.parents[2] / "checkpoints/molmoact2-tiny-think-so101/model.safetensors"
    assert known.steps == 30 and known.weights == 4 * weights_in(file) > 0
    # Of the file each number takes at most four bytes, and little else is in it.
    assert 2 * weights_in(file) < file.stat().st_size
    settings = replace(configuration.settings, language_weights="nf4")
    lines, less = look(settings, configuration.contract, configuration.tag)
    assert "as float32, those of the language model's blocks as nf4" in lines[0].text
    assert known.weights / 2 < less.weights < known.weights
    settings = replace(configuration.settings, offload="language")
    lines, less = look(settings, configuration.contract, configuration.tag)
    assert "in main memory" in lines[0].text and known.weights / 2 < less.weights < known.weights


def test_a_tag_that_the_checkpoint_does_not_know_fails_and_those_it_knows_are_named(system):
    policy = policy_of(system)
    policy = replace(policy, parameters={**policy.parameters, "norm_tag": RELEASED})
    configuration = configuration_of(policy)
    lines, known = look(configuration.settings, configuration.contract, configuration.tag)
    assert outcomes(lines) == [PASS, FAIL] and TAG in lines[1].text and known is None


def test_a_checkpoint_that_is_not_there_or_is_cut_off_fails_with_its_reason(system, tmp_path):
    configuration = configuration_of(policy_of(system))
    settings = replace(configuration.settings, checkpoint=str(tmp_path))
    lines, known = look(settings, configuration.contract, configuration.tag)
    assert outcomes(lines) == [FAIL] and "config.json" in lines[0].text and known is None
    cut = tmp_path / "model.safetensors"
    cut.write_bytes((1000).to_bytes(8, "little") + b"{")
    with pytest.raises(ValueError, match="whole"):
        weights_in(cut)


def test_weights_are_counted_by_the_header(tmp_path):
    header = json.dumps({"a": {"shape": [3, 4]}, "b": {"shape": []}, "__metadata__": {"format": "pt"}}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 26)
    assert weights_in(file) == 13


@pytest.mark.parametrize(("depth", "mode", "tokenizer", "outcome"), [
    ("off", "continuous", "", PASS),
    ("adaptive", "continuous", "", FAIL),
    ("off", "discrete", "there", FAIL),
])
def test_modes_that_the_checkpoint_does_not_have_fail(depth, mode, tokenizer, outcome):
    able = SimpleNamespace(depth=None, supports_continuous=True, supports_discrete=False)
    settings = SimpleNamespace(depth=depth, action_mode=mode, fast_tokenizer=tokenizer)
    assert modes_line(settings, able).outcome == outcome


# --- the system file --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("given", "what"), [
    ({"dept": "full"}, "dept"),
    ({"num_steps": 2.5}, "num_steps"),
    ({"max_gap": 5}, "max_gap"),
    ({"seed": -2}, "seed"),
    ({"depth": "deep"}, "depth"),
    ({"norm_tag": "nobody"}, "nobody"),
])
def test_a_policy_that_would_not_take_its_parameters_is_refused_by_name(system, given, what):
    policy = policy_of(system)
    with pytest.raises(ContractError, match=what):
        configuration_of(replace(policy, parameters={**policy.parameters, **given}))


def test_what_is_started_to_look_cannot_move(system):
    started = without_motion(system)
    assert [p.name for p in started.processes] == ["world", "cameras", "arm_controller"]
    assert controllers_of(started)["arm"].parameters | {"shadow": True, "auto_arm": False} == (
        controllers_of(started)["arm"].parameters
    )
    assert without_motion(system, ("arm_controller",)).processes == started.processes[:2]


def test_to_move_one_arm_only_its_controller_is_started_and_nobody_but_the_operator_arms_it():
    bimanual = load_system("yam_bimanual")
    started = with_motion(bimanual, "right")
    assert [p.name for p in started.processes] == ["right_arm_controller"]
    parameters = started.processes[0].parameters
    assert (parameters["shadow"], parameters["auto_arm"], parameters["alone"]) == (False, False, True)
    simulated = with_motion(load_system("so101_sim"), "arm")
    assert [p.name for p in simulated.processes] == ["world", "arm_controller"]


def test_topics_are_heard_under_the_names_that_the_policy_has_for_them(system):
    renamed = tuple(
        replace(p, remap={"front/image_raw": "camera/color/image_raw"}) if p.name == "policy" else p
        for p in system.processes
    )
    system = replace(system, processes=renamed)
    assert heard_as(system, "front/image_raw") == "camera/color/image_raw"
    assert heard_as(system, "wrist/image_raw") == "wrist/image_raw"


def test_a_system_without_a_policy_has_none():
    assert policy_of(load_system("so101_teleop")) is None
