# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations and rigid transforms: the parts of the ROS package tf_transformations that programs use.

For a ROS 2 that was installed from wheels, which lack the package. Quaternions are x, y, z, w; matrices are 4
x 4 and act on columns; angles are radians. An axis sequence is "s" (axes that stay) or "r" (axes that turn
along) and three letters: "sxyz", the default, turns about fixed x, then y, then z (roll, pitch, yaw). Tuples
and arrays are returned where the ROS package returns them. A vector or quaternion of length zero has no
direction: ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
Axes = str | tuple[int, int, int, int]
Triple = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

_EPS = np.finfo(float).eps * 4.0
_LETTERS = "xyz"


# --- vectors ------------------------------------------------------------------------------------------------
def vector_norm(data: ArrayLike, axis: int | None = None, out: Array | None = None) -> Any:
    """Length of a vector (float), or lengths along an axis (array, or None if they went into out)."""
    values = np.asarray(data, dtype=np.float64)
    if out is None and values.ndim == 1:
        return float(np.linalg.norm(values))
    lengths = np.sqrt(np.sum(values * values, axis=axis))
    if out is None:
        return np.atleast_1d(lengths)
    out[...] = lengths
    return None


def unit_vector(data: ArrayLike, axis: int | None = None, out: Array | None = None) -> Any:
    """data divided by its length, or by its lengths along an axis (None if the result went into out)."""
    values = np.asarray(data, dtype=np.float64)
    lengths = np.sqrt(np.sum(values * values, axis=axis, keepdims=True))
    if np.any(lengths == 0.0) and values.size:
        raise ValueError("a vector of length zero has no direction")
    unit = values / lengths
    if out is None:
        return unit
    out[...] = unit
    return None


def random_vector(size: int) -> Array:
    """Numbers drawn evenly from 0 to 1."""
    return np.random.random(size)


# --- matrices -----------------------------------------------------------------------------------------------
def identity_matrix() -> Array:
    return np.identity(4)


def translation_matrix(direction: ArrayLike) -> Array:
    matrix = np.identity(4)
    matrix[:3, 3] = np.asarray(direction, dtype=np.float64)[:3]
    return matrix


def translation_from_matrix(matrix: ArrayLike) -> Array:
    return np.array(matrix, dtype=np.float64)[:3, 3].copy()


def concatenate_matrices(*matrices: ArrayLike) -> Array:
    """The product from left to right: the last one acts first."""
    product = np.identity(4)
    for matrix in matrices:
        product = product @ np.asarray(matrix, dtype=np.float64)
    return product


def inverse_matrix(matrix: ArrayLike) -> Array:
    """Inverse of any square matrix that has one (numpy.linalg.LinAlgError otherwise)."""
    return np.linalg.inv(np.asarray(matrix, dtype=np.float64))


def is_same_transform(matrix0: ArrayLike, matrix1: ArrayLike) -> bool:
    """Whether two matrices act alike on points, to numpy.allclose."""
    one, other = (np.asarray(m, dtype=np.float64) for m in (matrix0, matrix1))
    return bool(np.allclose(one / one[3, 3], other / other[3, 3]))


def rotation_matrix(angle: float, direction: ArrayLike, point: ArrayLike | None = None) -> Array:
    """Rotation by angle about an axis through point (the origin without one)."""
    matrix = _homogeneous(Rotation.from_rotvec(angle * _unit3(direction)).as_matrix())
    if point is not None:
        centre = np.asarray(point, dtype=np.float64)[:3]
        matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    return matrix


def rotation_from_matrix(matrix: ArrayLike) -> tuple[float, Array, Array]:
    """Angle in 0 … pi, axis (3,) and the point on it (4,), w = 1, that is closest to the origin.

    Angle and axis, both negated, would do as well. ValueError unless the matrix is a rotation about some
    axis.
    """
    whole = np.asarray(matrix, dtype=np.float64)
    turn = whole[:3, :3]
    if not (np.allclose(turn @ turn.T, np.identity(3), atol=1e-8) and np.linalg.det(turn) > 0):
        raise ValueError("the matrix is no rotation: it scales, shears or mirrors")
    rotvec = Rotation.from_matrix(turn).as_rotvec()
    angle = float(np.linalg.norm(rotvec))
    # Without a turn every axis is as good as another.
    axis = rotvec / angle if angle > 0.0 else np.array([1.0, 0.0, 0.0])
    still = np.identity(3) - turn
    point = np.linalg.lstsq(still, whole[:3, 3], rcond=1e-9)[0]
    if not np.allclose(still @ point, whole[:3, 3], atol=1e-8):
        raise ValueError("the matrix is no rotation about an axis: it also moves along it")
    return angle, axis, np.append(point, 1.0)


def random_rotation_matrix(rand: Sequence[float] | None = None) -> Array:
    return quaternion_matrix(random_quaternion(rand))


