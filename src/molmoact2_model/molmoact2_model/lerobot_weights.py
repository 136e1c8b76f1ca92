# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""LeRobot's names of weights, and low-rank adapters (LoRA), which are added to the weights they adapt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from .checkpoint import Reader
from .errors import CheckpointError

POLICY = "model."    # the policy holds the released model as that
WRAPPED = "base_model.model."    # what peft puts before the names of what it wraps
_PAIR = re.compile(r"(.+)\.lora_([AB])(\.default)?\.weight")
# Settings of peft that make another sum than weight + scale * B A; each with what is plain.
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",), "use_dora": (False, None), "fan_in_fan_out": (False, None), "lora_bias": (False, None),
    "alpha_pattern": ({}, None), "use_qalora": (False, None), "use_bdlora": (False, None),
    "layer_replication": (None,), "trainable_token_indices": (None,), "target_parameters": (None, []),
    "arrow_config": (None,), "alora_invocation_tokens": (None,), "monteclora_config": (None,), "kasa_config": (None,),
    "velora_config": (None,),
}  # fmt: skip


def released_names(tensors: Mapping[str, Reader], prefix: str) -> dict[str, Reader]:
    """Takes prefixes off, and what peft calls the weights it adapts. A name without the prefix stays as it is, and is
    not expected by whoever reads it."""
    return {name.removeprefix(prefix).replace(".base_layer.", "."): reader for name, reader in tensors.items()}


def merged(tensors: Mapping[str, Reader], alpha: float, rank_stable: bool = False) -> dict[str, Reader]:
    """Adds adapters to their weights as they are read. tensors: by released name, with pairs `NAME.lora_A.weight`
    (rank, in) and `NAME.lora_B.weight` (out, rank). Errors: CheckpointError, also by the readers."""
    plain: dict[str, Reader] = {}
    pairs: dict[str, dict[str, Reader]] = {}
    for name, reader in tensors.items():
        found = _PAIR.fullmatch(name)
        if found:
            pairs.setdefault(f"{found[1]}.weight", {})[found[2]] = reader
        else:
            plain[name] = reader
    for name, pair in pairs.items():
        if name not in plain or len(pair) != 2:
            raise CheckpointError(f"the adapter of {name} has no weight to add to, or is one half of a pair")
        plain[name] = _sum(name, plain[name], pair["A"], pair["B"], alpha, rank_stable)
    return plain


def _sum(name: str, weight: Reader, down: Reader, up: Reader, alpha: float, rank_stable: bool) -> Reader:
    def read() -> torch.Tensor:
        base, first, second = weight().float(), down().float(), up().float()
        rank = len(first)
        if first.ndim != 2 or second.shape != (len(base), rank) or base.shape[1:] != first.shape[1:]:
            raise CheckpointError(
                f"the adapter of {name} has shapes {tuple(second.shape)} and {tuple(first.shape)}, the weight "
                f"{tuple(base.shape)}"
            )
        return base + alpha / (rank**0.5 if rank_stable else rank) * (second @ first)

    return read


def check_adapter(config: Mapping[str, Any], where: str) -> None:
    """Errors: CheckpointError for an adapter that is not the plain kind."""
    for key, allowed in PLAIN.items():
        if key == "peft_type" or key in config:
            value = config.get(key)
            if value not in allowed:
                raise CheckpointError(
                    f"{where}: {key} is {value!r}, expected {allowed[0]!r}; only plain LoRA is merged here. Merge it "
                    "with peft (merge_and_unload) and save the whole policy"
                )
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise CheckpointError(f"{where}: lora_alpha is {alpha!r}, expected a number")
