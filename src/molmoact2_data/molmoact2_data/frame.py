# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Other units, zeros and orders of the same values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """From a data set's numbers to the model's: model = scale * value + offset, for the values at these places."""

    places: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def to_model(self, values: np.ndarray) -> np.ndarray:
        """(..., D) of the data set -> float32 (..., D) in the norm tag's order and units."""
        return (values[..., self.places].astype(np.float64) * self.scale + self.offset).astype(np.float32)

    def equals(self, other: Frame) -> bool:
        """Whether it makes the same numbers."""
        pairs = ((self.places, other.places), (self.scale, other.scale), (self.offset, other.offset))
        return all(np.allclose(one, another) for one, another in pairs)

    @property
    def is_identity(self) -> bool:
        count = len(self.places)
        return self.equals(Frame(np.arange(count), np.ones(count), np.zeros(count)))
