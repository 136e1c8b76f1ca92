# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Camera images on the wire: raw arrays, or JPEG and PNG as base64 text with or without "data:image/...;base64,"."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from . import checks
from .wire import WireError, short

ENCODINGS = ("raw", "jpeg", "png")
MOST_PIXELS = 4096 * 4096    # of all images of a request: a small file may unpack to very many
MOST_SIDE = 8192


def write_picture(image: np.ndarray, encoding: str, jpeg_quality: int = 95) -> np.ndarray | str:
    """uint8 (H, W, 3) RGB as it is sent. JPEG loses detail, colour at half resolution; PNG does not."""
    if encoding == "raw":
        return image
    data = io.BytesIO()
    options: dict[str, Any] = {"quality": jpeg_quality} if encoding == "jpeg" else {"compress_level": 1}
    Image.fromarray(image).save(data, encoding.upper(), **options)
    return f"data:image/{encoding};base64,{base64.b64encode(data.getvalue()).decode()}"


def read_pictures(sent: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """The images of a request, by name, as uint8 (H, W, 3) RGB each; text is never a file's path.

    None is unpacked before the sizes of all are known. Errors: WireError.
    """
    came = {
        name: _encoded(value, name) if isinstance(value, str) else _raw(value, name) for name, value in sent.items()
    }
    pixels = 0
    for name, picture in came.items():
        width, height = _size(picture, name)
        if max(width, height) > MOST_SIDE:
            raise WireError(f"{name} has {width} x {height} pixels, over {MOST_SIDE} a side")
        pixels += width * height
        if pixels > MOST_PIXELS:
            raise WireError(
                f"the images up to {name} ({width} x {height}) have {pixels} pixels, over {MOST_PIXELS} in all; send "
                "smaller ones"
            )
    return tuple(_unpacked(picture, name) for name, picture in came.items())


def _raw(value: Any, name: str) -> np.ndarray:
    if isinstance(value, list):
        value = _listed(value, name)
    if not isinstance(value, np.ndarray):
        raise WireError(f"{name} is {short(value)}, expected uint8 (height, width, 3), or JPEG or PNG as base64")
    if value.dtype != np.uint8:
        raise WireError(f"{name} has dtype {value.dtype}, expected uint8, 0 .. 255")
    if value.ndim != 3 or value.shape[2] != 3 or 0 in value.shape:
        raise WireError(f"{name} has shape {value.shape}, expected (height, width, 3) RGB")
    return value


def _listed(value: list, name: str) -> np.ndarray:
    array = checks.listed(value, name, 3 * MOST_PIXELS)
    if array.dtype.kind not in "iu" or array.size and (array.min() < 0 or array.max() > 255):
        raise WireError(f"{name} is a list of something other than whole numbers 0 .. 255")
    return array.astype(np.uint8)


def _encoded(text: str, name: str) -> bytes:
    text = text.strip()
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise WireError(f"{name} begins with {short(head, 30)}, expected data:image/jpeg;base64,...")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WireError(f"{name} is text that is not base64 of a JPEG or PNG; paths are not opened") from None


def _size(picture: bytes | np.ndarray, name: str) -> tuple[int, int]:
    """Width and height, of a file by its head. It is opened anew to unpack it: an open one holds its texts, too."""
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0]
    with _opened(picture, name) as opened:
        if opened.mode not in ("RGB", "L"):
            raise WireError(f"{name} is a picture of mode {opened.mode}, expected RGB without transparency")
        return opened.size


def _unpacked(picture: bytes | np.ndarray, name: str) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        return picture
    with _opened(picture, name) as opened:
        return np.array(opened.convert("RGB"))


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            yield opened
    except WireError:
        raise
    except Exception as error:    # Pillow's readers raise whatever a broken file makes them
        raise WireError(f"{name} is no JPEG or PNG that can be read: {error}") from None
