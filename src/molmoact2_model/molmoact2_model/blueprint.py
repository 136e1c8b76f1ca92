# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a new checkpoint of any size in the released layout: for tests, and to start a small model from.

The tokenizer is a byte-level one, with merges learnt from a corpus if asked, followed by the added tokens in
the released order (spec section 2.4); all token ids follow from that. The weights are drawn from a seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

from .checkpoint import Network, build_network, save_weights
from .config import ModelConfig

_BASE = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_IMAGE = [
    "<im_start>",
    "<im_end>",
    "<im_patch>",
    "<im_col>",
    "<low_res_im_start>",
    "<|image|>",
    "<im_low>",
    "<frame_start>",
    "<frame_end>",
    "<|video|>",
    "<|points|>",
    "<|token_index|>",
    "<|vit_index|>",
    "<|vit_loc|>",
]


# What every released expert has, whatever its sizes.
EXPERT: dict[str, Any] = {
    "model_type": "molmoact2_action_expert",
    "mlp_ratio": 8 / 3,
    "ffn_multiple_of": 16,
    "context_layer_norm": True,
    "qk_norm": True,
    "qk_norm_eps": 1e-6,
    "rope": True,
    "causal_attn": False,
    "dropout": 0.0,
    "attn_dropout": 0.0,
}


@dataclass(frozen=True)
class Blueprint:
    """The sizes of a checkpoint. The released ones are in spec section 2.1."""

    hidden_size: int = 64
    num_layers: int = 3
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 16
    intermediate_size: int = 96
    vit_hidden_size: int = 32
    vit_layers: int = 3
    vit_heads: int = 2
    vit_intermediate_size: int = 64
    vit_feature_layers: tuple[int, ...] = (-1, -2)
    adapter_intermediate_size: int = 96
    expert_hidden_size: int = 48
    expert_heads: int = 4
    expert_time_dim: int = 32
    image_size: tuple[int, int] = (112, 112)
    patch_size: int = 14
    pooling_size: tuple[int, int] = (2, 2)
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_col_tokens: bool = False
    num_state_tokens: int = 256
    num_action_tokens: int = 256
    num_depth_tokens: int = 128  # size of the codebook; 0: a checkpoint without depth reasoning
    num_depth_codes: int = 100
    depth_gate: str = "none"
    max_action_dim: int = 32
    max_action_horizon: int = 30
    flow_steps: int = 10
    action_mode: str = "both"
    num_merges: int = 0  # of the tokenizer, learnt from `corpus`
    corpus: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()  # one token each: what is in every prompt, so that a small model reads short ones
    vocab_multiple: int = 256
    max_positions: int = 2048
    rope_theta: float = 1e6

    @property
    def has_depth(self) -> bool:
        return self.num_depth_tokens > 0


def make_tokenizer(blueprint: Blueprint) -> tuple[Tokenizer, int]:
    """Returns the tokenizer and the text vocabulary's size; the image tokens follow beyond it."""
    added = [
        *_BASE,
        "<setup_start>",
        "<setup_end>",
        "<control_start>",
        "<control_end>",
        "<state_start>",
        "<state_end>",
    ]
    added += [f"<state_{index}>" for index in range(blueprint.num_state_tokens)]
    added += ["<action_output>", "<action_start>", "<action_end>"]
    added += [f"<action_{index}>" for index in range(blueprint.num_action_tokens)]
    if blueprint.has_depth:
        added += ["<depth_output>", "<depth_start>", "<depth_end>"]
        added += [f"<depth_{index}>" for index in range(blueprint.num_depth_tokens)]
    tokenizer = _byte_level(blueprint)
    used = tokenizer.get_vocab_size() + len(added)
    vocab_size = math.ceil(used / blueprint.vocab_multiple) * blueprint.vocab_multiple
    added += [f"<extra_{index}>" for index in range(vocab_size - used)]
    added += _IMAGE
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in added])
    return tokenizer, vocab_size


def _byte_level(blueprint: Blueprint) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if blueprint.num_merges:
        size = len(alphabet) + blueprint.num_merges
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(blueprint.corpus, trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in blueprint.phrases])
    return tokenizer


