# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Reads and writes the released weights (spec section 2.1): safetensors only, single or sharded, nothing executed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm
from transformers import Molmo2ForConditionalGeneration

from .config import ModelConfig, read_json
from .engine_options import NO_OFFLOAD, STORED
from .errors import CheckpointError, InputError
from .expert import ActionExpert, DepthGate
from .fused_language import fits
from .offload import kept_back
from .quantized import Quantizing
from .vlm import build_vlm

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HUB_FILES = ("*.json", "*.safetensors")
_INV_FREQ = "model.transformer.rotary_emb.inv_freq"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHOW_PROGRESS_FROM = 500_000_000  # bytes
Reader = Callable[[], torch.Tensor]    # of one tensor, from disk


@dataclass
class Network:
    """All weights of one checkpoint on one device: transformers' Molmo2, the action expert, its optional
    depth gates. language_weights: what the linear layers of the language model's blocks are kept in. offload: whether
    these stay in main memory whatever the device is."""

    config: ModelConfig
    vlm: Molmo2ForConditionalGeneration
    expert: ActionExpert | None
    gates: nn.ModuleList
    device: torch.device
    dtype: torch.dtype
    language_weights: str = STORED
    offload: str = NO_OFFLOAD


def find_checkpoint(path_or_hub_id: str | Path, files: Sequence[str] = HUB_FILES) -> Path:
    """Returns a local folder: the one named, or a download of the Hub repository (`owner/name`, or
    `owner/name@revision`) with a progress bar. files: patterns of those that are fetched; JSON and safetensors."""
    folder = Path(path_or_hub_id).expanduser()
    if folder.is_dir():
        return folder
    name = str(path_or_hub_id)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) or name.startswith("."):
        raise CheckpointError(f"{name} is neither a folder nor a Hub id of the form owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=list(files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{name} is no local folder and could not be fetched from the Hub: {error}"
        ) from None


