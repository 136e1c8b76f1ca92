# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a model in training does with a few frames, drawn beside what was wanted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from molmoact2_data.streaming import Share, Stream, TrainingFrame

from ..depth import checkpoint_decoder
from ..errors import ModelError
from ..policy import MolmoAct2Policy
from ..results import InferenceResult
from ..session import Session

FRAMES, APART = 4, 100    # so many, out of a buffer of so many, so that they are of different episodes


def frames_to_draw(shares: Sequence[Share], horizon: int, every: int, shift: bool) -> list[TrainingFrame]:
    """Always the same ones."""
    return list(itertools.islice(iter(Stream(shares, horizon, 0, every=every, shift=shift, buffer=APART)), FRAMES))


class Pictures:
    """Draws samples with the engine itself. cameras: in the model's order; files: folder with the checkpoint's files;
    depth: of sessions; fast_tokenizer: folder, for actions as tokens, else empty."""

    def __init__(
        self, policy: MolmoAct2Policy, norm_tag: str, cameras: Sequence[str], files: Path, depth: str,
        fast_tokenizer: str,
    ):
        self._policy, self._cameras, self._files, self._depth = policy, tuple(cameras), files, depth
        self._session: dict[str, Any] = {"norm_tag": norm_tag, "depth": depth}
        if fast_tokenizer:
            self._session |= {"action_mode": "discrete", "fast_tokenizer": fast_tokenizer}

    def draw(self, frames: Sequence[TrainingFrame], goal: Path) -> None:
        """One row for each frame: the main image, depth as it was wanted and as it is said, and the chunk."""
        session = self._policy.session(**self._session)
        columns = 4 if self._depth != "off" else 2
        figure = Figure(figsize=(3.2 * (columns + 1), 2.8 * len(frames)), layout="constrained")
        grid = figure.add_gridspec(len(frames), columns + 1)
        for row, frame in enumerate(frames):
            said = self._said(session, frame)
            image = figure.add_subplot(grid[row, 0])
            image.imshow(frame.images[self._cameras[0]])
            image.set_title(f"{frame.instruction}\nepisode {frame.episode}, frame {frame.frame}", fontsize=8)
            image.set_axis_off()
            if self._depth != "off":
                told = said.trace.depth_codes if isinstance(said, InferenceResult) else None
                for place, (name, codes) in enumerate((("wanted", frame.depth_codes), ("said", told))):
                    self._map(figure.add_subplot(grid[row, 1 + place]), name, codes)
            _chunk(figure.add_subplot(grid[row, columns - 1 :]), frame, said)
        goal.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(goal, dpi=90)

    def _said(self, session: Session, frame: TrainingFrame) -> InferenceResult | str:
        """Or why nothing: early in training codes need not end."""
        session.reset()
        try:
            return session.infer([frame.images[c] for c in self._cameras], frame.state, frame.instruction, seed=0)
        except ModelError as error:
            return str(error)

    def _map(self, axes: Axes, name: str, codes: np.ndarray | None) -> None:
        axes.set_title(f"depth, {name}" if codes is not None else f"no depth {name}", fontsize=8)
        axes.set_axis_off()
        depth = self._policy.config.depth
        if codes is not None and depth is not None:
            grid = checkpoint_decoder(self._files).decode(codes.astype(np.int64).reshape(depth.grid))
            axes.imshow(grid.shares(), vmin=0, vmax=1)


def _chunk(axes: Axes, frame: TrainingFrame, said: InferenceResult | str) -> None:
    until = int(frame.valid.sum())
    wanted = axes.plot(frame.chunk[:until], marker=".", markersize=3)
    axes.set_prop_cycle(None)
    if isinstance(said, InferenceResult):
        axes.plot(said.actions, "--")
        axes.set_title("chunk: lines wanted, dashes said", fontsize=8)
    else:
        axes.set_title(f"no chunk: {said}"[:80], fontsize=8)
    axes.legend(wanted, [str(index) for index in range(frame.chunk.shape[1])], fontsize=6, loc="upper right")
    axes.set_xlabel("step", fontsize=7)
    axes.tick_params(labelsize=7)
