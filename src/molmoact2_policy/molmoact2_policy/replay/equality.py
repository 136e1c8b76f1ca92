# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is equal between a recorded inference and its repetition. Equal means every bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ingest import IMAGE

# Fields of a trace by what they tell; actions stand in the chunk.
INPUTS = ("images", "state")
DEPTH = {
    "codes": ("codes", np.uint16),
    "refreshed": ("refreshed", np.bool_),
    "ages": ("cell_ages", np.uint32),
    "confidence": ("code_probs", np.float32),
}
RESULTS = ("prompt", *DEPTH, "mode and cause", "tokens", "actions")


@dataclass(frozen=True)
class Equality:
    """By name: True equal, False not, None where the bag holds nothing to compare with."""

    parts: dict[str, bool | None]

    def unequal(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if self.parts[name] is False]


def compare(old: Any, new: Any, old_chunk: Any | None, new_chunk: Any) -> Equality:
    """old, new: traces; old_chunk: None where none was recorded."""
    parts: dict[str, bool | None] = {
        "images": _images(old, new),
        "state": _equal(old.model_state, new.model_state, np.float32),
        "prompt": old.prompt == new.prompt and old.norm_tag == new.norm_tag,
    }
    for name, (field, kind) in DEPTH.items():
        parts[name] = _equal(getattr(old, field), getattr(new, field), kind)
    parts["mode and cause"] = (old.depth_mode, old.cause) == (new.depth_mode, new.cause)
    parts["tokens"] = _equal(old.generated_token_ids, new.generated_token_ids, np.int32)
    parts["actions"] = None if old_chunk is None else (
        _equal(old_chunk.positions, new_chunk.positions, np.float64)
        and list(old_chunk.joint_names) == list(new_chunk.joint_names)
    )
    return Equality(parts)


def _images(old: Any, new: Any) -> bool | None:
    """By the digests of their pixels."""
    was, now = ([bytes(bytearray(i.digest)) for i in trace.inputs if i.kind == IMAGE] for trace in (old, new))
    return was == now if all(was) else None


def _equal(old: Any, new: Any, kind: type) -> bool:
    return np.asarray(old, kind).tobytes() == np.asarray(new, kind).tobytes()
