# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""From noise to actions: the expert's velocity field, integrated (spec section 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from .engine_options import EULER, SOLVERS
from .guidance import Guidance


class Expert(Protocol):
    """ActionExpert, or what computes the same."""

    @property
    def dtype(self) -> torch.dtype: ...

    def context(self, key_values: Any, visible: Any) -> Any: ...

    def modulations(self, time: torch.Tensor) -> Any: ...

    def rope(self, length: int) -> tuple[torch.Tensor, torch.Tensor] | None: ...

    def __call__(self, actions: torch.Tensor, context: Any, modulations: Any, rope: Any) -> torch.Tensor: ...


def flow_times(steps: int, solver: str = EULER) -> list[float]:
    """The flow times 0 (noise) .. 1 (data) at which the velocity is asked for, in that order."""
    return [(index + share) / steps for index in range(steps) for share in SOLVERS[solver]]


def sample_flow(
    expert: Expert,
    context: Any,
    noise: torch.Tensor,
    modulations: Sequence[Any],
    valid_dims: torch.Tensor | None,
    guidance: Guidance | None = None,
    solver: str = EULER,
) -> torch.Tensor:
    """Integrates from noise (B, T, max_action_dim) to actions. modulations: the expert's, at `flow_times`.

    valid_dims: bool (max_action_dim,), False for the padding that is held at zero; None holds nothing.
    guidance: the running chunk, where the new one is to continue it. The chunk is kept in float32 whatever the
    expert's type, so that half-precision sums do not lose the small steps.
    """
    shares = SOLVERS[solver]
    steps, rope = len(modulations) // len(shares), expert.rope(noise.shape[1])
    chunk = noise = noise.float() if valid_dims is None else noise.float() * valid_dims

    def slope(chunk: torch.Tensor, evaluation: int) -> torch.Tensor:
        time = (evaluation // len(shares) + shares[evaluation % len(shares)]) / steps

        def field(noisy: torch.Tensor) -> torch.Tensor:
            # Masked on both sides, so that no gradient leads into the padding.
            noisy = noisy if valid_dims is None else noisy * valid_dims
            velocity = expert(noisy.to(expert.dtype), context, modulations[evaluation], rope).float()
            return velocity if valid_dims is None else velocity * valid_dims

        return field(chunk) if guidance is None else guidance.velocity(field, chunk, time)

    for index in range(steps):
        if guidance is not None:
            chunk = guidance.put_back(chunk, noise, index / steps)
        chunk = chunk + _step(chunk, index * len(shares), shares, steps, slope) / steps
    return chunk if guidance is None else guidance.put_back(chunk, noise, 1.0)


def _step(
    chunk: torch.Tensor,
    evaluation: int,
    shares: tuple[float, ...],
    steps: int,
    slope: Callable[[torch.Tensor, int], torch.Tensor],
) -> torch.Tensor:
    """The velocity of one step."""
    first = slope(chunk, evaluation)
    if len(shares) == 1:
        return first
    second = slope(chunk + first * (shares[1] / steps), evaluation + 1)
    return second if shares[1] < 1.0 else (first + second) / 2
