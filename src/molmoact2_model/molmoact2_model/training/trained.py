# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which weights a recipe trains, their average, and what they amount to in the released layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from ..engine_options import LIBRARY
from ..errors import InputError
from ..quantized import library
from .network import TrainingModel
from .recipe import Optimizer, Recipe

LORA = "lora"
_ADAPTER = "default"    # peft's name of the only one


class Trained:
    """The weights of a model that change. groups: for an optimizer, with a `factor` of its rate; matrices decay,
    vectors do not. matrices: those that map one vector to another
    within the network. average: by name, of those weights over the steps; empty where the recipe wants none."""

    def __init__(self, model: TrainingModel, options: Optimizer):
        self._model, self._options = model, options
        if options.trained == LORA:
            _add_adapters(model, options.rank, options.alpha)
        self.groups = self._grouped()
        self.matrices = {m.weight for m in model.modules() if isinstance(m, nn.Linear)} - {model.vlm.lm_head.weight}
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()} if options.ema else {}

    def _grouped(self) -> list[dict[str, Any]]:
        options = self._options
        factors = {"vision": options.vision, "language": options.language, "expert": options.expert}
        if options.trained == "expert":
            factors |= {"vision": 0.0, "language": 0.0}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self._model.named_parameters():
            factor = factors[_part(name)]
            if options.trained == LORA and _part(name) != "expert" and ".lora_" not in name:
                factor = 0.0
            parameter.requires_grad_(factor > 0)
            if factor > 0:
                decay = options.decay if parameter.ndim > 1 else 0.0
                groups.setdefault((factor, decay), []).append(parameter)
        if not groups:
            raise InputError("the recipe trains nothing: every factor of the learning rate is 0")
        return [
            {"params": parameters, "weight_decay": decay, "factor": factor}
            for (factor, decay), parameters in groups.items()
        ]

    def count(self, step: int) -> None:
        """Adds the weights after a step to their average."""
        keep = min(self._options.ema, step / (step + 20))
        with torch.no_grad():
            for name, average in self.average.items():
                average.lerp_(self.parameters[name].detach(), 1 - keep)

    @property
    def adapted(self) -> int:
        """How many numbers the matrices have that low-rank adapters lie on."""
        return sum(layer.base_layer.weight.numel() for layer in _adapted(self._model))

    @contextmanager
    def released(self) -> Iterator[None]:
        """Meanwhile the model's weights are those to be used: averaged, adapters added to what they adapt."""
        kept = {name: self.parameters[name].data for name in self.average}
        merged = list[tuple[Any, torch.Tensor]]()
        try:
            for name, average in self.average.items():
                self.parameters[name].data = average
            for layer in _adapted(self._model):
                base = layer.base_layer.weight.data
                merged.append((layer, base.cpu()))    # of a GPU's weights there need not be room for two there
                layer.base_layer.weight.data = base + layer.get_delta_weight(_ADAPTER).to(base.dtype)
                layer.enable_adapters(False)
            yield
        finally:
            for layer, base in merged:
                layer.base_layer.weight.data = base.to(layer.base_layer.weight.device)
                layer.enable_adapters(True)
            for name, tensor in kept.items():
                self.parameters[name].data = tensor


def check_taught(recipe: Recipe) -> None:
    """That every batch can have something to learn for the weights that are trained. Errors: InputError."""
    options = recipe.optimizer
    vision = options.vision if options.trained == "full" else 0.0
    language = options.language if options.trained != "expert" else 0.0
    if vision > 0 or language > 0:
        return
    kept = "the recipe keeps vision and language as they are (optimizer.trained, vision and language)"
    if recipe.mix.depth > 0:
        raise InputError(f"{kept}, and batches of mix.depth teach nothing else; set mix.depth to 0")
    if recipe.objective.flow <= 0:
        raise InputError(f"{kept}, and objective.flow, which alone teaches the expert, is 0")


def _add_adapters(model: TrainingModel, rank: int, alpha: int) -> None:
    """To every matrix of the language model's layers."""
    if find_spec(LIBRARY) is not None:    # peft imports it where it is installed; this way it fetches nothing
        library()
    from peft import LoraConfig, inject_adapter_in_model

    layers = model.vlm.model.language_model.layers
    names = [name for name, module in layers.named_modules() if isinstance(module, nn.Linear)]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=names), layers, _ADAPTER)


def _adapted(model: TrainingModel) -> Iterator[Any]:
    return (module for module in model.modules() if hasattr(module, "lora_A"))


def _part(name: str) -> str:
    if name.startswith(("expert.", "gates.")):
        return "expert"
    return "vision" if "vision_tower" in name or "multi_modal_projector" in name else "language"
