# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether depth "verified" gives the codes of full decoding with the same weights and type, and where it does not, how
near full decoding was to choosing otherwise.

Full decoding reads one token a pass, verified many. Kernels of different widths round differently, so that in 16 bits
a close decision may fall the other way. Of the codes of a call that differ only the first is such a decision: codes
before it are the same. Those after it are chosen with other codes before them and may differ for that reason, by any
margin. So the two are counted apart: `flipped`, at most one a call, and `followed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..errors import DecodeError
from ..optimizations import Optimizations
from ..policy import MolmoAct2Policy
from ..session import Session
from .measure import INSTRUCTION, SEED, Measured
from .scenes import View, chosen, views, wrong_draft


@dataclass(frozen=True)
class Margins:
    """One call. margins float32 (cells,): of full decoding's logits, its best less its second best. flipped, followed
    float32 (n,): its own choice's less that of the other code, where codes differ; 0 is a tie."""

    margins: np.ndarray
    flipped: np.ndarray
    followed: np.ndarray


def margins(full: np.ndarray, scores: np.ndarray, verified: np.ndarray) -> Margins:
    """full, verified: codes int (cells,); scores float32 (cells, codebook): the logits that `full` was chosen by."""
    best = np.partition(scores, -2, axis=-1)
    differ = np.flatnonzero(full != verified)
    lost = scores[differ, full[differ]] - scores[differ, verified[differ]]
    return Margins(best[:, -1] - best[:, -2], lost[:1], lost[1:])


def agreement(
    policy: MolmoAct2Policy, tag: str, optimizations: Optimizations, shape: Measured, wrong: Sequence[int], calls: int
) -> list[dict[str, Any]]:
    """A row, as JSON holds it, for each number of codes that are wrong in the draft; each call has frames of its own.

    Verified and full share an engine, so both decode over the very same keys and values of the prompt. A call in which
    one of them does not end its codes says none: it is left out, and counted.
    """
    full = policy.session(norm_tag=tag, depth="full", optimizations=replace(optimizations, graphs=False))
    verified = policy.session(norm_tag=tag, depth="verified", beside=full)
    found: dict[int, list[Margins]] = {count: [] for count in wrong}
    unended, unended_verified = 0, dict.fromkeys(wrong, 0)
    for call in range(calls):
        view = views(shape.cameras, shape.state_dim, shape.grid, 0, SEED + call)[0]
        try:
            codes, scores = _scored(full, view)
        except DecodeError:
            unended += 1
            continue
        for count, rows in found.items():
            cells = chosen(count, shape.grid, SEED + call)
            verified.expect(wrong_draft(codes, cells, shape.codebook, SEED + call))
            try:
                rows.append(margins(codes, scores, verified.reason(view.images, view.state, INSTRUCTION).codes))
            except DecodeError:
                unended_verified[count] += 1
    return [
        {"draft_wrong": count, "unended_full": unended, "unended_verified": unended_verified[count], **summed(rows)}
        for count, rows in found.items()
    ]


def _scored(full: Session, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Codes int (cells,) of full decoding and the logits float32 (cells, codebook) that they were chosen by."""
    kept: list[torch.Tensor] = []
    full.engine.scored = kept.append
    try:
        codes = full.reason(view.images, view.state, INSTRUCTION).codes
    finally:
        full.engine.scored = None
    return codes, torch.cat(kept).float().cpu().numpy()


def summed(calls: Sequence[Margins]) -> dict[str, Any]:
    """All calls together: counts, and margins in logits; None where there is nothing to take them of."""
    kinds = {
        kind: np.concatenate([np.empty(0, np.float32), *(getattr(call, kind) for call in calls)])
        for kind in ("margins", "flipped", "followed")
    }
    every, differ = kinds.pop("margins"), sum(some.size for some in kinds.values())
    found: dict[str, Any] = {"calls": len(calls), "codes": every.size, "agree": every.size - differ}
    found["margin_median"] = float(np.median(every)) if every.size else None
    for name, some in kinds.items():
        found[name] = some.size
        found[f"{name}_margin_median"] = float(np.median(some)) if some.size else None
        found[f"{name}_margin_max"] = float(some.max()) if some.size else None
    return found
