# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Makes checkpoints/molmoact2-tiny-sway-so101: the Think architecture, small, in the released layout.

It learns from no robot and no task. Two synthetic things are fitted so that the demo has something to show:

* the flow expert to a slow sway around the home pose that starts at the given joint state (a function of the state
  tokens alone), so that successive chunks continue each other;
* the depth codes to the brightness of the main image in 16 steps (not to depth).

    .venv/bin/python checkpoints/make_tiny_sway_so101.py [--steps N] [--threads N] [--out DIR]

About 50 minutes on one CPU core. Everything is drawn from one seed; on another CPU the last digits may differ.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional
from tqdm import trange
from transformers.cache_utils import DynamicCache

from molmoact2_model.blueprint import Blueprint, make_config, make_tokenizer, random_network, write_files
from molmoact2_model.checkpoint import Network, save_weights
from molmoact2_model.config import ModelConfig
from molmoact2_model.images import load_image_config
from molmoact2_model.normalization import NormStats
from molmoact2_model.processing import PromptBuilder, pixel_values, pooling_index

TAG = "so101_sim_molmoact2_tiny"
NAMES = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
LOWER = np.array([-1.9199, -1.7453, -1.69, -1.6581, -2.7438, 0.0])  # joint limits [rad], gripper 0 closed .. 1 open
UPPER = np.array([1.9199, 1.7453, 1.69, 1.6581, 2.8412, 1.0])
HOME = np.array([0.0, -0.9, 0.75, 1.30, 0.0, 0.3])
REACH = np.array([0.6, 0.5, 0.45, 0.3, 0.3, 0.0])  # of the action statistics around home
HORIZON, DT = 30, 1 / 30

PERIOD = 8.0  # of the sway [s]
SETTLE = 0.35  # time in which a state off the sway comes back to it [s]
PAN, LIFT, ELBOW, WRIST, GRIPPER = 0.35, 0.15, 0.12, 0.05, 0.2  # amplitudes

LEVELS = 16
SEED, FLOW_DRAWS, LEARNING_RATE = 7, 4, 2e-3
DEPTH_SHARE, DEPTH_BATCH, ACTION_BATCH = 0.75, 12, 24  # batches with depth codes in them are the longer ones
INSTRUCTIONS = (
    "pick up the red cube", "pick up the green cube", "pick up the blue cube", "put the red cube in the tray",
    "put the green cube in the tray", "put the blue cube in the tray", "touch the red cube", "stack the cubes",
    "push the blue cube to the left", "put all the cubes into the tray", "sway gently", "wait", "open the gripper",
)  # fmt: skip
SETUP, CONTROL = "single so101 robotic arm in simulation", "absolute joint pose"
TEMPLATE = (
    f"user\nThe task is to . The setup is {SETUP}. The current state of the robot is . The expected control mode is "
    f"{CONTROL}. Given these, what action should the robot take to complete the task? Given these, first predict the "
    "depth map of the main image and then predict the action the robot should take to complete the task? assistant\n"
    "Image 1 Image 2"
)
BLUEPRINT = Blueprint(
    hidden_size=96, num_layers=4, num_heads=6, num_kv_heads=2, head_dim=16, intermediate_size=192,
    vit_hidden_size=64, vit_layers=2, vit_heads=4, vit_intermediate_size=128, adapter_intermediate_size=128,
    expert_hidden_size=80, expert_heads=4, expert_time_dim=32, image_size=(140, 140), patch_size=14,
    num_action_tokens=32, num_merges=300, corpus=(TEMPLATE, *INSTRUCTIONS), vocab_multiple=64,
    max_positions=1024, action_mode="continuous", rope_theta=1e4,
)  # fmt: skip


def norm_stats() -> dict:
    """norm_stats.json: states span the joint limits, actions a narrow range around home."""
    action_low, action_high = np.maximum(HOME - REACH, LOWER), np.minimum(HOME + REACH, UPPER)
    action_low[-1], action_high[-1] = 0.0, 1.0
    tag = {
        "action_key": "action",
        "state_keys": ["observation.state"],
        "camera_keys": ["observation.images.front", "observation.images.wrist"],
        "normalize_gripper": True,
        "action_dim": len(NAMES),
        "action_horizon": HORIZON,
        "n_action_steps": HORIZON,
        "setup_type": SETUP,
        "control_mode": CONTROL,
        "state_stats": _stats(LOWER, UPPER),
        "action_stats": _stats(action_low, action_high),
    }
    return {"format": "molmoact2_norm_stats.v1", "norm_mode": "q01_q99", "metadata_by_tag": {TAG: tag}}