def build_network(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Network:
    """The network without weights (parameters on the meta device)."""
    kv_size = config.text.num_kv_heads * config.text.head_dim
    expert, gates = None, nn.ModuleList()
    with torch.device("meta"):
        if config.expert is not None:
            expert = ActionExpert(config.expert, kv_size, config.max_action_dim).eval().requires_grad_(False)
        if config.depth is not None and config.depth.gate != "none":
            count = config.text.num_layers if config.depth.gate == "per_layer" else 1
            gates = nn.ModuleList(DepthGate(kv_size) for _ in range(count)).requires_grad_(False)
    return Network(config, build_vlm(config, device), expert, gates, device, dtype)


def load_network(folder: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Network:
    """The network with a folder's weights. CheckpointError names missing, extra and misshapen tensors."""
    with ExitStack() as stack:
        return fill_network(open_weights(folder, stack), config, device, dtype)


def fill_network(
    tensors: Mapping[str, Reader],
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    language_weights: str = STORED,
    offload: str = NO_OFFLOAD,
) -> Network:
    """Builds the network and fills it, tensor by tensor. tensors: by released name. language_weights, offload: see
    engine_options. Errors as of `load_network`; InputError where a library is wanting or blocks cannot be offloaded."""
    network = build_network(config, device, dtype)
    place = placing(network, offload)
    quantize = quantizing(network, language_weights)
    links = list(_links(network))
    _check_names(tensors, links)
    total = sum(slot.parameter.numel() * dtype.itemsize for link in links for slot in link.slots)
    for link in tqdm(links, desc="loading weights", disable=total < _SHOW_PROGRESS_FROM, leave=False):
        link.load(tensors, place(link.slots[0].module), dtype)
        for slot in link.slots:
            quantize(slot.module)
    if _INV_FREQ in tensors:
        _check_inv_freq(network, tensors[_INV_FREQ]())
    return network


def placing(network: Network, offload: str) -> Callable[[nn.Module], torch.device]:
    """On which device each module of a network is to be. Errors: InputError for blocks that cannot be offloaded."""
    if offload == NO_OFFLOAD:
        return lambda module: network.device
    if not fits(network.config.text):
        raise InputError(
            f"offload {offload}: the language model's blocks of this checkpoint are of a kind that is not fused; "
            f"use {NO_OFFLOAD}"
        )
    network.offload = offload
    stay, main = kept_back(network.vlm.model.language_model), torch.device("cpu")
    return lambda module: main if module in stay else network.device


def quantizing(network: Network, language_weights: str) -> Callable[[nn.Module], None]:
    """What is to be called with each module of a network once it is filled. Errors: see quantized.Quantizing."""
    if language_weights == STORED:
        return lambda module: None
    network.language_weights = language_weights
    return Quantizing(network.vlm.model.language_model, language_weights)


def save_weights(network: Network, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Writes `model.safetensors` with the released names. dtype: of the weights, None: as they are. Errors:
    CheckpointError for a network whose weights are not the stored ones any more."""
    if network.language_weights != STORED:
        raise CheckpointError(
            f"the network was loaded with language_weights {network.language_weights}, and cannot be written as a "
            f"checkpoint; load it with {STORED}"
        )
    tensors: dict[str, torch.Tensor] = {}
    for link in _links(network):    # one after the other: a GPU that is full of them has no room for all again
        for name, tensor in link.save().items():
            tensors[name] = tensor.detach().to("cpu", dtype).contiguous()
    tensors[_INV_FREQ] = network.vlm.model.language_model.rotary_emb.inv_freq.detach().cpu().contiguous()
    save_file(dict(sorted(tensors.items())), folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _WEIGHTS).chmod(0o644)    # safetensors makes files that are their maker's alone


# --- names ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Slot:
    """One parameter of a module."""

    module: nn.Module
    name: str

    @property
    def parameter(self) -> torch.Tensor:
        return getattr(self.module, self.name)

    def fill(self, value: torch.Tensor) -> None:
        setattr(self.module, self.name, nn.Parameter(value, requires_grad=False))


@dataclass(frozen=True)
class _Link:
    """Released tensors that, stacked along their first dimension, are our parameters stacked along theirs."""

    sources: tuple[tuple[str, int], ...]  # name and rows
    slots: tuple[_Slot, ...]

    def load(self, tensors: Mapping[str, Reader], device: torch.device, dtype: torch.dtype) -> None:
        tail = tuple(self.slots[0].parameter.shape[1:])
        parts = []
        for name, rows in self.sources:
            part = tensors[name]()
            if tuple(part.shape) != (rows, *tail):
                raise CheckpointError(
                    f"weight {name} has shape {tuple(part.shape)}, config.json asks for {(rows, *tail)}"
                )
            # A copy, not the mapped file: the file may change, and how it is aligned would show in the last
            # digit.
            parts.append(part.to(device=device, dtype=dtype, copy=True))
        stacked = torch.cat(parts) if len(parts) > 1 else parts[0]
        sizes = [slot.parameter.shape[0] for slot in self.slots]
        for slot, value in zip(self.slots, stacked.split(sizes), strict=True):
            slot.fill(value.clone() if len(self.slots) > 1 else value)

    def save(self) -> dict[str, torch.Tensor]:
        stacked = torch.cat([slot.parameter for slot in self.slots])
        parts = stacked.split([rows for _, rows in self.sources])
        return {name: part for (name, _), part in zip(self.sources, parts, strict=True)}


def _links(network: Network) -> Iterable[_Link]:
    """Every parameter of the network, with the released tensors it comes from (spec sections 2.1 and 12.3)."""
    yield from _text_links(network)
    yield from _vision_links(network.vlm.model)
    if network.expert is not None:
        yield from _same_names(network.expert, "model.action_expert")
    if len(network.gates):
        single = network.config.depth is not None and network.config.depth.gate == "single"
        yield from _same_names(
            network.gates[0] if single else network.gates, "model.action_expert_depth_gate"
        )


def _text_links(network: Network) -> Iterable[_Link]:
    config = network.config.text
    language: Any = network.vlm.model.language_model
    embeddings = [("model.transformer.wte.embedding", config.vocab_size)]
    if config.additional_vocab_size:
        embeddings.append(("model.transformer.wte.new_embedding", config.additional_vocab_size))
    yield _Link(tuple(embeddings), (_Slot(language.embed_tokens, "weight"),))
    yield from _joined([language.norm], "model.transformer.ln_f")
    yield from _joined([network.vlm.lm_head], "lm_head")
    for index, layer in enumerate(language.layers):
        prefix, attention = f"model.transformer.blocks.{index}", layer.self_attn
        yield from _joined([layer.input_layernorm], f"{prefix}.attn_norm")
        yield from _joined([layer.post_attention_layernorm], f"{prefix}.ff_norm")
        yield from _joined(
            [attention.q_proj, attention.k_proj, attention.v_proj], f"{prefix}.self_attn.att_proj"
        )
        yield from _joined([attention.o_proj], f"{prefix}.self_attn.attn_out")
        yield from _joined([attention.q_norm], f"{prefix}.self_attn.q_norm")
        yield from _joined([attention.k_norm], f"{prefix}.self_attn.k_norm")
        yield from _joined([layer.mlp.up_proj, layer.mlp.gate_proj], f"{prefix}.mlp.ff_proj")
        yield from _joined([layer.mlp.down_proj], f"{prefix}.mlp.ff_out")


def _vision_links(model: Any) -> Iterable[_Link]:
    tower, adapter = model.vision_tower, model.multi_modal_projector
    prefix = "model.vision_backbone.image_vit"
    rows = tower.positional_embedding.shape[0]
    yield _Link(((f"{prefix}.positional_embedding", rows),), (_Slot(tower, "positional_embedding"),))
    yield from _joined([tower.patch_embedding], f"{prefix}.patch_embedding")
    for index, layer in enumerate(tower.layers):
        block = f"{prefix}.transformer.resblocks.{index}"
        yield from _attention(layer.self_attn, f"{block}.attention")
        yield from _joined([layer.mlp.fc1], f"{block}.feed_forward.w1")
        yield from _joined([layer.mlp.fc2], f"{block}.feed_forward.w2")
        yield from _joined([layer.layer_norm1], f"{block}.attention_norm")
        yield from _joined([layer.layer_norm2], f"{block}.ffn_norm")
    yield from _attention(adapter.image_pooling_2d, "model.vision_backbone.image_pooling_2d")
    projector, prefix = adapter.image_projector, "model.vision_backbone.image_projector"
    yield from _joined([projector.gate_proj], f"{prefix}.w1")
    yield from _joined([projector.down_proj], f"{prefix}.w2")
    yield from _joined([projector.up_proj], f"{prefix}.w3")


def _attention(module: Any, prefix: str) -> Iterable[_Link]:
    for ours, theirs in (("q_proj", "wq"), ("k_proj", "wk"), ("v_proj", "wv"), ("o_proj", "wo")):
        yield from _joined([getattr(module, ours)], f"{prefix}.{theirs}")


def _joined(modules: list[Any], released: str) -> Iterable[_Link]:
    """Links weight and bias of modules that the release keeps stacked as one."""
    for leaf in ("weight", "bias"):
        if getattr(modules[0], leaf, None) is not None:
            slots = tuple(_Slot(module, leaf) for module in modules)
            yield _Link(((f"{released}.{leaf}", sum(s.parameter.shape[0] for s in slots)),), slots)


def _same_names(module: nn.Module, prefix: str) -> Iterable[_Link]:
    for name, parameter in module.named_parameters():
        owner, _, leaf = name.rpartition(".")
        yield _Link(((f"{prefix}.{name}", parameter.shape[0]),), (_Slot(module.get_submodule(owner), leaf),))


# --- files ------------------------------------------------------------------------------------------------
def weight_files(folder: Path) -> list[str]:
    """Names of the files that hold the weights. Errors: CheckpointError."""
    if (folder / _INDEX).is_file():
        weight_map = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{folder / _INDEX} has no weight_map")
        files = sorted(set(weight_map.values()))
    else:
        files = [_WEIGHTS]
    for name in files:
        if Path(name).name != name:
            raise CheckpointError(f"{_INDEX} names {name!r}, which is not a file of the checkpoint folder")
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing in {folder}; is the download complete?")
    return files


def open_weights(folder: Path, stack: ExitStack) -> dict[str, Reader]:
    """Opens the weight files, until the stack is left; each reader loads one tensor from disk."""
    readers: dict[str, Reader] = {}
    for file in weight_files(folder):
        for name, reader in open_tensors(folder / file, stack).items():
            if name in readers:
                raise CheckpointError(f"weight {name} is in more than one file of {folder}")
            readers[name] = reader
    return readers


def open_tensors(path: Path, stack: ExitStack) -> dict[str, Reader]:
    """Opens one safetensors file, until the stack is left."""
    try:
        handle = stack.enter_context(safe_open(path, framework="pt"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from None
    return {name: partial(handle.get_tensor, name) for name in handle.keys()}  # noqa: SIM118 - not iterable


def _check_names(tensors: Mapping[str, Reader], links: list[_Link]) -> None:
    wanted = {name for link in links for name, _ in link.sources}
    found = set(tensors) - {_INV_FREQ}
    problems = [
        f"{what}: {_listed(names)}"
        for what, names in (("missing", wanted - found), ("not expected", found - wanted))
        if names
    ]
    if problems:
        raise CheckpointError(f"the weights do not fit config.json; {'; '.join(problems)}")


def _listed(names: set[str], limit: int = 8) -> str:
    shown = ", ".join(sorted(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _check_inv_freq(network: Network, stored: torch.Tensor) -> None:
    ours = network.vlm.model.language_model.rotary_emb.inv_freq.cpu()
    # Stored in half precision by some exports, hence the wide tolerance; a wrong rope_theta is off by far
    # more.
    if stored.shape != ours.shape or not torch.allclose(stored.float(), ours, rtol=2e-2, atol=1e-6):
        raise CheckpointError(f"weight {_INV_FREQ} does not fit text_config.rope_theta and head_dim")
