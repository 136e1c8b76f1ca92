# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Steps of the weights: AdamW for all of them, or Muon for the matrices and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import ModelError
from .recipe import Optimizer

MUON = "muon"


class Optimizers:
    """groups: lists of parameters, each with `weight_decay` and with a `factor` of the rate. Muon (torch.optim.Muon,
    after K. Jordan 2024) moves a matrix by an orthogonal one; its step is as large as AdamW's would be (Liu et al.
    2025, section 2.2), so that one rate is for both. matrices: what Muon is for; tables of embeddings and the last
    layer are not."""

    def __init__(self, groups: list[dict[str, Any]], matrices: set[torch.Tensor], options: Optimizer):
        self._options, self._parts = options, list[torch.optim.Optimizer]()
        with_muon, rest = list[dict[str, Any]](), list[dict[str, Any]]()
        for group in groups:
            chosen, others = list[nn.Parameter](), list[nn.Parameter]()
            for parameter in group["params"]:
                (chosen if options.kind == MUON and parameter in matrices else others).append(parameter)
            with_muon += [group | {"params": chosen}] if chosen else []
            rest += [group | {"params": others}] if others else []
        if rest:
            betas = (options.beta1, options.beta2)
            self._parts.append(torch.optim.AdamW(rest, options.rate, betas, options.epsilon, options.decay))
        if with_muon:
            self._parts.append(torch.optim.Muon(
                with_muon, options.rate, options.decay, options.beta2, adjust_lr_fn="match_rms_adamw"
            ))  # fmt: skip

    @property
    def numbers(self) -> int:
        """How many it keeps of the weights: two moments of each by AdamW, one by Muon."""
        return sum(
            (2 if isinstance(part, torch.optim.AdamW) else 1) * parameter.numel()
            for part in self._parts for group in part.param_groups for parameter in group["params"]
        )

    def step(self, rate: float, parameters: Mapping[str, nn.Parameter]) -> float:
        """One step with the gradients that stand, clipped. Returns their norm before that. Errors: ModelError where it
        is not finite; no weight has changed then."""
        clip = self._options.clip if self._options.clip > 0 else math.inf
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
        if not torch.isfinite(norm):
            raise ModelError(f"the gradient is not finite ({float(norm)})")
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * group["factor"]
            part.step()
        return float(norm)

    def clear(self) -> None:
        """Forgets the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    # --- continuing -------------------------------------------------------------------------------------------------
    def state(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, torch.Tensor]]:
        """What is to be kept, as KEY.NAME of the parameter."""
        for name, parameter in parameters.items():
            for part in self._parts:
                for key, value in part.state.get(parameter, {}).items():
                    yield f"{key}.{name}", value

    def load(self, kept: Mapping[str, torch.Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
        """From what `state` gave."""
        for part in self._parts:
            keys = ("momentum_buffer",) if isinstance(part, torch.optim.Muon) else ("step", "exp_avg", "exp_avg_sq")
            own = {parameter for group in part.param_groups for parameter in group["params"]}
            for name, parameter in parameters.items():
                found = {key: kept[f"{key}.{name}"] for key in keys if f"{key}.{name}" in kept}
                if found and parameter in own:
                    part.state[parameter] = {
                        key: value if key == "step" else value.to(parameter.device) for key, value in found.items()
                    }
