# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What users of tf_transformations may rely on. The other side is scipy, and values worked out by hand."""

import itertools
import math

import numpy as np
import pytest
import tf_transformations as tf
from scipy.spatial.transform import Rotation, Slerp

AXES = [
    frame + "".join(letters)
    for frame in "sr"
    for letters in itertools.product("xyz", repeat=3)
    if letters[0] != letters[1] != letters[2]
]
HALF = math.sqrt(0.5)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def scipy_rotation(angles, axes: str) -> Rotation:
    return Rotation.from_euler(axes[1:] if axes[0] == "s" else axes[1:].upper(), angles)


def test_there_are_24_axis_sequences():
    assert len(AXES) == 24


# --- known values -------------------------------------------------------------------------------------------
def test_a_quarter_turn_about_each_axis_is_x_y_z_w():
    quarter = math.pi / 2
    np.testing.assert_allclose(tf.quaternion_from_euler(quarter, 0, 0), (HALF, 0, 0, HALF), atol=1e-15)
    np.testing.assert_allclose(tf.quaternion_from_euler(0, quarter, 0), (0, HALF, 0, HALF), atol=1e-15)
    np.testing.assert_allclose(tf.quaternion_from_euler(0, 0, quarter), (0, 0, HALF, HALF), atol=1e-15)
    np.testing.assert_allclose(tf.quaternion_about_axis(quarter, (0, 0, 3)), (0, 0, HALF, HALF), atol=1e-15)


def test_roll_pitch_yaw_turn_about_fixed_axes_in_that_order():
    matrix = tf.euler_matrix(math.pi / 2, 0, math.pi / 2)
    # Roll takes y to z; yaw leaves z where it is.
    np.testing.assert_allclose(matrix @ (0, 1, 0, 1), (0, 0, 1, 1), atol=1e-15)
    # Roll leaves x where it is; yaw takes it to y.
    np.testing.assert_allclose(matrix @ (1, 0, 0, 1), (0, 1, 0, 1), atol=1e-15)


def test_a_product_of_quaternions_turns_by_the_right_one_first():
    roll, yaw = (
        tf.quaternion_about_axis(math.pi / 2, (1, 0, 0)),
        tf.quaternion_about_axis(math.pi / 2, (0, 0, 1)),
    )
    both = tf.quaternion_matrix(tf.quaternion_multiply(yaw, roll))
    np.testing.assert_allclose(both, tf.euler_matrix(math.pi / 2, 0, math.pi / 2), atol=1e-15)
    np.testing.assert_allclose(tf.quaternion_multiply((0, 0, 0, 2), (1, 2, 3, 4)), (2, 4, 6, 8))


def test_results_have_the_types_of_the_ros_package():
    turn = (0.0, 0.0, HALF, HALF)
    for function, argument in (
        (tf.quaternion_from_matrix, np.identity(4)),
        (tf.euler_from_matrix, np.identity(4)),
        (tf.euler_from_quaternion, turn),
    ):
        assert isinstance(function(argument), tuple)
    assert isinstance(tf.quaternion_from_euler(1, 2, 3), tuple)
    assert isinstance(tf.quaternion_multiply(turn, turn), tuple)
    assert isinstance(tf.quaternion_about_axis(1, (1, 0, 0)), tuple)
    for array in (
        tf.quaternion_inverse(turn),
        tf.quaternion_conjugate(turn),
        tf.quaternion_slerp(turn, turn, 0.5),
    ):
        assert isinstance(array, np.ndarray) and array.shape == (4,)
    assert tf.quaternion_matrix(turn).shape == tf.euler_matrix(1, 2, 3).shape == (4, 4)


# --- Euler angles -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axes", AXES)
def test_every_axis_sequence_agrees_with_scipy(axes, rng):
    for angles in rng.uniform(-2 * np.pi, 2 * np.pi, (20, 3)):
        expected = scipy_rotation(angles, axes)
        np.testing.assert_allclose(tf.euler_matrix(*angles, axes)[:3, :3], expected.as_matrix(), atol=1e-12)
        quaternion = tf.quaternion_from_euler(*angles, axes)
        assert abs(np.dot(quaternion, expected.as_quat())) == pytest.approx(1.0, abs=1e-12)
        for back in (
            tf.euler_from_quaternion(quaternion, axes),
            tf.euler_from_matrix(expected.as_matrix(), axes),
        ):
            assert (scipy_rotation(back, axes) * expected.inv()).magnitude() < 1e-7


@pytest.mark.parametrize("axes", AXES)
def test_angles_come_back_from_where_they_are_unique(axes, rng):
    repeats = axes[1] == axes[3]
    fixed = axes[1:] if axes[0] == "s" else axes[:0:-1]
    forward = fixed[:2] in ("xy", "yz", "zx")
    for _ in range(20):
        first, last = rng.uniform(-3, 3, 2)
        middle = rng.uniform(0.1, 3.0) * (1 if forward else -1) if repeats else rng.uniform(-1.4, 1.4)
        back = tf.euler_from_matrix(tf.euler_matrix(first, middle, last, axes), axes)
        np.testing.assert_allclose(back, (first, middle, last), atol=1e-9)


