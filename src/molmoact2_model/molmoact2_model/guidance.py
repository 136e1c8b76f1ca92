# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking (Black, Galliker, Levine 2025): the new chunk is drawn towards the one being executed.

Our flow time t runs from 0 (noise) to 1 (data). With A the noisy chunk, v its velocity, the predicted chunk is
P = A + (1 - t) v; Y is the running chunk in the new chunk's time, W its weights. All in the model's range.

* "gradient": v' = v + min(beta, (1 - t) / (t r^2)) (dP/dA)^T (W (Y - P)), r^2 = (1 - t)^2 / (t^2 + (1 - t)^2).
  The gradient crosses the expert, once per flow step; the language model is not touched.
* "replace": before each step the frozen waypoints are put back as the running chunk, noised to t; no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .errors import InputError

MODES = ("gradient", "replace")
LARGEST_BETA = 20.0    # beyond it Euler steps of the guided flow overshoot: errors were seen to grow

Velocity = Callable[[torch.Tensor], torch.Tensor]


def guidance_weights(horizon: int, known: int, frozen: int, overlap: int) -> np.ndarray:
    """How strongly each of `horizon` waypoints is held to the running chunk, float32 (horizon,).

    known: waypoints of the new chunk that the running one reaches; frozen: those executed before the new chunk can
    arrive (d in the paper); overlap: waypoints of the running chunk less the whole ones between the two chunks' stamps
    (H - s). 1 before `frozen`, falling exponentially towards `overlap`, 0 from `known` on.
    """
    index = np.arange(horizon, dtype=np.float64)
    share = (overlap - index) / (overlap - frozen + 1)
    falling = share * np.expm1(share) / np.expm1(1.0)
    weights = np.where(index < frozen, 1.0, np.where(index < known, falling, 0.0))
    return weights.astype(np.float32)


def guidance_factor(time: float, beta: float) -> float:
    """min(beta, (1 - t) / (t r^2)); beta at t = 0 and, where a solver looks there, at t = 1."""
    if not 0.0 < time < 1.0:
        return beta
    spread = time**2 + (1.0 - time) ** 2
    return min(beta, spread / (time * (1.0 - time)))


@dataclass(frozen=True)
class Running:
    """The chunk being executed, at the waypoints of the new one. prefix: float32 (K, D); frozen, overlap: of
    `guidance_weights`."""

    prefix: np.ndarray
    frozen: int
    overlap: int


@dataclass(frozen=True)
class Guidance:
    """The running chunk for one call.

    target: float32 (T, max_action_dim), the model's range, zero where it does not reach; weights: float32
    (T, max_action_dim), zero there and in padded dimensions; frozen: bool (T, 1); beta: the largest factor.
    """

    mode: str
    target: torch.Tensor
    weights: torch.Tensor
    frozen: torch.Tensor
    beta: float

    def velocity(self, field: Velocity, chunk: torch.Tensor, time: float) -> torch.Tensor:
        """The guided velocity of a noisy chunk (B, T, max_action_dim) at a flow time."""
        if self.mode == "replace":
            return field(chunk)
        with torch.enable_grad():
            leaf = chunk.detach().requires_grad_()
            velocity = field(leaf)
            predicted = leaf + (1.0 - time) * velocity
            error = self.weights * (self.target - predicted.detach())
            (pull,) = torch.autograd.grad(predicted, leaf, error)
        return velocity.detach() + guidance_factor(time, self.beta) * pull

    def put_back(self, chunk: torch.Tensor, noise: torch.Tensor, time: float) -> torch.Tensor:
        """A noisy chunk at a flow time with its frozen waypoints as they are known to be."""
        if self.mode != "replace":
            return chunk
        held = self.frozen & (self.weights > 0)
        return torch.where(held, (1.0 - time) * noise + time * self.target, chunk)


def make_guidance(
    mode: str, running: Running, first: int, shape: tuple[int, int], beta: float, device: torch.device
) -> Guidance:
    """running: in the model's range; it begins at row `first` of the chunk of `shape` (T, max_action_dim)."""
    horizon, width = shape
    known, dims = running.prefix.shape
    target, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    target[first : first + known, :dims] = running.prefix
    falling = guidance_weights(horizon - first, known, running.frozen, running.overlap)
    weights[first:, :dims] = falling[:, None]
    held = (np.arange(horizon) >= first) & (np.arange(horizon) < first + running.frozen)
    y, w, f = (torch.from_numpy(array).to(device) for array in (target, weights, held[:, None]))
    return Guidance(mode, y, w, f, beta)


def check_running(
    prefix: np.ndarray | None, frozen: int, overlap: int | None, horizon: int, dims: int
) -> Running | None:
    """The running chunk in physical units, K <= horizon; None where there is none.

    Waypoints past the horizon are cut off: the running chunk may be the longer one. Errors: InputError.
    """
    for name, count in (("frozen", frozen), ("overlap", 0 if overlap is None else overlap)):
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 0:
            raise InputError(f"{name} is {count!r}, expected a count of waypoints >= 0")
    if prefix is None:
        if frozen:
            raise InputError(f"frozen is {frozen} but no prefix was given: pass the running chunk it freezes")
        return None
    try:
        values = np.array(prefix, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"prefix is not a table of numbers: {error}") from None
    if values.ndim != 2 or values.shape[1] != dims or len(values) == 0:
        raise InputError(f"prefix has shape {values.shape}, expected (waypoints >= 1, {dims})")
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        row, column = bad[0]
        raise InputError(f"prefix waypoint {row} value {column} is {values[row, column]}, expected finite numbers")
    values = values[:horizon]
    if frozen > len(values):
        raise InputError(f"frozen is {frozen}, but the prefix has {len(values)} waypoints within the horizon")
    overlap = len(values) if overlap is None else int(overlap)
    if overlap < len(values):
        raise InputError(f"overlap is {overlap}, expected at least the prefix's {len(values)} waypoints in the horizon")
    return Running(values, int(frozen), overlap)


def check_beta(beta: float) -> float:
    number = isinstance(beta, (int, float)) and not isinstance(beta, bool)
    if not number or not 0 <= beta <= LARGEST_BETA:    # not a number is no number in that range
        raise InputError(f"rtc_beta is {beta!r}, expected a number from 0 to {LARGEST_BETA:g}")
    return float(beta)
