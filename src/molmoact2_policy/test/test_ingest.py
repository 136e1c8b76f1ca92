# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import hashlib

import cv2
import numpy as np
import pytest
from tiny_robot import CONTRACT, JOINTS, LOWER, POSITIONS, SECOND, TAG, UPPER, compressed, image, joint_state, picture

from molmoact2_policy import ingest
from molmoact2_policy.ingest import IMAGE, JOINT_STATE, Ingest, ObservationError, digest, read_image

NOW = 1000 * SECOND
MS = 1_000_000
TOP, WRIST = picture(1), picture(2)


def observe(images=None, joint_states=None):
    images = [image(TOP, NOW), compressed(WRIST, NOW + 10 * MS)] if images is None else images
    joint_states = [joint_state(NOW + 4 * MS)] if joint_states is None else joint_states
    return Ingest(CONTRACT, TAG).observation(images, joint_states, "joint_states")


def test_images_come_out_as_rgb_in_the_models_order_raw_or_compressed():
    observation = observe()
    for seen, sent in zip(observation.images, (TOP, WRIST), strict=True):
        assert seen.dtype == np.uint8
        np.testing.assert_array_equal(seen, sent)


def test_pixels_of_an_rgb_image_are_not_copied_out_of_its_message():
    message = image(TOP, NOW)
    pixels = observe([message, compressed(WRIST, NOW)]).images[0]
    assert np.shares_memory(pixels, np.frombuffer(message.data, np.uint8))


def test_nobody_can_write_into_the_pixels_that_a_frozen_camera_is_known_by():
    bgr = image(TOP[:, :, ::-1].copy(), NOW, "bgr8")
    for images in ([image(TOP, NOW), compressed(WRIST, NOW)], [bgr, compressed(WRIST, NOW)]):
        for pixels in observe(images).images:
            with pytest.raises(ValueError, match="read-only"):
                pixels[0, 0, 0] = 1


def test_a_digest_is_taken_when_it_is_first_asked_for_and_once(monkeypatch):
    taken = []
    monkeypatch.setattr(ingest, "digest", lambda values: taken.append(values.shape) or digest(values))
    observation = observe()
    assert taken == []
    for _ in range(2):
        assert [item.digest for item in observation.inputs[:2]] == [digest(TOP), digest(WRIST)]
    assert observation.inputs[2].digest == digest(np.array(list(POSITIONS.values())))
    assert taken == [TOP.shape, WRIST.shape, (len(JOINTS),)]


def test_read_side_by_side_every_image_has_the_pixels_and_the_digest_that_it_has_alone():
    bgr, jpeg = image(TOP[:, :, ::-1].copy(), NOW, "bgr8"), compressed(WRIST, NOW)
    jpeg.data = cv2.imencode(".jpg", WRIST)[1].tobytes()
    for top in (image(TOP, NOW), bgr):
        observation = observe([top, jpeg])
        alone = [read_image("top", "raw", top), read_image("wrist", "compressed", jpeg)]
        assert [seen.tobytes() for seen in observation.images] == [pixels.tobytes() for pixels in alone]
        assert [item.digest for item in observation.inputs[:2]] == [digest(pixels) for pixels in alone]


def test_rows_that_are_padded_give_the_pixels_without_the_padding_and_their_digest():
    padded = np.concatenate([TOP, picture(3)[:, :5]], axis=1)
    message = image(padded, NOW)
    message.width = TOP.shape[1]
    observation = observe([message, compressed(WRIST, NOW)])
    np.testing.assert_array_equal(observation.images[0], TOP)
    assert observation.inputs[0].digest == observe().inputs[0].digest


def test_a_bgr_image_gives_the_same_observation_as_its_rgb_twin():
    bgr = observe([image(TOP[:, :, ::-1].copy(), NOW, "bgr8"), compressed(WRIST, NOW)])
    assert bgr.images[0].tobytes() == TOP.tobytes()


def test_the_observation_is_stamped_by_its_main_image_and_names_every_input():
    observation = observe()
    assert observation.stamp_ns == NOW
    assert observation.state_stamp_ns == NOW + 4 * MS
    assert observation.skew == pytest.approx(0.010)
    assert [(i.kind, i.topic, i.stamp_ns) for i in observation.inputs] == [
        (IMAGE, "top/image_raw", NOW),
        (IMAGE, "wrist/image_raw/compressed", NOW + 10 * MS),
        (JOINT_STATE, "joint_states", NOW + 4 * MS),
    ]


