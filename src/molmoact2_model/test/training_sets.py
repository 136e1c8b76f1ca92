# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A toy robot to train on: two joints, two cameras, and a bright square that the instruction names by its colour. The
right action moves the joints to where the square is; the red one is always on the left."""

import json
from pathlib import Path

import numpy as np

from molmoact2_contract.cli import main
from molmoact2_data.companions import ALTERNATIVES, DEPTH_CODES, POINTS, QUESTIONS
from molmoact2_data.writer import DatasetWriter, Row
from molmoact2_model.training.depth_store import ABOUT

HORIZON, SIDE = 8, 56
COLOURS = {"red": (230, 30, 30), "blue": (30, 30, 230)}
TAG = "toy"
METRES = [0.2 * (index + 1) for index in range(8)]    # of each depth code
STATS = {key: [value] * 2 for key, value in (("min", -1.0), ("max", 1.0), ("q01", -1.0), ("q99", 1.0))}


def norm_stats(folder: Path) -> Path:
    tag = {
        "state_keys": ["observation.state"], "camera_keys": ["observation.images.front", "observation.images.wrist"],
        "action_dim": 2, "action_horizon": HORIZON, "n_action_steps": HORIZON, "setup_type": "a toy",
        "control_mode": "places", "state_stats": STATS, "action_stats": STATS,
    }  # fmt: skip
    content = {"format": "molmoact2_norm_stats.v1", "norm_mode": "min_max", "metadata_by_tag": {TAG: tag}}
    path = folder / "norm_stats.json"
    path.write_text(json.dumps(content))
    return path


def toy_set(root: Path, episodes: int = 12, length: int = 4, codes: int = 4) -> Path:
    """Squares that lie still; each episode is to go to one of two."""
    random = np.random.default_rng(5)
    with DatasetWriter(root, 10, ["a", "b"], {"front": (SIDE, SIDE), "wrist": (SIDE, SIDE)}, "toy", {}) as writer:
        for episode in range(episodes):
            places = {"red": 2 * int(random.integers(2)), "blue": 2 * int(random.integers(2)) + 1}
            image = np.full((SIDE, SIDE, 3), 120, np.uint8)
            for colour, place in places.items():
                row, column = divmod(int(place), 2)
                image[row * 28 + 7 : row * 28 + 21, column * 28 + 7 : column * 28 + 21] = COLOURS[colour]
            wanted = list(COLOURS)[episode % 2]
            writer.begin(f"go to the {wanted} square", length, {})
            for _ in range(length):
                writer.add(Row(np.zeros(2), target(places[wanted]), {"front": image, "wrist": image}))
            writer.end()
            _companions(writer, episode, length, places, wanted, codes)
    return described(root, METRES)


def described(root: Path, metres: list[float], camera: str = "front") -> Path:
    """With what `molmoact2 depth annotate` writes beside codes."""
    about = {
        "format": "molmoact2_depth_codes.v1", "camera": camera, "cells": {"grid": [2, 2]},
        "codebook": {"format": "molmoact2_depth_codebook.v1", "unit": "m", "values": metres},
    }  # fmt: skip
    (root / ABOUT).write_text(json.dumps(about))
    return root


def fast_of(root: Path, out: Path, vocabulary: int = 80) -> Path:
    """An action tokenizer for a toy set."""
    command = ["fast", "train", str(root), "-o", str(out), "--horizon", str(HORIZON), "--vocabulary", str(vocabulary)]
    assert main(command) == 0
    return out


def target(place: int) -> np.ndarray:
    row, column = divmod(int(place), 2)
    return np.array([column - 0.5, row - 0.5], np.float32)


def _companions(writer: DatasetWriter, episode: int, length: int, places: dict, wanted: str, codes: int) -> None:
    keys = [{"episode_index": episode, "frame_index": frame} for frame in range(length)]
    where = {colour: ((place % 2 + 0.5) / 2, (place // 2 + 0.5) / 2) for colour, place in places.items()}
    other = next(colour for colour in COLOURS if colour != wanted)
    chunk = np.tile(target(places[other]), (HORIZON, 1)).ravel()
    grid = np.isin(np.arange(codes), list(places.values())).astype(np.int16)
    writer.companion(POINTS).add(
        [
            key | {"camera": "front", "phrase": colour, "across": float(place[0]), "down": float(place[1])}
            for key in keys
            for colour, place in where.items()
        ]
    )
    alternative = {"instruction": f"go to the {other} square", "chunk": chunk}
    writer.companion(ALTERNATIVES).add([key | alternative for key in keys])
    answer = f"{int(where[wanted][0] * 100)} {int(where[wanted][1] * 100)}"
    question = {"camera": "front", "question": f"Where is the {wanted} square?", "answer": answer}
    writer.companion(QUESTIONS).add([key | question for key in keys])
    writer.companion(DEPTH_CODES).add([key | {"camera": "front", "codes": grid} for key in keys])
