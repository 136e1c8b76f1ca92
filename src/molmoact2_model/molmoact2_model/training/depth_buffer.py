# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Codes of a sequence as adaptive inference would have kept them."""

from __future__ import annotations

from collections import deque

import numpy as np

from ..think import SIMILARITY_THRESHOLD, cells_of, changed_cells, resize_for_cells


class CodeBuffer:
    """The reference's rule over the frames of one episode: a cell's code is taken from the frame's own depth where its
    image changed since the frame `every` before, else kept from that frame. The first `every` frames have their own.

    every: frames from one inference to the next; 1 is what the reference annotated its data with.
    """

    def __init__(self, side: int, every: int = 1, threshold: float = SIMILARITY_THRESHOLD):
        self._side, self._threshold = side, threshold
        self._past: deque[tuple[np.ndarray, np.ndarray | None]] = deque(maxlen=every)

    def step(self, image: np.ndarray, codes: np.ndarray | None) -> tuple[np.ndarray | None, int]:
        """The codes to keep for the next frame, and how many cells were taken from an earlier one.

        image: uint8 (H, W, 3) RGB; codes: int16 (cells,), the frame's own, None where it has none. Such a frame has no
        codes, and the one that follows it has its own.
        """
        cells, kept = cells_of(resize_for_cells(image, self._side)), 0
        if codes is not None and len(self._past) == self._past.maxlen:
            before, earlier = self._past[0]
            if earlier is not None:
                changed = changed_cells(cells, before, self._threshold)
                codes, kept = np.where(changed, codes, earlier), int((~changed).sum())
        self._past.append((cells, codes))
        return codes, kept
