# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which decoder reads the codes of a trace: the one that was named, else what the policy's checkpoint offers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from molmoact2_model import ModelError
from molmoact2_model.depth import CodeIndex, DepthDecoder, DepthMap, checkpoint_decoder, open_decoder
from molmoact2_msgs.msg import ReasoningTrace

# Where nothing tells the number of codes, the scale of the picture begins with this.
USUAL_CODES = 128


class Decoders:
    """file: a codebook or a decoder network; empty for the checkpoint's own. Errors: CheckpointError of the model."""

    def __init__(self, file: str):
        self._given = open_decoder(Path(file).expanduser()) if file else None
        self._decoder: DepthDecoder = self._given or CodeIndex(USUAL_CODES)
        self._checkpoint = ""

    @property
    def source(self) -> str:
        return self._decoder.source

    def use(self, checkpoint: str) -> str:
        """Takes what the checkpoint in a folder offers, where no file was named. Returns why it cannot, in words; then,
        and for a checkpoint that is not on this machine, codes are shown as they are."""
        if self._given is not None or checkpoint == self._checkpoint:
            return ""
        self._checkpoint, self._decoder = checkpoint, CodeIndex(USUAL_CODES)
        if not Path(checkpoint).is_dir():
            return ""
        try:
            self._decoder = checkpoint_decoder(Path(checkpoint))
        except ModelError as error:
            return str(error)
        return ""

    def decode(self, trace: ReasoningTrace) -> DepthMap | None:
        """The depth map of a trace; None where it has no codes. Errors: ValueError, molmoact2_model.ModelError."""
        rows, cols = trace.grid_rows, trace.grid_cols
        if not len(trace.codes):
            return None
        if rows * cols != len(trace.codes):
            raise ValueError(f"trace {trace.trace_id} has {len(trace.codes)} codes for a grid of {rows} x {cols}")
        codes = np.asarray(trace.codes, dtype=np.int64).reshape(rows, cols)
        if self._given is None and isinstance(self._decoder, CodeIndex) and codes.max() >= self._decoder.size:
            self._decoder = CodeIndex(int(codes.max()) + 1)
        return self._decoder.decode(codes)
