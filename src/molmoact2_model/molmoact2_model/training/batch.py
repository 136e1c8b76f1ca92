# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What one training step reads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

IGNORED = -100    # a position that nothing is to be predicted at


@dataclass(frozen=True)
class Batch:
    """N sequences about F frames. All begin with the same tokens up to their last image (the prefix, P tokens), which
    are computed once per frame; several sequences may be about one frame, with other instructions or questions.

    pixels: float32 (F, images, patches, patch values). prefix: int64 (P,); prefix_is_image: bool (P,), the tokens that
    see each other in both directions. frame: int64 (N,), which frame a sequence is about. tail: int64 (N, T), padded on
    the right; tail_is_real: bool (N, T). targets: int64 (N, T), the token to predict at each position of the tail, or
    IGNORED. spread: float32 (N, T), see objectives.cross_entropy. expert_sees: bool (N, P + T), the tokens that the
    action expert attends to. actions: float32 (N, H, max_action_dim) in the model's range; action_is_real: bool (N, H):
    False past the end of an episode, everywhere in a sequence without actions; dim_is_real: bool (N, max_action_dim).
    """

    pixels: torch.Tensor
    prefix: torch.Tensor
    prefix_is_image: torch.Tensor
    frame: torch.Tensor
    tail: torch.Tensor
    tail_is_real: torch.Tensor
    targets: torch.Tensor
    spread: torch.Tensor
    expert_sees: torch.Tensor
    actions: torch.Tensor
    action_is_real: torch.Tensor
    dim_is_real: torch.Tensor

    @property
    def size(self) -> int:
        return len(self.tail)

    def to(self, device: torch.device) -> Batch:
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return replace(self, **moved)