def test_the_state_is_in_ros_units_and_the_model_state_in_the_checkpoints():
    observation = observe()
    np.testing.assert_allclose(observation.state, list(POSITIONS.values()))
    np.testing.assert_allclose(observation.model_state, [0.1, -0.2, 0.8, 0.4, -0.5, -0.6, 0.7], rtol=1e-6)
    assert observation.model_state.dtype == np.float32


def test_joints_are_taken_by_name_in_any_order_and_from_several_controllers():
    expected = list(POSITIONS.values())
    shuffled = observe(joint_states=[joint_state(NOW, names=JOINTS[::-1])])
    np.testing.assert_allclose(shuffled.state, expected)
    parts = observe(joint_states=[joint_state(NOW + 9 * MS, names=UPPER), joint_state(NOW + 3 * MS, names=LOWER)])
    np.testing.assert_allclose(parts.state, expected)
    assert parts.state_stamp_ns == NOW + 3 * MS


@pytest.mark.parametrize(
    ("joint_states", "kind", "named"),
    [
        ([joint_state(NOW, names=LOWER)], "joint_missing", "'joint_3' is missing"),
        ([joint_state(NOW), joint_state(NOW, names=LOWER)], "joint_twice", "'joint_0' comes twice"),
        ([joint_state(NOW, names=(*JOINTS, "tail"), tail=0.0)], "joint_unknown", "'tail'"),
        ([joint_state(NOW, joint_4=float("nan"))], "joint_not_finite", "'joint_4'"),
        ([joint_state(NOW, gripper=float("inf"))], "joint_not_finite", "'gripper'"),
        ([joint_state(NOW + 60 * MS)], "skew", "0.060 s apart, more than 0.05 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_joint_state_that_makes_no_whole_state_is_refused_by_name(joint_states, kind, named):
    with pytest.raises(ObservationError, match=named) as refused:
        observe(joint_states=joint_states)
    assert refused.value.kind == kind


def test_a_joint_state_with_more_names_than_positions_is_refused():
    message = joint_state(NOW)
    message.position = message.position[:-1]
    with pytest.raises(ObservationError, match="7 names and 6 positions"):
        observe(joint_states=[message])


NO_DATA = compressed(WRIST, NOW)
NO_DATA.data = b""


@pytest.mark.parametrize(
    ("images", "kind", "named"),
    [
        ([image(TOP, 0), compressed(WRIST, NOW)], "image_stamp", "top/image_raw: the stamp is zero"),
        ([image(TOP, NOW, encoding="what8"), compressed(WRIST, NOW)], "image_encoding", "what8"),
        ([image(TOP, NOW), NO_DATA], "image_encoding", "wrist/image_raw/compressed"),
        ([image(TOP, NOW), compressed(WRIST, NOW - 70 * MS)], "skew", "0.07"),
    ],
    ids=["zero stamp", "unknown encoding", "no data", "skew"],
)
def test_an_image_that_cannot_be_used_is_refused_by_topic(images, kind, named):
    with pytest.raises(ObservationError, match=named) as refused:
        observe(images)
    assert refused.value.kind == kind


def test_an_image_with_less_data_than_its_size_is_refused():
    message = image(TOP, NOW)
    message.height += 1
    with pytest.raises(ObservationError, match="top/image_raw") as refused:
        observe([message, compressed(WRIST, NOW)])
    assert refused.value.kind == "image_encoding"


def test_an_image_of_another_cameras_frame_is_refused_since_cameras_may_be_swapped():
    with pytest.raises(ObservationError, match="its frame is 'wrist_optical_frame', that of camera top is") as error:
        observe([image(TOP, NOW, frame_id="wrist_optical_frame"), compressed(WRIST, NOW)])
    assert error.value.kind == "image_frame"


def test_every_input_has_a_digest_that_tells_it_from_others_of_its_stamp():
    lower, upper = joint_state(NOW, names=LOWER), joint_state(NOW, names=UPPER)
    observation = observe(joint_states=[lower, upper])
    top, _, first, second = observation.inputs
    assert top.digest == hashlib.blake2b(TOP.tobytes(), digest_size=16).digest()
    assert first.digest != second.digest
    assert first.digest == hashlib.blake2b(np.array(lower.position).tobytes(), digest_size=16).digest()