def _stats(low: np.ndarray, high: np.ndarray) -> dict:
    rows = {"min": low, "max": high, "q01": low, "q99": high, "mean": (low + high) / 2, "std": (high - low) / 4}
    values = {key: [round(float(value), 6) for value in row] for key, row in rows.items()}
    return {**values, "mask": [True] * len(NAMES), "names": [f"{name}.pos" for name in NAMES]}


# --- what is fitted -----------------------------------------------------------------------------------------------
def sway(phase: np.ndarray) -> np.ndarray:
    """Joint targets (..., 6) on the sway at a phase [rad]; home is phase 0."""
    rise = 1 - np.cos(phase)
    offsets = [
        PAN * np.sin(phase), -LIFT * rise, ELBOW * rise, WRIST * np.sin(2 * phase), 0 * phase, GRIPPER * rise,
    ]  # fmt: skip
    return HOME + np.stack(offsets, axis=-1)


def phase_of(state: np.ndarray) -> np.ndarray:
    """The sway's phase nearest to a state (..., 6), by its pan and lift."""
    return np.arctan2((state[..., 0] - HOME[0]) / PAN, (state[..., 1] - HOME[1] + LIFT) / LIFT)


def motion(state: np.ndarray) -> np.ndarray:
    """States (B, 6) -> the next HORIZON joint targets (B, HORIZON, 6): on along the sway, starting where the arm is."""
    time = (np.arange(HORIZON) + 1) * DT
    start = phase_of(state)[:, None]
    off_the_sway = (state - sway(start[:, 0]))[:, None]
    settled = np.exp(-time / SETTLE)[None, :, None]
    return sway(start + 2 * np.pi * time / PERIOD) + off_the_sway * settled


def draw_states(rng: np.random.Generator, count: int) -> np.ndarray:
    """Mostly near the sway, some anywhere in the joint limits."""
    states = sway(rng.uniform(-np.pi, np.pi, count))
    states += rng.normal(0, 1, states.shape) * rng.choice([0.02, 0.08, 0.3], (count, 1), p=[0.4, 0.35, 0.25])
    anywhere = rng.random(count) < 0.15
    states[anywhere] = rng.uniform(LOWER, UPPER, (anywhere.sum(), len(NAMES)))
    return np.clip(states, LOWER, UPPER)