def compose_matrix(
    scale: ArrayLike | None = None,
    shear: ArrayLike | None = None,
    angles: Sequence[float] | None = None,
    translate: ArrayLike | None = None,
    perspective: ArrayLike | None = None,
) -> Array:
    """translation · rotation ("sxyz" angles) · scale · shear (x-y, x-z, y-z); perspective is not covered."""
    if perspective is not None:
        raise ValueError("compose_matrix does not cover perspective")
    xy, xz, yz = (0.0, 0.0, 0.0) if shear is None else np.asarray(shear, dtype=np.float64)
    sheared = np.array([[1.0, xy, xz], [0.0, 1.0, yz], [0.0, 0.0, 1.0]])
    scaled = np.diag(np.ones(3) if scale is None else np.asarray(scale, dtype=np.float64))
    matrix = np.identity(4) if translate is None else translation_matrix(translate)
    turn = np.identity(3) if angles is None else _rotation(angles, "sxyz").as_matrix()
    matrix[:3, :3] = turn @ scaled @ sheared
    return matrix


def decompose_matrix(matrix: ArrayLike) -> tuple[Array, Array, Triple, Array, None]:
    """What compose_matrix takes: scale, shear, "sxyz" angles, translation, and None for perspective."""
    whole = np.asarray(matrix, dtype=np.float64)
    turn, upper = _rotation_and_rest(whole[:3, :3])
    scale = np.diag(upper).copy()
    sheared = upper / scale[:, None]
    shear = np.array([sheared[0, 1], sheared[0, 2], sheared[1, 2]])
    return scale, shear, euler_from_matrix(turn), whole[:3, 3].copy(), None


def _homogeneous(turn: Array) -> Array:
    matrix = np.identity(4)
    matrix[:3, :3] = turn
    return matrix


def _unit3(vector: ArrayLike) -> Array:
    return unit_vector(np.asarray(vector, dtype=np.float64)[:3])


def _rotation_and_rest(matrix: Array) -> tuple[Array, Array]:
    """A 3 x 3 matrix as rotation times upper triangle, whose diagonal is positive (not x in mirrors)."""
    turn, upper = np.linalg.qr(matrix)
    if np.any(np.abs(np.diag(upper)) < _EPS):
        raise ValueError("the matrix flattens space, so no rotation can be read from it")
    signs = np.sign(np.diag(upper))
    if np.linalg.det(turn) * np.prod(signs) < 0.0:
        signs[0] = -signs[0]
    return turn * signs, upper * signs[:, None]


# --- Euler angles -------------------------------------------------------------------------------------------
def _sequence(axes: Axes) -> tuple[str, bool]:
    """An axis sequence's letters as fixed axes, and whether the caller's turn along (then reversed)."""
    if isinstance(axes, str):
        frame, letters = axes[:1], axes[1:]
        valid = frame in ("s", "r") and len(letters) == 3 and set(letters) <= set(_LETTERS)
        if not valid or letters[0] == letters[1] or letters[1] == letters[2]:
            raise ValueError(
                f"axes is {axes!r}; expected s or r and three of x, y, z, no two alike in a row, as 'sxyz'"
            )
        return (letters[::-1], True) if frame == "r" else (letters, False)
    # The ROS package's other notation: first axis, parity, repetition, frame.
    try:
        first, parity, repetition, turning = (int(value) for value in axes)
        second, third = (first + 1 + parity) % 3, (first + 2 - parity) % 3
        letters = "".join(_LETTERS[index] for index in (first, second, first if repetition else third))
    except (TypeError, ValueError, IndexError):
        raise ValueError(
            f"axes is {axes!r}; expected an axis sequence as 'sxyz' or four numbers as (0, 0, 0, 0)"
        ) from None
    return letters, bool(turning)


def _rotation(angles: Sequence[float], axes: Axes) -> Rotation:
    letters, turning = _sequence(axes)
    # scipy writes fixed axes in small letters.
    return Rotation.from_euler(letters, list(angles)[::-1] if turning else list(angles))


def euler_matrix(ai: float, aj: float, ak: float, axes: Axes = "sxyz") -> Array:
    """Rotation matrix (4, 4) of three angles about an axis sequence."""
    return _homogeneous(_rotation((ai, aj, ak), axes).as_matrix())


