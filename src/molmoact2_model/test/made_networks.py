# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Policies over random networks of any size, made in memory."""

from molmoact2_model import MolmoAct2Policy
from molmoact2_model.blueprint import Blueprint, make_config, make_tokenizer, random_network, write_files
from molmoact2_model.config import ModelConfig
from molmoact2_model.images import load_image_config
from molmoact2_model.normalization import NormStats
from molmoact2_model.optimizations import SHARED

STATS = {
    "format": "molmoact2_norm_stats.v1", "norm_mode": "none",
    "metadata_by_tag": {"one": {
        "camera_keys": ["front"], "action_horizon": 8, "n_action_steps": 8, "setup_type": "arm",
        "control_mode": "joints", "state_stats": {"mean": [0.0] * 3}, "action_stats": {"mean": [0.0] * 3},
    }},
}  # fmt: skip
# Most of a prompt in a few tokens, so that a small network looks at the image, too.
PHRASES = (
    "<|im_end|>\n", "user\nThe task is to ", ". The setup is ", ". The current state of the robot is ",
    ". The expected control mode is ",
    ". Given these, first predict the depth map of the main image and then predict the action the robot should take "
    "to complete the task?", "assistant\n",
)    # fmt: skip
# Sixteen codes, each of which depends on the image and on those before it. A call takes some milliseconds.
LITTLE = Blueprint(num_depth_codes=16, num_layers=2, vit_layers=2, phrases=PHRASES)


def made(folder, blueprint, text=None, expert=None, change=lambda network: None, optimizations=SHARED):
    """A policy of a network of its own. text, expert: other values of their configurations."""
    tokenizer, vocabulary = make_tokenizer(blueprint)
    raw = make_config(blueprint, tokenizer, vocabulary)
    raw["text_config"] |= text or {}
    raw["action_expert_config"] |= expert or {}
    config = ModelConfig.from_dict(raw)
    write_files(folder, blueprint, raw, tokenizer, STATS)
    network = random_network(config, 3)
    change(network)
    stats = NormStats.from_file(folder / "norm_stats.json", config.max_action_dim, config.max_action_horizon)
    return MolmoAct2Policy(network, load_image_config(folder, config.vision), stats, tokenizer, "made", optimizations)
