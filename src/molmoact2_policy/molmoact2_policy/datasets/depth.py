# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The depth images of a recorded run, beside the frames of a dataset."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from molmoact2_contract import Contract, NormTag
from molmoact2_contract.messages import BRIDGE, stamp_ns
from molmoact2_data.depth_images import to_millimetres

from ..bags.bag import Bag, BagError
from ..bags.pictures import IMAGE
from ..report.run import resolved

MILLIMETRES, METRES = ("16UC1", "mono16"), ("32FC1",)
AROUND_NS = 1_000_000_000    # time of arrival, before and after a frame's, in which its depth image is looked for


def read_depth(topic: str, message: Any) -> np.ndarray:
    """uint16 (h, w), millimetres along the optical axis, 0 where nothing was measured. Errors: BagError."""
    if message.encoding not in (*MILLIMETRES, *METRES):
        raise BagError(
            f"{topic}: its encoding is {message.encoding!r}; a depth image is 16UC1 (millimetres) or 32FC1 (metres)"
        )
    try:
        pixels = BRIDGE.imgmsg_to_cv2(message, "passthrough")
    except Exception as error:    # as in pixels_of
        raise BagError(f"{topic}: {error}") from error
    return to_millimetres(pixels) if message.encoding in METRES else pixels.astype(np.uint16)


class DepthTrack:
    """One camera's depth images in a bag, in order. camera: of the norm tag; topic: of sensor_msgs/Image in the bag.

    size: (height, width) of the first. blind: frames that were asked for and have none. Errors: BagError.
    """

    def __init__(self, bag: Bag, contract: Contract, tag: NormTag, camera: str, topic: str):
        self.topic = resolved(topic)
        if camera not in tag.cameras:
            raise BagError(f"--depth {camera}: norm tag {tag.name} has the cameras {', '.join(tag.cameras)}")
        if bag.types.get(self.topic) != IMAGE:
            images = ", ".join(sorted(name for name, kind in bag.types.items() if kind == IMAGE)) or "none"
            raise BagError(f"bag {bag.path} has no {IMAGE} on {self.topic}; topics with images: {images}")
        self._limit = int(contract.skew_limit * 1e9)
        self._coming = ((receive_ns, message) for _, _, message, receive_ns in bag.messages({self.topic}))
        self._next = next(self._coming, None)
        if self._next is None:
            raise BagError(f"bag {bag.path} holds no image on {self.topic}")
        self.size = read_depth(self.topic, self._next[1]).shape
        self._held: deque[tuple[int, Any]] = deque()
        self.blind = 0

    def nearest(self, stamp: int, receive_ns: int) -> np.ndarray:
        """The image captured nearest to a stamp [ns], as read_depth gives it; all 0 where none was within the
        contract's skew_limit. receive_ns: when the frame came; no earlier than that of the frame before. Order is
        known by it alone: stamps are set back with a clock."""
        while self._next is not None and self._next[0] <= receive_ns + AROUND_NS:
            self._held.append(self._next)
            self._next = next(self._coming, None)
            self._drop(receive_ns)
        self._drop(receive_ns)
        best = min((message for _, message in self._held), key=lambda m: abs(stamp_ns(m) - stamp), default=None)
        if best is None or abs(stamp_ns(best) - stamp) > self._limit:
            self.blind += 1
            return np.zeros(self.size, np.uint16)
        return read_depth(self.topic, best)

    def _drop(self, receive_ns: int) -> None:
        while self._held and self._held[0][0] < receive_ns - AROUND_NS:
            self._held.popleft()
