# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of cameras and of joint states: each takes a sound message and gives what is sent instead.

A fault that remembers (frozen, fade, shake) is made anew each time it is switched on. Sound messages are never changed.
"""

from __future__ import annotations

import array
import copy
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from sensor_msgs.msg import Image, JointState

M = TypeVar("M", Image, JointState)
SpoilImage = Callable[[Image], list[Image]]
SpoilJoints = Callable[[JointState], list[JointState]]

COLOURS = ("rgb8", "bgr8")
FADE, DIM = 4.0, 0.25       # seconds of a fade, and the share of light that is left at its end
SHAKE = 24                  # [px] that a shaken camera is off at most, either way
LEAP = 1.0                  # [rad]
NOBODY_KNOWS = "rgb8_upside_down"


def pixels(image: Image) -> np.ndarray:
    """uint8 (height, width, 3) of a colour image, padding of its rows left out. Errors: ValueError for another kind."""
    if image.encoding not in COLOURS:
        raise ValueError(f"an image is {image.encoding!r}; faults are made of {' or '.join(COLOURS)}")
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    return rows[:, : 3 * image.width].reshape(image.height, image.width, 3)


def with_pixels(image: Image, colours: np.ndarray) -> Image:
    """The same image with other content, uint8 (height, width, 3); header and encoding stay."""
    height, width, _ = colours.shape
    other = Image(header=image.header, encoding=image.encoding, height=height, width=width, step=3 * width)
    other.data = array.array("B", colours.tobytes())
    return other


def _stamp(message: Image | JointState) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


# --- cameras ----------------------------------------------------------------------------------------------------------
def filled(level: int) -> SpoilImage:
    """Every pixel at one level, 0 .. 255."""

    def spoil(image: Image) -> list[Image]:
        return [with_pixels(image, np.full_like(pixels(image), level))]

    return spoil


def frozen_image() -> SpoilImage:
    """The first image again and again, under fresh stamps."""
    first: list[np.ndarray] = []

    def spoil(image: Image) -> list[Image]:
        if not first:
            first.append(pixels(image).copy())
        return [with_pixels(image, first[0])]

    return spoil


def frozen_stamp() -> SpoilImage:
    """Fresh images under the stamp of the first."""
    first: list[Image] = []

    def spoil(image: Image) -> list[Image]:
        if not first:
            first.append(image)
        other = with_pixels(image, pixels(image))
        other.header = copy.deepcopy(image.header)
        other.header.stamp = first[0].header.stamp
        return [other]

    return spoil


def fade() -> SpoilImage:
    """Falling light: from all of it to DIM of it within FADE seconds of the stamps, and so from there on."""
    began: list[float] = []

    def spoil(image: Image) -> list[Image]:
        if not began:
            began.append(_stamp(image))
        share = min(max((_stamp(image) - began[0]) / FADE, 0.0), 1.0)
        gain = 1.0 + share * (DIM - 1.0)
        return [with_pixels(image, np.rint(pixels(image) * gain).astype(np.uint8))]

    return spoil


def shake(seed: int = 0) -> SpoilImage:
    """Each image off by another number of pixels in both directions; what comes into view repeats the border."""
    random = np.random.default_rng(seed)

    def spoil(image: Image) -> list[Image]:
        colours = pixels(image)
        down, right = random.integers(0, 2 * SHAKE + 1, 2)
        wide = np.pad(colours, ((SHAKE, SHAKE), (SHAKE, SHAKE), (0, 0)), mode="edge")
        return [with_pixels(image, wide[down : down + image.height, right : right + image.width])]

    return spoil


def half_size(image: Image) -> list[Image]:
    """Every second pixel of every second row."""
    return [with_pixels(image, pixels(image)[::2, ::2])]


def unknown_encoding(image: Image) -> list[Image]:
    """The same bytes, said to be of a kind that nobody knows."""
    other = with_pixels(image, pixels(image))
    other.encoding = NOBODY_KNOWS
    return [other]


def dropped(message: M) -> list[M]:
    """Nothing."""
    return []


# --- joint states -----------------------------------------------------------------------------------------------------
def _copy(state: JointState) -> JointState:
    return JointState(
        header=state.header, name=list(state.name), position=list(state.position), velocity=list(state.velocity),
        effort=list(state.effort),
    )


def frozen_joints() -> SpoilJoints:
    """The first values again and again, under fresh stamps."""
    first: list[JointState] = []

    def spoil(state: JointState) -> list[JointState]:
        if not first:
            first.append(_copy(state))
        other = _copy(first[0])
        other.header = state.header
        return [other]

    return spoil


def leapt(state: JointState) -> list[JointState]:
    """The first joint a LEAP away from where it is."""
    other = _copy(state)
    other.position[0] += LEAP
    return [other]


def unordered(state: JointState) -> list[JointState]:
    """The joints in the opposite order, each with what belongs to it: sound for whoever goes by name."""
    return [
        JointState(
            header=state.header, name=list(state.name)[::-1], position=list(state.position)[::-1],
            velocity=list(state.velocity)[::-1], effort=list(state.effort)[::-1],
        )
    ]


def not_a_number(state: JointState) -> list[JointState]:
    other = _copy(state)
    other.position[0] = math.nan
    return [other]
