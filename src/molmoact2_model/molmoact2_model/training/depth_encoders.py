# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""From a depth image to its codes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..depth import METRES, Codebook, codebook_content, read_codebook
from ..errors import CheckpointError
from .depth_cells import QUANTILE, SIDE, cell_depths, rule
from .depth_codebook import CodingError, DepthCounts, coding_error, encode


class DepthEncoder(Protocol):
    """encode: int16 (100,), row-major, of a depth image uint16 (h, w) in millimetres; None where nothing was measured.
    about: what a reader of the codes must know. error: of the codes made so far, where they have a scale."""

    def encode(self, image: np.ndarray) -> np.ndarray | None: ...

    def about(self) -> dict[str, Any]: ...

    def error(self) -> CodingError | None: ...


class CodebookEncoder:
    """The nearest entry to the distance of each cell (see depth_cells.py)."""

    def __init__(self, codebook: Codebook, quantile: float = QUANTILE):
        self._codebook, self._quantile, self._rule = codebook, quantile, rule(quantile)
        self._seen = DepthCounts()

    def encode(self, image: np.ndarray) -> np.ndarray | None:
        depths = cell_depths(image, self._quantile)
        if depths is None:
            return None
        self._seen.add(depths)
        return encode(depths, self._codebook)

    def about(self) -> dict[str, Any]:
        return {"cells": self._rule, "codebook": codebook_content(self._codebook)}

    def error(self) -> CodingError | None:
        return coding_error(self._seen, self._codebook) if self._seen.counts.any() else None


class NetworkEncoder:
    """The encoder of a VQ-VAE in the published layout. Errors: CheckpointError that names what does not fit."""

    def __init__(self, path: Path):
        from ..depth_vqvae import VqVaeEncoder  # needs torch

        self._network = VqVaeEncoder(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self._about = {"file": path.name, "sha256": digest, "codes": self._network.codes}

    def encode(self, image: np.ndarray) -> np.ndarray | None:
        return self._network.encode(image, SIDE)

    def about(self) -> dict[str, Any]:
        return {"cells": {"grid": [SIDE, SIDE]}, "network": self._about}

    def error(self) -> CodingError | None:
        return None


def metric_codebook(path: Path) -> Codebook:
    """A codebook that distances can be coded with. Errors: CheckpointError for one without a scale."""
    codebook = read_codebook(path)
    if codebook.unit != METRES:
        raise CheckpointError(f"{path}: unit is {codebook.unit!r}; distances are coded by one in {METRES!r} only")
    return codebook