def make_config(blueprint: Blueprint, tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """config.json as the release writes it, token ids read from the tokenizer."""
    ids = {
        name: tokenizer.token_to_id(f"<{name}>") for name in ("action_output", "action_start", "action_end")
    }
    config: dict[str, Any] = {
        "architectures": ["MolmoAct2ForConditionalGeneration"],
        "model_type": "molmoact2",
        "dtype": "float32",
        "bos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "image_start_token_id": tokenizer.token_to_id("<im_start>"),
        "image_end_token_id": tokenizer.token_to_id("<im_end>"),
        "image_patch_id": tokenizer.token_to_id("<im_patch>"),
        "image_high_res_id": tokenizer.token_to_id("<im_patch>"),
        "image_col_id": tokenizer.token_to_id("<im_col>"),
        "image_low_res_id": tokenizer.token_to_id("<im_low>"),
        "low_res_image_start_token_id": tokenizer.token_to_id("<low_res_im_start>"),
        "frame_start_token_id": tokenizer.token_to_id("<frame_start>"),
        "frame_end_token_id": tokenizer.token_to_id("<frame_end>"),
        "use_frame_special_tokens": True,
        "action_output_token_id": ids["action_output"],
        "action_start_token_id": ids["action_start"],
        "action_end_token_id": ids["action_end"],
        "action_token_start_id": tokenizer.token_to_id("<action_0>"),
        "num_action_tokens": blueprint.num_action_tokens,
        "state_start_token_id": tokenizer.token_to_id("<state_start>"),
        "state_end_token_id": tokenizer.token_to_id("<state_end>"),
        "state_token_start_id": tokenizer.token_to_id("<state_0>"),
        "num_state_tokens": blueprint.num_state_tokens,
        "state_format": "discrete",
        "add_setup_tokens": True,
        "add_control_tokens": True,
        "norm_stats_filename": "norm_stats.json",
        "add_action_expert": True,
        "action_mode": blueprint.action_mode,
        "max_action_dim": blueprint.max_action_dim,
        "max_action_horizon": blueprint.max_action_horizon,
        "n_obs_steps": 1,
        "mask_action_dim_padding": True,
        "flow_matching_num_steps": blueprint.flow_steps,
        "flow_matching_cutoff": 1.0,
        "flow_matching_time_offset": 0.001,
        "flow_matching_time_scale": 0.999,
        "flow_matching_beta_alpha": 1.0,
        "flow_matching_beta_beta": 1.5,
        "enable_depth_reasoning": blueprint.has_depth,
        "num_depth_codes": blueprint.num_depth_codes,
        "num_depth_tokens": blueprint.num_depth_tokens,
        "action_expert_depth_gate": blueprint.depth_gate != "none",
        "action_expert_depth_gate_per_layer": blueprint.depth_gate == "per_layer",
        "action_expert_depth_gate_init_bias": -4.0,
        **_sub_configs(blueprint, vocab_size),
    }
    if blueprint.has_depth:
        names = {
            "depth_output_token_id": "<depth_output>",
            "depth_start_token_id": "<depth_start>",
            "depth_end_token_id": "<depth_end>",
            "depth_token_start_id": "<depth_0>",
        }
        config |= {key: tokenizer.token_to_id(token) for key, token in names.items()}
    return config


def _sub_configs(blueprint: Blueprint, vocab_size: int) -> dict[str, Any]:
    rows, cols = (size // blueprint.patch_size for size in blueprint.image_size)
    vit_head_dim = blueprint.vit_hidden_size // blueprint.vit_heads
    text = {
        "model_type": "molmoact2_text",
        "hidden_size": blueprint.hidden_size,
        "num_hidden_layers": blueprint.num_layers,
        "num_attention_heads": blueprint.num_heads,
        "num_key_value_heads": blueprint.num_kv_heads,
        "head_dim": blueprint.head_dim,
        "intermediate_size": blueprint.intermediate_size,
        "vocab_size": vocab_size,
        "additional_vocab_size": 128,
        "qkv_bias": False,
        "use_qk_norm": True,
        "qk_norm_type": "qwen3",
        "norm_after": False,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-6,
        "max_position_embeddings": blueprint.max_positions,
        "rope_theta": blueprint.rope_theta,
        "rope_scaling": None,
        "rope_scaling_layers": None,
        "tie_word_embeddings": False,
        "attn_implementation": "sdpa",
    }
    vit = {
        "model_type": "molmoact2",
        "hidden_size": blueprint.vit_hidden_size,
        "intermediate_size": blueprint.vit_intermediate_size,
        "num_hidden_layers": blueprint.vit_layers,
        "num_attention_heads": blueprint.vit_heads,
        "num_key_value_heads": blueprint.vit_heads,
        "head_dim": vit_head_dim,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "image_default_input_size": list(blueprint.image_size),
        "image_patch_size": blueprint.patch_size,
        "image_num_pos": rows * cols,
        "float32_attention": True,
        "attn_implementation": "sdpa",
    }
    adapter = {
        "model_type": "molmoact2",
        "vit_layers": list(blueprint.vit_feature_layers),
        "pooling_attention_mask": True,
        "hidden_size": blueprint.vit_hidden_size,
        "num_attention_heads": blueprint.vit_heads,
        "num_key_value_heads": blueprint.vit_heads,
        "head_dim": vit_head_dim,
        "hidden_act": "silu",
        "intermediate_size": blueprint.adapter_intermediate_size,
        "text_hidden_size": blueprint.hidden_size,
        "float32_attention": True,
        "attn_implementation": "sdpa",
    }
    expert = EXPERT | {
        "hidden_size": blueprint.expert_hidden_size,
        "num_layers": blueprint.num_layers,
        "num_heads": blueprint.expert_heads,
        "timestep_embed_dim": blueprint.expert_time_dim,
    }
    return {"text_config": text, "vit_config": vit, "adapter_config": adapter, "action_expert_config": expert}


def make_processor_config(blueprint: Blueprint) -> dict[str, Any]:
    """processor_config.json with the image settings nested in it, as transformers 5 writes it."""
    height, width = blueprint.image_size
    return {
        "processor_class": "MolmoAct2Processor",
        "image_use_col_tokens": True,
        "use_single_crop_col_tokens": blueprint.image_col_tokens,
        "use_single_crop_start_token": True,
        "use_frame_special_tokens": True,
        "video_use_col_tokens": False,
        "image_processor": {
            "image_processor_type": "MolmoAct2ImageProcessor",
            "crop_mode": "resize",
            "do_convert_rgb": True,
            "image_mean": list(blueprint.image_mean),
            "image_std": list(blueprint.image_std),
            "max_crops": 8,
            "overlap_margins": [4, 4],
            "patch_size": blueprint.patch_size,
            "pooling_size": list(blueprint.pooling_size),
            "resample": 2,
            "size": {"height": height, "width": width},
        },
    }


def random_network(config: ModelConfig, seed: int) -> Network:
    """A float32 network on the CPU with weights drawn from `seed`.

    Norms are one, biases zero, embeddings standard normal, matrices normal with variance 1 / inputs. Depth
    tokens share a direction that the head reads as <depth_end>, so that free decoding after the depth codes
    ends at once; the codes themselves do not see it.
    """
    network = build_network(config, torch.device("cpu"), torch.float32)
    generator = torch.Generator("cpu").manual_seed(seed)
    for root in (network.vlm, network.gates, network.expert):
        draw_weights(root, generator, trained=False)
    if config.depth is not None:
        close_depth_tokens(network, config)
    return network


def draw_weights(
    root: nn.Module | None, generator: torch.Generator, *, trained: bool, table_std: float = 1.0,
    zero: tuple[str, ...] = (),
) -> None:
    """New weights for a module and all within it, in the place of the old ones: vectors named weight are one, others
    zero; embeddings normal with table_std, matrices with variance 1 / inputs, zero where their name has one of `zero`
    in it."""
    for path, module in root.named_modules() if root is not None else ():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 1:
                value = torch.ones(parameter.shape) if name == "weight" else torch.zeros(parameter.shape)
            elif any(part in f"{path}.{name}" for part in zero):
                value = torch.zeros(parameter.shape)
            else:
                std = table_std if isinstance(module, nn.Embedding) else parameter.shape[-1] ** -0.5
                value = torch.empty(parameter.shape).normal_(generator=generator) * std
            setattr(module, name, nn.Parameter(value, requires_grad=trained))


def close_depth_tokens(network: Network, config: ModelConfig, strength: float = 4.0) -> None:
    """<depth_end> follows the codes at once, as `random_network` says. config: of a checkpoint with depth. strength: of
    the direction, in what an embedding has in others; more of it goes through more and wider layers."""
    depth = config.depth
    assert depth is not None
    table, head = network.vlm.model.language_model.embed_tokens.weight, network.vlm.lm_head.weight
    codes = slice(depth.first, depth.first + depth.codebook_size)
    head[:, 0] = 0.0
    head[depth.end] = 0.0
    head[depth.end, 0] = 10.0
    for rows in (codes, slice(depth.start, depth.start + 1), slice(depth.end, depth.end + 1)):
        table[rows, 0] = strength


def write_checkpoint(
    folder: Path, blueprint: Blueprint, norm_stats: Mapping[str, Any], seed: int
) -> ModelConfig:
    """Writes a whole checkpoint with random weights and returns its configuration."""
    tokenizer, vocab_size = make_tokenizer(blueprint)
    raw = make_config(blueprint, tokenizer, vocab_size)
    config = ModelConfig.from_dict(raw)
    write_files(folder, blueprint, raw, tokenizer, norm_stats)
    save_weights(random_network(config, seed), folder)
    return config


def write_files(
    folder: Path,
    blueprint: Blueprint,
    raw: Mapping[str, Any],
    tokenizer: Tokenizer,
    norm_stats: Mapping[str, Any],
) -> None:
    """Writes everything but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    files = {
        "config.json": raw,
        "norm_stats.json": norm_stats,
        "processor_config.json": make_processor_config(blueprint),
        "tokenizer_config.json": {
            "bos_token": "<|im_end|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
