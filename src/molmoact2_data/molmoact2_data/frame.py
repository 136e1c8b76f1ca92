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