def draw_images(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    """uint8 (count, side, side, 3): shaded grounds with patches of other colours and a little noise. Every other image
    is a mosaic, in which a neighbour tells nothing: it teaches to look each cell up."""
    rows, cols = np.mgrid[0:side, 0:side][..., None] / side
    images = np.empty((count, side, side, 3), np.float32)
    for image in images:
        grey = rng.uniform(20, 235) + rng.normal(0, 30, 3) * rng.random()
        slope = rng.uniform(-150, 150, (2, 3)) * rng.random() ** 2
        image[:] = grey + (rows - 0.5) * slope[0] + (cols - 0.5) * slope[1]
        for _ in range(rng.integers(0, 9)):
            (top, left), (high, wide) = rng.integers(-20, side - 5, 2), rng.integers(8, 90, 2)
            image[max(0, top) : top + high, max(0, left) : left + wide] = rng.uniform(0, 255, 3)
        if rng.random() < 0.5:
            tiles = rng.uniform(0, 255, (*rng.integers(2, 7, 2), 1)).astype(np.float32)
            image[:] = cv2.resize(tiles, (side, side), interpolation=cv2.INTER_NEAREST)[..., None]
        image += rng.normal(0, rng.uniform(0, 6), image.shape)
    return images.round().clip(0, 255).astype(np.uint8)


def brightness_codes(images: np.ndarray, cells: int) -> np.ndarray:
    """uint8 (B, S, S, 3) -> int64 (B, cells * cells): mean luma of each cell in LEVELS steps, spread over the codes."""
    luma = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    side = images.shape[1] // cells
    means = luma.reshape(-1, cells, side, cells, side).mean(axis=(2, 4)).reshape(-1, cells * cells)
    return as_codes(np.clip(means / 256 * LEVELS, 0, LEVELS - 1).astype(np.int64))


def as_codes(levels: np.ndarray) -> np.ndarray:
    step = BLUEPRINT.num_depth_tokens // LEVELS
    return levels * step + step // 2


# --- fitting ------------------------------------------------------------------------------------------------------
class Trainer:
    """Fits all weights to both synthetic objectives at once."""

    def __init__(self, network: Network, prompts: PromptBuilder, folder: Path) -> None:
        self.network, self.config, self.prompts = network, network.config, prompts
        self.images = load_image_config(folder, network.config.vision)
        self.stats = NormStats.from_file(folder / "norm_stats.json", 32, HORIZON).tag(TAG)
        self.rng = np.random.default_rng(SEED)
        self.generator = torch.Generator().manual_seed(SEED)
        self.parameters = [*network.vlm.parameters(), *network.expert.parameters()]
        for parameter in self.parameters:
            parameter.requires_grad_(True)

    def step(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One batch; returns the losses of codes, of their end, and of the flow."""
        depth_style = bool(self.rng.random() < DEPTH_SHARE)
        count = DEPTH_BATCH if depth_style else ACTION_BATCH
        states = draw_states(self.rng, count)
        main, wrist = (draw_images(self.rng, count, self.images.height) for _ in range(2))
        instruction = INSTRUCTIONS[self.rng.integers(len(INSTRUCTIONS))]
        built = [
            self.prompts.build(instruction, self.stats.state.normalize(state.astype(np.float32)), 2, depth_style)
            for state in states
        ]
        ids, codes = torch.from_numpy(np.stack([prompt.ids for prompt in built])), None
        if depth_style:
            codes = torch.from_numpy(brightness_codes(main, self.config.depth.grid[0]))
            ids = torch.cat([ids, self._depth_tokens(codes)], dim=1)
        frames = [frame for pair in zip(main, wrist, strict=True) for frame in pair]
        hidden, cache = self._forward(ids, torch.from_numpy(built[0].is_image), frames)
        flow = self._flow_loss(cache, states)
        if codes is None:
            return hidden.new_zeros(()), hidden.new_zeros(()), flow
        return *self._code_losses(hidden[:, -codes.shape[1] - 2 : -1], codes), flow

    def _depth_tokens(self, codes: torch.Tensor) -> torch.Tensor:
        """Start, codes and end. Many codes are replaced by random ones: the model shall look at the image, not copy its
        left neighbour."""
        depth, given = self.config.depth, codes.clone()
        share = torch.from_numpy(self.rng.choice([0.0, 0.3, 1.0], (len(codes), 1), p=[0.2, 0.2, 0.6]))
        wrong = torch.from_numpy(self.rng.random(codes.shape)) < share
        given[wrong] = torch.from_numpy(as_codes(self.rng.integers(0, LEVELS, int(wrong.sum()))))
        edge = torch.ones((len(codes), 1), dtype=torch.long)
        return torch.cat([edge * depth.start, given + depth.first, edge * depth.end], dim=1)

    def _forward(
        self, ids: torch.Tensor, is_image: torch.Tensor, frames: list[np.ndarray]
    ) -> tuple[torch.Tensor, DynamicCache]:
        model, length = self.network.vlm.model, ids.shape[1]
        pixels = pixel_values(frames, self.images, torch.device("cpu"))
        grid = torch.tensor([[*self.images.token_grid, 0, 0]] * len(frames))
        pooling = pooling_index(self.images, len(frames))
        features = torch.cat(model.get_image_features(pixels, pooling, grid).pooler_output)
        embeddings = model.language_model.embed_tokens(ids)
        patches = (ids == self.config.image_tokens.patch)[..., None].expand_as(embeddings)
        embeddings = embeddings.masked_scatter(patches, embeddings[patches] + features.reshape(-1))
        position, image = torch.arange(length), functional.pad(is_image, (0, length - len(is_image)))
        visible = (position[None] <= position[:, None]) | (image[None] & image[:, None])
        cache = DynamicCache()
        output = model.language_model(
            inputs_embeds=embeddings,
            attention_mask=visible[None, None],
            position_ids=position[None],
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state, cache

    def _code_losses(self, hidden: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of the codes over the codebook, as they are decoded; and of <depth_end> over the vocabulary,
        wherever free decoding would ask."""
        depth, logits = self.config.depth, self.network.vlm.lm_head(hidden)
        rows = logits[:, :-1, depth.first : depth.first + depth.codebook_size]
        end = torch.full(logits.shape[:2], depth.end)
        return (
            functional.cross_entropy(rows.flatten(0, 1), codes.flatten()),
            functional.cross_entropy(logits.flatten(0, 1), end.flatten()),
        )

    def _flow_loss(self, cache: DynamicCache, states: np.ndarray) -> torch.Tensor:
        """Mean squared error of the velocity, data minus noise, at flow times drawn as the release draws them."""
        expert, flow, width = self.network.expert, self.config.flow, len(NAMES)
        q = self.stats.action
        span = q.unnormalize(np.ones(width, np.float32)) - q.unnormalize(-np.ones(width, np.float32))
        low = q.unnormalize(-np.ones(width, np.float32))
        actions = torch.from_numpy(np.clip(2 * (motion(states) - low) / span - 1, -1, 1).astype(np.float32))
        actions = functional.pad(actions, (0, self.config.max_action_dim - width)).repeat_interleave(FLOW_DRAWS, 0)
        noise = torch.randn(actions.shape, generator=self.generator)
        noise[..., width:] = 0.0
        beta = self.rng.beta(flow.beta_alpha, flow.beta_beta, len(actions))
        time = torch.from_numpy(flow.time_offset + flow.time_scale * beta).float()
        mixed = (1 - time)[:, None, None] * noise + time[:, None, None] * actions
        key_values = [
            (layer.keys.repeat_interleave(FLOW_DRAWS, 0), layer.values.repeat_interleave(FLOW_DRAWS, 0))
            for layer in cache.layers
        ]
        velocity = expert(mixed, expert.context(key_values, None), expert.modulations(time), expert.rope(HORIZON))
        return functional.mse_loss(velocity[..., :width], (actions - noise)[..., :width])

    def run(self, steps: int) -> None:
        optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
        averages = np.zeros(3)
        with trange(steps, desc="fitting") as progress:
            for index in progress:
                warm, cosine = min(1.0, (index + 1) / 100), 0.5 + 0.5 * math.cos(math.pi * index / steps)
                for group in optimizer.param_groups:
                    group["lr"] = LEARNING_RATE * warm * cosine
                losses = self.step()
                optimizer.zero_grad()
                (losses[0] + 0.1 * losses[1] + 2.0 * losses[2]).backward()
                torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
                optimizer.step()
                latest = np.array([loss.item() for loss in losses])
                seen = np.array([latest[0] > 0, latest[0] > 0, True])
                averages += 0.05 * np.where(seen, latest - averages, 0.0)
                if index % 20 == 0:
                    progress.set_postfix_str("codes {:.3f} end {:.4f} flow {:.4f}".format(*averages))


def order_state_tokens(network: Network, config: ModelConfig) -> None:
    """Gives neighbouring state tokens neighbouring embeddings, so that a bin never seen still reads as its value."""
    tokens, size = config.state_tokens, config.text.hidden_size
    value = torch.linspace(0, 1, tokens.count)[:, None]
    waves = torch.cat([torch.sin(value * 2**octave * math.pi / 2) for octave in range(6)], dim=1)
    mixing = torch.randn((waves.shape[1], size), generator=torch.Generator().manual_seed(SEED)) / waves.shape[1] ** 0.5
    mixing[:, 0] = 0.0
    network.vlm.model.language_model.embed_tokens.weight[tokens.first : tokens.first + tokens.count] = waves @ mixing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=2, help="1 where other programs share the cores")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "molmoact2-tiny-sway-so101")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    tokenizer, vocab_size = make_tokenizer(BLUEPRINT)
    raw = make_config(BLUEPRINT, tokenizer, vocab_size)
    config = ModelConfig.from_dict(raw)
    write_files(args.out, BLUEPRINT, raw, tokenizer, norm_stats())
    network = random_network(config, SEED)
    order_state_tokens(network, config)
    stats = NormStats.from_file(args.out / "norm_stats.json", config.max_action_dim, config.max_action_horizon)
    prompts = PromptBuilder(config, load_image_config(args.out, config.vision), tokenizer, stats.tag(TAG))
    Trainer(network, prompts, args.out).run(args.steps)
    save_weights(network, args.out)


if __name__ == "__main__":
    main()
