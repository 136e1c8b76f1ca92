# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Each fault of a sensor does to a message what its name says, and to the sound one nothing."""

import array
import copy

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image, JointState

from molmoact2_bringup.faults import spoil

HEIGHT, WIDTH = 48, 64


def image(number: int = 0, seconds: float = 0.0) -> Image:
    """A picture of its own for each number, with rows that are padded."""
    colours = np.random.default_rng(number).integers(40, 216, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    rows = np.zeros((HEIGHT, 3 * WIDTH + 8), np.uint8)
    rows[:, : 3 * WIDTH] = colours.reshape(HEIGHT, -1)
    message = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=rows.shape[1])
    message.header.frame_id = "front_optical_frame"
    message.header.stamp = Time(sec=100 + int(seconds), nanosec=round(seconds % 1 * 1e9))
    message.data = array.array("B", rows.tobytes())
    return message


def joints(number: int = 0) -> JointState:
    message = JointState(name=["pan", "lift", "gripper"], velocity=[1.0, 2.0, 3.0])
    message.position = [0.1 * number, 0.2, 0.3]
    message.header.stamp = Time(sec=100 + number)
    return message


IMAGE_FAULTS = {
    "black": lambda: spoil.filled(0), "saturated": lambda: spoil.filled(255), "frozen image": spoil.frozen_image,
    "frozen stamp": spoil.frozen_stamp, "fade": spoil.fade, "shake": spoil.shake, "half size": lambda: spoil.half_size,
    "unknown encoding": lambda: spoil.unknown_encoding, "dropped": lambda: spoil.dropped,
}
JOINT_FAULTS = {
    "frozen": spoil.frozen_joints, "leapt": lambda: spoil.leapt, "unordered": lambda: spoil.unordered,
    "not a number": lambda: spoil.not_a_number, "dropped": lambda: spoil.dropped,
}


def spoilt(fault, message):
    (only,) = fault(message)
    return only


@pytest.mark.parametrize("name", IMAGE_FAULTS)
def test_a_fault_leaves_the_sound_image_as_it_was_and_keeps_its_frame(name):
    fault = IMAGE_FAULTS[name]()
    for number in range(3):
        sound = image(number, number)
        before = copy.deepcopy(sound)
        for other in fault(sound):
            assert other.header.frame_id == "front_optical_frame"
            assert len(other.data) == other.height * other.step
        assert sound == before


@pytest.mark.parametrize("name", JOINT_FAULTS)
def test_a_fault_leaves_the_sound_joint_state_as_it_was(name):
    fault = JOINT_FAULTS[name]()
    for number in range(3):
        sound = joints(number)
        before = copy.deepcopy(sound)
        fault(sound)
        assert sound == before


@pytest.mark.parametrize(("level", "fault"), [(0, "black"), (255, "saturated")])
def test_a_black_or_saturated_image_has_one_level_and_its_own_stamp(level, fault):
    sound = image(1, 2.5)
    other = spoilt(IMAGE_FAULTS[fault](), sound)
    assert np.unique(spoil.pixels(other)).tolist() == [level]
    assert other.header == sound.header


def test_a_frozen_image_repeats_the_first_bytes_under_fresh_stamps():
    fault = spoil.frozen_image()
    sent = [spoilt(fault, image(n, n)) for n in range(3)]
    assert {bytes(m.data) for m in sent} == {spoil.pixels(image(0)).tobytes()}
    assert [m.header.stamp.sec for m in sent] == [100, 101, 102]


def test_a_frozen_stamp_stands_over_fresh_bytes():
    fault = spoil.frozen_stamp()
    sent = [spoilt(fault, image(n, n)) for n in range(3)]
    assert [m.header.stamp.sec for m in sent] == [100, 100, 100]
    for number, message in enumerate(sent):
        np.testing.assert_array_equal(spoil.pixels(message), spoil.pixels(image(number)))


def test_a_fade_takes_the_light_away_slowly_by_the_stamps_and_leaves_some():
    fault = spoil.fade()
    light = [spoil.pixels(spoilt(fault, image(0, t))).mean() for t in (0.0, 1.0, 2.0, 3.0, 4.0, 9.0)]
    full = spoil.pixels(image(0)).mean()
    assert light[0] == full
    assert all(after < before for before, after in zip(light[:4], light[1:5], strict=True))
    np.testing.assert_allclose(light[2], full * (1 + spoil.DIM) / 2, rtol=0.01)
    np.testing.assert_allclose(light[4:], full * spoil.DIM, rtol=0.02)


def test_a_shaken_image_is_the_same_view_moved_by_another_offset_each_time():
    fault, sound = spoil.shake(seed=3), image(0)
    sent = [spoil.pixels(spoilt(fault, sound)) for _ in range(4)]
    assert len({m.tobytes() for m in sent}) == 4
    view = {tuple(p) for p in spoil.pixels(sound).reshape(-1, 3)}
    assert all({tuple(p) for p in m.reshape(-1, 3)} <= view and m.shape == (HEIGHT, WIDTH, 3) for m in sent)
    again = spoil.shake(seed=3)
    np.testing.assert_array_equal(sent[0], spoil.pixels(spoilt(again, sound)))


def test_a_wrong_size_is_half_of_both_sides_and_a_whole_image():
    other = spoilt(spoil.half_size, image(0))
    assert (other.height, other.width, other.encoding) == (HEIGHT // 2, WIDTH // 2, "rgb8")
    np.testing.assert_array_equal(spoil.pixels(other), spoil.pixels(image(0))[::2, ::2])


def test_a_wrong_encoding_is_one_that_nobody_knows_over_the_same_bytes():
    other = spoilt(spoil.unknown_encoding, image(0))
    assert other.encoding == spoil.NOBODY_KNOWS
    assert bytes(other.data) == spoil.pixels(image(0)).tobytes()


def test_a_drop_out_sends_nothing():
    assert spoil.dropped(image(0)) == []
    assert spoil.dropped(joints(0)) == []


def test_an_image_that_has_no_colours_is_refused_and_its_kind_named():
    message = image(0)
    message.encoding = "mono16"
    with pytest.raises(ValueError, match="'mono16'; faults are made of rgb8 or bgr8"):
        spoil.half_size(message)


def test_frozen_joints_repeat_the_first_values_under_fresh_stamps():
    fault = spoil.frozen_joints()
    sent = [spoilt(fault, joints(n)) for n in range(3)]
    assert [m.header.stamp.sec for m in sent] == [100, 101, 102]
    assert all(m.position == joints(0).position and m.name == joints(0).name for m in sent)


def test_a_leap_moves_one_joint_and_no_other():
    sound, other = joints(1), spoilt(spoil.leapt, joints(1))
    assert other.position[0] == pytest.approx(sound.position[0] + spoil.LEAP)
    assert other.position[1:] == sound.position[1:]


def test_unordered_joints_are_in_another_order_and_each_keeps_its_values():
    sound, other = joints(1), spoilt(spoil.unordered, joints(1))
    assert list(other.name) != list(sound.name)
    by_name = {n: (p, v) for n, p, v in zip(other.name, other.position, other.velocity, strict=True)}
    assert by_name == {n: (p, v) for n, p, v in zip(sound.name, sound.position, sound.velocity, strict=True)}


def test_one_position_that_is_not_a_number_leaves_the_others_alone():
    other = spoilt(spoil.not_a_number, joints(1))
    assert np.isnan(other.position).tolist() == [True, False, False]
