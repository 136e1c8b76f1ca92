# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a call of a session gives back, and what its engine gives it of depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trace:
    """What the model saw and decided in one call. The arrays over depth cells are empty where depth is off."""

    prompt: str  # each image shown as its placeholder
    input_ids: (
        np.ndarray
    )  # int64 (S,): what the actions are conditioned on; the prompt, and the depth tokens if any
    generated_token_ids: np.ndarray  # int64: depth tokens with start and end, then discrete action tokens
    depth_codes: np.ndarray  # int64 (cells,), row-major, top left first
    refreshed: np.ndarray  # bool (cells,): generated in this call; "verified": other than in the last call
    cell_ages: np.ndarray  # int64 (cells,): how many calls ago the code was generated; 0 where refreshed
    code_probs: (
        np.ndarray
    )  # float32 (cells,): probability over the codebook in the call that generated the code
    # "off", "full", "verified", "adaptive", "adaptive_verified" (with a draft), or "forced": an adaptive session, with
    # a draft or without, looked at every code
    depth_mode: str
    cause: str  # of a forced pass, e.g. "first_call"; else empty
    # Steps of decoding after the prefill: start, each generated code, each run of reused ones (or each pass over a
    # draft), end. The engine takes several in one pass of the language model where it can.
    decoder_steps: int
    reused_runs: int  # runs of reused codes, each replayed in one step
    seed: int | None  # of the flow's noise; None where noise was given or none is used
    timings: dict[str, float]  # stage -> seconds; "total" is the whole call
    warnings: tuple[str, ...]
    # The session's clock [s] before and after depth was reasoned, by which pauses are judged; None where depth is
    # not adaptive.
    clock: tuple[float, float] | None = None


@dataclass(frozen=True)
class InferenceResult:
    """`actions`: float32 (n_action_steps, D), un-normalised, in the checkpoint's own frame and units."""

    actions: np.ndarray
    trace: Trace


@dataclass(frozen=True)
class Reasoning:
    """Depth codes int64 (cells,), which of them were generated anew bool (cells,), the cause of a forced full pass, and
    the steps of decoding after the prefill, as in Trace."""

    codes: np.ndarray
    refreshed: np.ndarray
    cause: str
    decoder_steps: int


@dataclass(frozen=True)
class DepthOutcome:
    """Depth codes and their probabilities (cells,), the generated token ids with start and end, and how many
    runs of reused codes were replayed. A reused code has probability NaN here; the caller knows what it
    was."""

    codes: np.ndarray
    probs: np.ndarray
    token_ids: list[int]
    reused_runs: int