def euler_from_matrix(matrix: ArrayLike, axes: Axes = "sxyz") -> Triple:
    """Three angles about an axis sequence; matrix is 3 x 3 or 4 x 4.

    The middle angle lies in -pi/2 … pi/2, or, where the first axis comes again, in 0 … pi (-pi … 0 for
    sequences that go against x, y, z, x). Where the outer axes coincide, the last turn about a fixed axis is
    taken as 0.
    """
    turn = np.asarray(matrix, dtype=np.float64)[:3, :3]
    letters, turning = _sequence(axes)
    i, j = _LETTERS.index(letters[0]), _LETTERS.index(letters[1])
    k = 3 - i - j
    # Against x, y, z, x the same entries belong to the mirrored rotation, whose angles are all negative.
    sign = 1.0 if j == (i + 1) % 3 else -1.0
    if letters[2] == letters[0]:
        away = math.hypot(turn[i, j], turn[i, k])
        middle = math.atan2(away, turn[i, i])
        ends = (turn[i, j], turn[i, k]), (turn[j, i], -turn[k, i])
    else:
        away = math.hypot(turn[i, i], turn[j, i])
        middle = math.atan2(-turn[k, i], away)
        ends = (turn[k, j], turn[k, k]), (turn[j, i], turn[i, i])
    first, last = (math.atan2(*end) for end in ends)
    if away <= _EPS:
        first, last = math.atan2(-turn[j, k], turn[j, j]), 0.0
    angles = (sign * first, sign * middle, sign * last)
    return (angles[2], angles[1], angles[0]) if turning else angles


def euler_from_quaternion(quaternion: ArrayLike, axes: Axes = "sxyz") -> Triple:
    """Three angles about an axis sequence; see euler_from_matrix."""
    return euler_from_matrix(quaternion_matrix(quaternion), axes)


# --- quaternions --------------------------------------------------------------------------------------------
def _as_tuple(quaternion: Array) -> Quaternion:
    x, y, z, w = (float(value) for value in quaternion)
    return x, y, z, w


def quaternion_from_euler(ai: float, aj: float, ak: float, axes: Axes = "sxyz") -> Quaternion:
    """Quaternion of three angles about an axis sequence."""
    return _as_tuple(_rotation((ai, aj, ak), axes).as_quat())


def quaternion_about_axis(angle: float, axis: ArrayLike) -> Quaternion:
    """Quaternion of a rotation by angle about an axis of any length but zero."""
    x, y, z = math.sin(angle / 2.0) * _unit3(axis)
    return float(x), float(y), float(z), math.cos(angle / 2.0)


def quaternion_matrix(quaternion: ArrayLike) -> Array:
    """Rotation matrix (4, 4) of a quaternion of any length but zero."""
    return _homogeneous(Rotation.from_quat(unit_vector(quaternion)).as_matrix())


def quaternion_from_matrix(matrix: ArrayLike) -> Quaternion:
    """Quaternion with w >= 0 of a matrix's rotation; scale and shear are taken out first."""
    turn, _ = _rotation_and_rest(np.asarray(matrix, dtype=np.float64)[:3, :3])
    return _as_tuple(Rotation.from_matrix(turn).as_quat(canonical=True))


def quaternion_multiply(quaternion1: ArrayLike, quaternion0: ArrayLike) -> Quaternion:
    """The product: turning by quaternion0, then by quaternion1. Lengths multiply too."""
    one, other = (np.asarray(q, dtype=np.float64) for q in (quaternion1, quaternion0))
    vector = one[3] * other[:3] + other[3] * one[:3] + np.cross(one[:3], other[:3])
    return _as_tuple(np.append(vector, one[3] * other[3] - one[:3] @ other[:3]))


def quaternion_conjugate(quaternion: ArrayLike) -> Array:
    """The opposite turn, as an array (4,)."""
    return np.asarray(quaternion, dtype=np.float64) * (-1.0, -1.0, -1.0, 1.0)


def quaternion_inverse(quaternion: ArrayLike) -> Array:
    """What multiplies with the quaternion to (0, 0, 0, 1), as an array (4,)."""
    values = np.asarray(quaternion, dtype=np.float64)
    if not np.any(values):
        raise ValueError("a quaternion of length zero has no inverse")
    return quaternion_conjugate(values) / (values @ values)


def quaternion_slerp(
    quat0: ArrayLike, quat1: ArrayLike, fraction: float, spin: int = 0, shortestpath: bool = True
) -> Array:
    """The quaternion (4,) that lies at fraction (0 … 1) of the turn from quat0 to quat1.

    spin adds half turns on the way; with shortestpath the nearer of quat1 and -quat1 is taken as the end.
    """
    begin, end = unit_vector(quat0), unit_vector(quat1)
    if fraction in (0.0, 1.0):
        return end if fraction else begin
    cosine = float(begin @ end)
    if abs(abs(cosine) - 1.0) < _EPS:
        return begin
    if shortestpath and cosine < 0.0:
        end, cosine = -end, -cosine
    angle = math.acos(cosine) + spin * math.pi
    if abs(angle) < _EPS:
        return begin
    return (math.sin((1.0 - fraction) * angle) * begin + math.sin(fraction * angle) * end) / math.sin(angle)


def random_quaternion(rand: Sequence[float] | None = None) -> Array:
    """A unit quaternion (4,), all rotations equally likely; rand: the three numbers 0 … 1 it is made of."""
    share, first, second = np.random.random(3) if rand is None else rand
    one, other = 2.0 * math.pi * first, 2.0 * math.pi * second
    near, far = math.sqrt(1.0 - share), math.sqrt(share)
    return np.array([near * math.sin(one), near * math.cos(one), far * math.sin(other), far * math.cos(other)])
