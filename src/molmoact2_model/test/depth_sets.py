# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Small data sets with depth: a slope, and a box before it that moves from frame to frame."""

from pathlib import Path

import numpy as np

from molmoact2_data.writer import DatasetWriter, Row

IMAGE, DEPTH = (60, 80), (30, 40)
SHADES = np.random.default_rng(7).integers(60, 200, (6, 8, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)


def box_at(frame: int) -> int:
    """The first of the two columns of the grid that the box fills."""
    return frame // 2


def depth_of(episode: int, frame: int) -> np.ndarray:
    """uint16 [mm]: from 900 above to 400 below, the box at 300; a strip that no sensor sees."""
    depth = np.repeat(np.linspace(900, 400, DEPTH[0])[:, None], DEPTH[1], axis=1) + episode
    left = box_at(frame) * DEPTH[1] // 10
    depth[9:18, left : left + 8] = 300
    depth[:, :3] = 0
    return depth.astype(np.uint16)


def image_of(frame: int) -> np.ndarray:
    image = SHADES.copy()
    left = box_at(frame) * IMAGE[1] // 10
    image[18:36, left : left + 16] = (250, 20, 20)
    return image


def depth_set(root: Path, lengths=(6, 4), depth=depth_of, camera: str = "front") -> Path:
    """A data set of episodes so long. depth: of episode and frame."""
    with DatasetWriter(root, 30, ["a", "b"], {"front": IMAGE}, "tiny", {}, {camera: DEPTH}) as writer:
        for episode, length in enumerate(lengths):
            writer.begin("touch the box", length, {})
            for frame in range(length):
                vector = np.array([frame, episode], np.float32)
                writer.add(Row(vector, vector, {"front": image_of(frame)}, {camera: depth(episode, frame)}))
            writer.end()
    return root