@pytest.mark.parametrize("axes", AXES)
def test_where_two_axes_coincide_the_angles_still_make_the_same_rotation(axes):
    for middle in (-np.pi / 2, 0.0, np.pi / 2, np.pi):
        matrix = tf.euler_matrix(0.3, middle, -1.2, axes)
        back = tf.euler_from_matrix(matrix, axes)
        np.testing.assert_allclose(tf.euler_matrix(*back, axes), matrix, atol=1e-7)


def test_the_four_number_notation_means_the_same_sequences():
    for numbers, axes in (
        ((0, 0, 0, 0), "sxyz"),
        ((0, 0, 0, 1), "rzyx"),
        ((1, 1, 1, 0), "syxy"),
        ((2, 1, 0, 1), "rxyz"),
    ):
        np.testing.assert_allclose(tf.euler_matrix(1, 2, 3, numbers), tf.euler_matrix(1, 2, 3, axes), atol=1e-15)


@pytest.mark.parametrize("axes", ["xyz", "sxxy", "sxyzz", "qxyz", "sabc", "", (0, 0, 0), (5, 0, 0, 0), None])
def test_an_axis_sequence_that_is_none_is_refused(axes):
    with pytest.raises(ValueError, match="axes is"):
        tf.euler_matrix(1, 2, 3, axes)


# --- quaternions --------------------------------------------------------------------------------------------
def test_quaternions_and_matrices_agree_with_scipy(rng):
    for values in rng.normal(size=(50, 4)):
        expected = Rotation.from_quat(values)
        matrix = tf.quaternion_matrix(values)
        np.testing.assert_allclose(matrix[:3, :3], expected.as_matrix(), atol=1e-12)
        np.testing.assert_array_equal(matrix[3], (0, 0, 0, 1))
        back = tf.quaternion_from_matrix(matrix)
        np.testing.assert_allclose(back, expected.as_quat(canonical=True), atol=1e-9)


def test_multiplying_inverting_and_conjugating_agree_with_scipy(rng):
    for one, other in rng.normal(size=(50, 2, 4)):
        product = Rotation.from_quat(tf.quaternion_multiply(one, other))
        assert (product.inv() * Rotation.from_quat(one) * Rotation.from_quat(other)).magnitude() < 1e-9
        assert np.linalg.norm(tf.quaternion_multiply(one, other)) == pytest.approx(
            np.linalg.norm(one) * np.linalg.norm(other)
        )
        np.testing.assert_allclose(tf.quaternion_multiply(one, tf.quaternion_inverse(one)), (0, 0, 0, 1), atol=1e-12)
        np.testing.assert_array_equal(tf.quaternion_conjugate(one), (-one[0], -one[1], -one[2], one[3]))


def test_slerp_agrees_with_scipy_and_takes_the_short_way_unless_told_not_to(rng):
    for one, other in rng.normal(size=(50, 2, 4)):
        between = Slerp([0, 1], Rotation.from_quat([one, other]))
        for fraction in (0.0, 0.2, 0.9, 1.0):
            got = Rotation.from_quat(tf.quaternion_slerp(one, other, fraction))
            assert (got.inv() * between(fraction)).magnitude() < 1e-7
    begin, end = (0.0, 0.0, 0.0, 1.0), tuple(-np.array(tf.quaternion_about_axis(0.5, (0, 0, 1))))
    short = Rotation.from_quat(tf.quaternion_slerp(begin, end, 0.5))
    long = Rotation.from_quat(tf.quaternion_slerp(begin, end, 0.5, shortestpath=False))
    assert short.magnitude() == pytest.approx(0.25)
    assert long.magnitude() == pytest.approx(math.pi - 0.25)


def test_random_quaternions_have_length_one_and_follow_their_three_numbers():
    quaternions = np.array([tf.random_quaternion() for _ in range(2000)])
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1.0)
    np.testing.assert_array_equal(tf.random_quaternion((0.2, 0.4, 0.6)), tf.random_quaternion((0.2, 0.4, 0.6)))
    np.testing.assert_allclose(tf.random_quaternion((0.0, 0.25, 0.7)), (1, 0, 0, 0), atol=1e-15)
    matrix = tf.random_rotation_matrix()
    np.testing.assert_allclose(matrix @ matrix.T, np.identity(4), atol=1e-12)


