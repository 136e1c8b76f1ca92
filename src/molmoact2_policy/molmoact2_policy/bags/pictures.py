# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Images in a bag: exactly as they come, lossless (PNG), or as JPEG; compressed ones as image_transport names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore

from .errors import BagError

EXACT, LOSSLESS, JPEG = "exact", "lossless", "jpeg"
MODES = (EXACT, LOSSLESS, JPEG)
FACT = "molmoact2_images"          # of what is kept besides messages: mode, quality, topics that are compressed
LOSSY = "molmoact2_lossy_images"   # "yes" or "no"
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
SUFFIX = "/compressed"             # behind the topic's name
FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1)
BYTE_CHANNELS = {
    "mono8": 1, "8UC1": 1, "bayer_rggb8": 1, "bayer_bggr8": 1, "bayer_gbrg8": 1, "bayer_grbg8": 1,
    "rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "8UC4": 4,
}
WIDE = ("mono16", "16UC1")         # one channel of two bytes
REVERSED = {"rgb8": cv2.COLOR_RGB2BGR, "rgba8": cv2.COLOR_RGBA2BGRA}
AS_JPEG = ("mono8", "8UC1", "rgb8", "bgr8", "8UC3")    # JPEG has no more channels


class Pictures:
    """Compresses the images of some topics on their way into a bag.

    mode: one of MODES. quality: of JPEG, 1 … 100. topics: of sensor_msgs/Image. as_it_came: told once of a topic that
    has an image which the transport cannot hold; such images are recorded as they come. Errors: BagError.
    """

    def __init__(self, mode: str, quality: int, topics: Collection[str], as_it_came: Callable[[str], None]):
        if mode not in MODES:
            raise BagError(f"images {mode!r} is not known; there are: {', '.join(MODES)}")
        if not 1 <= quality <= 100:
            raise BagError(f"the quality of JPEG is {quality}; it must be 1 … 100")
        self._mode, self._quality, self._as_it_came = mode, quality, as_it_came
        self.topics = frozenset() if mode == EXACT else frozenset(topics)
        self._others: set[str] = set()
        self._store = get_typestore(Stores.ROS2_JAZZY)

    @property
    def facts(self) -> dict[str, str]:
        said: dict[str, object] = {"mode": self._mode, "topics": sorted(self.topics)}
        if self._mode == JPEG:
            said["quality"] = self._quality
        return {FACT: json.dumps(said), LOSSY: "yes" if self._mode == JPEG and self.topics else "no"}

    def change(self, topic: str, data: bytes) -> tuple[str, bytes]:
        """The topic and the message (CDR) to write instead."""
        if topic not in self.topics:
            return topic, data
        image: Any = self._store.deserialize_cdr(data, IMAGE)
        packed = self._pack(image)
        if packed is None:
            if topic not in self._others:
                self._others.add(topic)
                self._as_it_came(topic)
            return topic, data
        form, content = packed
        message = self._store.types[COMPRESSED](image.header, form, content)
        return topic + SUFFIX, bytes(self._store.serialize_cdr(message, COMPRESSED))

    def _pack(self, image: Any) -> tuple[str, np.ndarray] | None:
        """The format and the compressed pixels; None where these would not be the same image again."""
        pixels = _pixels(image)
        if pixels is None or (self._mode == JPEG and image.encoding not in AS_JPEG):
            return None
        if image.encoding in REVERSED:
            pixels = cv2.cvtColor(pixels, REVERSED[image.encoding])
        if self._mode == JPEG:
            done, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        else:
            done, content = cv2.imencode(".png", pixels, FAST)
        stored = {3: "bgr8", 4: "bgra8"}.get(pixels.shape[-1] if pixels.ndim == 3 else 1, image.encoding)
        kind = "jpeg" if self._mode == JPEG else "png"
        return (f"{image.encoding}; {kind} compressed {stored}", content) if done else None


def _pixels(image: Any) -> np.ndarray | None:
    """The pixels of an image without padding and of the common kinds; None for any other."""
    wide = image.encoding in WIDE
    channels = 1 if wide else BYTE_CHANNELS.get(image.encoding, 0)
    if not channels or (wide and image.is_bigendian) or not image.width or not image.height:
        return None
    if image.step != image.width * channels * (2 if wide else 1) or len(image.data) != image.height * image.step:
        return None
    pixels = image.data.view("<u2") if wide else image.data
    return pixels.reshape((image.height, image.width) if channels == 1 else (image.height, image.width, channels))


class Unpacker:
    """Gives images back what Pictures made of them. facts: of the bag. topics: compressed topic -> the image's."""

    def __init__(self, facts: Mapping[str, str]):
        try:
            said = json.loads(facts.get(FACT, "{}"))
            self.topics = {str(topic) + SUFFIX: str(topic) for topic in said.get("topics", [])}
        except (ValueError, AttributeError, TypeError) as error:
            raise BagError(f"what the bag says of its images ({FACT}) cannot be read: {error}") from error
        self._image = get_typestore(Stores.ROS2_JAZZY).types[IMAGE]

    def unpack(self, message: Any) -> Any:
        """The sensor_msgs/Image of a CompressedImage. Errors: ValueError."""
        encoding = message.format.partition(";")[0]
        pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError(f"an image of the format {message.format!r} cannot be decoded")
        if encoding in REVERSED:
            pixels = cv2.cvtColor(pixels, REVERSED[encoding])
        height, width = pixels.shape[:2]
        data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
        return self._image(message.header, height, width, encoding, 0, len(data) // height, data)
