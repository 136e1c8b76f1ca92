# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What one training step reads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from ..errors import InputError

IGNORED = -100    # a position that nothing is to be predicted at
# What a target is, so that each kind has a loss of its own: text, depth codes with their start and end, discrete
# actions, and places of what an instruction names.
TEXT, CODES, DISCRETE, PLACE = KINDS = range(4)
KIND_NAMES = ("text", "codes", "discrete", "place")


@dataclass(frozen=True)
class Look:
    """A position that is asked to look at a place. places: where that is in each image, as shares of width and height;
    None: not to be seen there."""

    position: int
    places: tuple[tuple[float, float] | None, ...]


@dataclass(frozen=True)
class Sequence:
    """One sequence of tokens about a frame. ids: int64 (S,); is_image: bool (S,); targets: int64 (S,), the token to
    predict at each position, or IGNORED; kinds: int64 (S,), of the targets; expert_sees: bool (S,). chunk: float32 (H,
    D) in the model's range, with valid bool (H,), or None."""

    ids: np.ndarray
    is_image: np.ndarray
    targets: np.ndarray
    kinds: np.ndarray
    expert_sees: np.ndarray
    chunk: np.ndarray | None = None
    valid: np.ndarray | None = None
    look: Look | None = None

    @property
    def prefix(self) -> int:
        """Tokens up to the last image's last."""
        return int(np.flatnonzero(self.is_image)[-1]) + 1


@dataclass(frozen=True)
class Batch:
    """N sequences about F frames. All begin with the same tokens up to their last image (the prefix, P tokens), which
    are computed once per frame; several sequences may be about one frame, with other instructions or questions.

    pixels: float32 (F, images, patches, patch values). prefix: int64 (P,); prefix_is_image: bool (P,), the tokens that
    see each other in both directions. frame: int64 (N,), which frame a sequence is about. tail: int64 (N, T), padded on
    the right. targets: int64 (N, T), the token to predict at each position of the tail, or IGNORED; kinds: int64 (N,
    T). expert_sees: bool (N, P + T), the tokens that the action expert attends to. actions: float32 (N, H,
    max_action_dim) in the model's range; action_is_real: bool (N, H), False past the end of an episode, everywhere in a
    sequence without actions; dim_is_real: bool (max_action_dim,). looks: int64 (N,), the position in the tail that is
    to look at places, -1: none; look_at: float32 (N, images, P), how the place in each image is shared among its
    tokens, zeros where there is none.
    """

    pixels: torch.Tensor
    prefix: torch.Tensor
    prefix_is_image: torch.Tensor
    frame: torch.Tensor
    tail: torch.Tensor
    targets: torch.Tensor
    kinds: torch.Tensor
    expert_sees: torch.Tensor
    actions: torch.Tensor
    action_is_real: torch.Tensor
    dim_is_real: torch.Tensor
    looks: torch.Tensor
    look_at: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.tail)

    def to(self, device: torch.device) -> Batch:
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return replace(self, **moved)


def collate(
    pixels: torch.Tensor, sequences: list[list[Sequence]], horizon: int, action_dim: int, max_action_dim: int,
    patch_token: int, token_grid: tuple[int, int],
) -> Batch:
    """pixels: of the frames; sequences: of each frame. Errors: InputError where prefixes differ: frames of other
    cameras belong in other batches."""
    rows = [(frame, sequence) for frame, those in enumerate(sequences) for sequence in those]
    first = rows[0][1]
    past = first.prefix
    for _, sequence in rows:
        if sequence.prefix != past or not np.array_equal(sequence.ids[:past], first.ids[:past]):
            raise InputError("the frames of a batch have other numbers of images; train each such data set by itself")
    count, longest = len(rows), max(len(sequence.ids) for _, sequence in rows) - past
    tail, targets = torch.zeros((count, longest), dtype=torch.long), torch.full((count, longest), IGNORED)
    kinds = torch.zeros((count, longest), dtype=torch.long)
    sees = torch.zeros((count, past + longest), dtype=torch.bool)
    actions = torch.zeros((count, horizon, max_action_dim))
    real = torch.zeros((count, horizon), dtype=torch.bool)
    looks, look_at = torch.full((count,), -1), torch.zeros((count, pixels.shape[1], past))
    for row, (_, sequence) in enumerate(rows):
        length = len(sequence.ids) - past
        tail[row, :length] = torch.from_numpy(sequence.ids[past:])
        targets[row, :length] = torch.from_numpy(sequence.targets[past:])
        kinds[row, :length] = torch.from_numpy(sequence.kinds[past:])
        sees[row, : past + length] = torch.from_numpy(sequence.expert_sees)
        if sequence.chunk is not None and sequence.valid is not None:
            actions[row, :, :action_dim] = torch.from_numpy(sequence.chunk)
            real[row] = torch.from_numpy(sequence.valid)
        if sequence.look is not None:
            looks[row] = sequence.look.position - past
            for image, place in enumerate(sequence.look.places):
                if place is not None:
                    is_patch = first.ids[:past] == patch_token
                    look_at[row, image] = torch.from_numpy(_shares(is_patch, token_grid, image, place))
    frame = torch.tensor([frame for frame, _ in rows])
    return Batch(
        pixels, torch.from_numpy(first.ids[:past]), torch.from_numpy(first.is_image[:past]), frame, tail, targets,
        kinds, sees, actions, real, torch.arange(max_action_dim) < action_dim, looks, look_at,
    )


def _shares(is_patch: np.ndarray, grid: tuple[int, int], image: int, place: tuple[float, float]) -> np.ndarray:
    """float32 (P,): a place shared by distance among the four tokens of an image around it."""
    (rows, cols), shares = grid, np.zeros(len(is_patch), np.float32)
    tokens = np.flatnonzero(is_patch)[image * rows * cols :][: rows * cols].reshape(rows, cols)
    across = np.clip(place[0] * cols - 0.5, 0, cols - 1)
    down = np.clip(place[1] * rows - 0.5, 0, rows - 1)
    for row in (int(down), min(int(down) + 1, rows - 1)):
        for col in (int(across), min(int(across) + 1, cols - 1)):
            shares[tokens[row, col]] += max(0.0, 1 - abs(row - down)) * max(0.0, 1 - abs(col - across))
    return shares / shares.sum()
