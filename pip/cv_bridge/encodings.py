# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Image encodings (sensor_msgs/image_encodings.hpp): what is in a pixel, and conversions between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

DTYPES = {
    "8U": "uint8",
    "8S": "int8",
    "16U": "uint16",
    "16S": "int16",
    "32S": "int32",
    "32F": "float32",
    "64F": "float64",
}
DEPTHS = {dtype: depth for depth, dtype in DTYPES.items()}
# OpenCV 5 packs depth and channels with other shifts than OpenCV 4, so the shift is asked for.
_CHANNEL_STEP = cv2.CV_8UC2 - cv2.CV_8UC1


class CvBridgeError(TypeError):
    """An image or message that cannot be converted; the text says which and why."""


@dataclass(frozen=True)
class Layout:
    """A pixel: numpy dtype name, channels, and what the channels mean (None: numbers without a colour)."""

    dtype: str
    channels: int
    colour: str | None = None

    @property
    def cvtype(self) -> str:
        """OpenCV's name of the layout, as 8UC3."""
        return f"{DEPTHS[self.dtype]}C{self.channels}"


def _named_layouts() -> dict[str, Layout]:
    layouts = {}
    for bits in (8, 16):
        for name, channels in (("mono", 1), ("rgb", 3), ("bgr", 3), ("rgba", 4), ("bgra", 4)):
            colour = "GRAY" if name == "mono" else name.upper()
            layouts[f"{name}{bits}"] = Layout(f"uint{bits}", channels, colour)
        for pattern in ("rggb", "bggr", "gbrg", "grbg"):
            layouts[f"bayer_{pattern}{bits}"] = Layout(f"uint{bits}", 1, f"Bayer{pattern.upper()}")
    # Each layout has an old name and the one that replaced it.
    layouts["yuv422"] = layouts["uyvy"] = Layout("uint8", 2, "UYVY")
    layouts["yuv422_yuy2"] = layouts["yuyv"] = Layout("uint8", 2, "YUY2")
    return layouts


NAMED = _named_layouts()
_PLAIN = ("GRAY", "RGB", "BGR", "RGBA", "BGRA")


@lru_cache(maxsize=256)
def layout_of(encoding: str) -> Layout:
    """The layout of an encoding's name; CvBridgeError when there is none."""
    named = NAMED.get(encoding)
    if named is not None:
        return named
    generic = re.fullmatch(r"(8U|8S|16U|16S|32S|32F|64F)(?:C([1-9][0-9]*))?", encoding)
    if generic is None:
        raise CvBridgeError(
            f"unrecognized image encoding [{encoding}]; expected one of {', '.join(sorted(NAMED))} "
            "or depth and channels as in 8UC3, 16UC1, 32FC1"
        )
    return Layout(DTYPES[generic[1]], int(generic[2] or 1))


def getCvType(encoding: str) -> int:
    """OpenCV's number of an encoding's type, as cv2.CV_8UC3."""
    layout = layout_of(encoding)
    return cv2.CV_MAKETYPE(getattr(cv2, f"CV_{DEPTHS[layout.dtype]}"), layout.channels)


def layout_of_cvtype(cvtype: int) -> tuple[str, int]:
    """numpy dtype name and channels of OpenCV's number of a type."""
    channels, depth = divmod(cvtype, _CHANNEL_STEP)
    for name, dtype in DTYPES.items():
        if getattr(cv2, f"CV_{name}") == depth:
            return dtype, channels + 1
    raise CvBridgeError(f"OpenCV type {cvtype} has a depth that no ROS image encoding has")


def convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """Converts an image (height, width[, channels]) in native byte order into a new one.

    Between colours OpenCV's conversion is taken, then the depth's. 8 and 16 bit stand for the same range, so
    values are scaled by 257 between them; to and from other depths they stay what they are, rounded and
    clipped to the target's range.
    """
    if target in ("", source):
        return image.copy()
    given, have, want = image, layout_of(source), layout_of(target)
    if have.colour is None and want.colour is not None:
        raise CvBridgeError(
            f"[{source}] says nothing about colour, so it cannot become [{target}]; "
            "a publisher that means a colour must name it in the message's encoding"
        )
    if have.colour is None or want.colour is None:
        if have.channels != want.channels:
            raise CvBridgeError(
                f"cannot convert [{source}] to [{target}]: {have.channels} and {want.channels} channels"
            )
    elif have.colour != want.colour:
        try:
            image = cv2.cvtColor(image, _colour_code(have.colour, want.colour, source, target))
        except cv2.error as error:
            raise CvBridgeError(f"cannot convert this image from [{source}] to [{target}]: {error}") from error
    converted = _to_depth(image, want.dtype)
    return converted.copy() if converted is given else converted


def _colour_code(have: str, want: str, source: str, target: str) -> int:
    name = None
    if want in _PLAIN:
        if have in _PLAIN:
            name = f"COLOR_{have}2{want}"
        elif have in ("UYVY", "YUY2"):
            name = f"COLOR_YUV2{want}_{have}"
        elif want in ("GRAY", "RGB", "BGR"):
            name = f"COLOR_{have}2{want}"
    if name is None:
        raise CvBridgeError(f"unsupported conversion from [{source}] to [{target}]")
    return getattr(cv2, name)


def _to_depth(image: np.ndarray, dtype: str) -> np.ndarray:
    have, want = image.dtype, np.dtype(dtype)
    if have == want:
        return image
    scale = {(1, 2): 257.0, (2, 1): 1.0 / 257.0}.get((have.itemsize, want.itemsize), 1.0)
    if want.kind == "f":
        return image.astype(want)
    values = image.astype(np.float64) * scale
    limits = np.iinfo(want)
    # A pixel without a value (NaN in float depth images) is 0 in integer ones.
    return np.clip(np.nan_to_num(np.rint(values), nan=0.0), limits.min, limits.max).astype(want)