def test_what_has_no_direction_is_refused():
    for attempt in (
        lambda: tf.quaternion_matrix((0, 0, 0, 0)),
        lambda: tf.quaternion_inverse((0, 0, 0, 0)),
        lambda: tf.euler_from_quaternion((0, 0, 0, 0)),
        lambda: tf.quaternion_about_axis(1.0, (0, 0, 0)),
        lambda: tf.rotation_matrix(1.0, (0, 0, 0)),
        lambda: tf.unit_vector((0, 0)),
        lambda: tf.quaternion_from_matrix(np.diag((1.0, 1.0, 0.0, 1.0))),
    ):
        with pytest.raises(ValueError):
            attempt()


# --- matrices -----------------------------------------------------------------------------------------------
def test_translations_rotations_and_their_inverse_concatenate(rng):
    for _ in range(20):
        move, turn = tf.translation_matrix(rng.normal(size=3)), tf.quaternion_matrix(rng.normal(size=4))
        both = tf.concatenate_matrices(move, turn)
        np.testing.assert_allclose(both, move @ turn)
        np.testing.assert_allclose(tf.translation_from_matrix(both), move[:3, 3])
        np.testing.assert_allclose(
            tf.concatenate_matrices(both, tf.inverse_matrix(both)), tf.identity_matrix(), atol=1e-12
        )
    np.testing.assert_array_equal(tf.concatenate_matrices(), np.identity(4))


def test_a_rotation_about_an_axis_through_a_point_leaves_the_axis_and_is_read_back(rng):
    for _ in range(50):
        angle, axis, point = rng.uniform(-6, 6), rng.normal(size=3), rng.normal(size=3)
        matrix = tf.rotation_matrix(angle, axis, point)
        np.testing.assert_allclose(matrix @ np.append(point + 2 * axis, 1), np.append(point + 2 * axis, 1), atol=1e-12)
        np.testing.assert_allclose(
            matrix[:3, :3], Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix(), atol=1e-12
        )
        again, direction, on_axis = tf.rotation_from_matrix(matrix)
        assert 0 <= again <= math.pi
        np.testing.assert_allclose(tf.rotation_matrix(again, direction, on_axis), matrix, atol=1e-7)
    np.testing.assert_allclose(tf.rotation_matrix(*tf.rotation_from_matrix(np.identity(4))), np.identity(4))


def test_what_is_no_rotation_about_an_axis_is_not_read_as_one():
    with pytest.raises(ValueError, match="moves along"):
        tf.rotation_from_matrix(
            tf.concatenate_matrices(tf.translation_matrix((0, 0, 1)), tf.rotation_matrix(1, (0, 0, 1)))
        )
    with pytest.raises(ValueError, match="no rotation"):
        tf.rotation_from_matrix(np.diag((2.0, 2.0, 2.0, 1.0)))


def test_composing_scales_shears_turns_and_moves_and_decomposing_gives_them_back(rng):
    for _ in range(50):
        scale, shear, move = rng.uniform(0.2, 3, 3), rng.normal(size=3), rng.normal(size=3)
        angles = rng.uniform(-1.4, 1.4, 3)
        matrix = tf.compose_matrix(scale, shear, angles, move)
        for got, expected in zip(tf.decompose_matrix(matrix), (scale, shear, angles, move), strict=False):
            np.testing.assert_allclose(got, expected, atol=1e-7)
        np.testing.assert_allclose(
            np.abs(np.dot(tf.quaternion_from_matrix(matrix), tf.quaternion_from_euler(*angles))),
            1.0,
            atol=1e-9,
        )
    np.testing.assert_array_equal(tf.compose_matrix(), np.identity(4))
    np.testing.assert_allclose(tf.compose_matrix(scale=(2, 3, 4)) @ (1, 1, 1, 1), (2, 3, 4, 1))
    with pytest.raises(ValueError, match="perspective"):
        tf.compose_matrix(perspective=(0, 0, 0, 1))


def test_same_transforms_are_the_same_up_to_their_common_factor():
    matrix = tf.euler_matrix(1, 2, 3)
    assert tf.is_same_transform(matrix, 2 * matrix)
    assert not tf.is_same_transform(matrix, tf.euler_matrix(1, 2, 3.01))


# --- vectors ------------------------------------------------------------------------------------------------
def test_norms_and_unit_vectors_are_taken_along_the_axis_asked_for(rng):
    values = rng.normal(size=(4, 5, 3))
    assert tf.vector_norm((3, 4)) == 5.0
    np.testing.assert_allclose(tf.vector_norm(values, axis=1), np.linalg.norm(values, axis=1))
    np.testing.assert_allclose(tf.unit_vector((3, 4)), (0.6, 0.8))
    np.testing.assert_allclose(np.linalg.norm(tf.unit_vector(values, axis=-1), axis=-1), 1.0)
    out = np.empty_like(values)
    assert tf.unit_vector(values, axis=1, out=out) is None
    np.testing.assert_allclose(out, tf.unit_vector(values, axis=1))
    lengths = np.empty((4, 3))
    assert tf.vector_norm(values, axis=1, out=lengths) is None
    np.testing.assert_allclose(lengths, np.linalg.norm(values, axis=1))
