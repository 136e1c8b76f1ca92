# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth codes for every frame of a data set, and the codebook for several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from molmoact2_data.companions import DEPTH_CODES, FOLDER
from molmoact2_data.layout import DEPTH, DatasetError
from molmoact2_data.reader import Dataset, Episode

from ..depth import Codebook
from ..think import SIMILARITY_THRESHOLD
from .depth_buffer import CodeBuffer
from .depth_cells import SIDE, cell_depths
from .depth_codebook import CodingError, DepthCounts, coding_error, fit
from .depth_encoders import DepthEncoder
from .depth_store import ABOUT, writing


@dataclass(frozen=True)
class Fitted:
    """frames: that were counted; error: of coding them."""

    codebook: Codebook
    frames: int
    error: CodingError


@dataclass(frozen=True)
class Annotated:
    """frames: with codes; without: frames at which nothing was measured; kept: share of the codes that were kept from
    an earlier frame."""

    frames: int
    without: int
    kept: float


def with_depth(root: Path, camera: str) -> Dataset:
    """A data set whose camera has depth. Errors: DatasetError where it has none of the kind that is read."""
    dataset, name = Dataset(root), DEPTH + camera
    if camera not in dataset.depth_cameras:
        others = ", ".join(dataset.depth_cameras)
        found = f"cameras with depth: {others}" if others else "no camera of it has depth"
        raise DatasetError(f"{root} has no {name}; {found}")
    feature = dataset.features[name]
    shape, kind = feature.get("shape"), feature.get("dtype")
    about = feature.get("info") or {}
    unit = about.get("depth_unit", about.get("unit", "mm"))    # LeRobot's word, and ours
    if kind != "image" or not isinstance(shape, list) or len(shape) != 3 or shape[2] != 1 or unit != "mm":
        raise DatasetError(
            f"{root}: {name} is {kind!r} of shape {shape} in {unit}; expected 'image' of shape [h, w, 1] in mm: 16-bit "
            "PNG in the parquet files"
        )
    return dataset


def fit_codebook(
    datasets: Sequence[Dataset], camera: str, quantile: float, every: int, farthest: float, show: bool
) -> Fitted:
    """Fits to every so many frames of each episode. farthest [m]: see depth_codebook.fit. show: progress on stderr.

    Errors: DatasetError, InputError.
    """
    seen, frames = DepthCounts(), 0
    episodes = [(dataset, episode) for dataset in datasets for episode in dataset.episodes]
    for dataset, episode in tqdm(episodes, "fit", unit="episode", disable=not show):
        for frame, image in enumerate(dataset.depth(episode, camera)):
            depths = cell_depths(image, quantile) if frame % every == 0 else None
            if depths is not None:
                seen.add(depths)
                frames += 1
    codebook = fit(seen, farthest=farthest)
    return Fitted(codebook, frames, coding_error(seen, codebook))


def check_place(dataset: Dataset, force: bool) -> None:
    """Errors: DatasetError where there are codes already and they are not to be replaced."""
    if not force and (dataset.root / ABOUT).exists():
        raise DatasetError(f"{dataset.root} has depth codes already ({FOLDER}/{DEPTH_CODES}); --force replaces them")


def annotate(dataset: Dataset, camera: str, encoder: DepthEncoder, buffer: int, force: bool, show: bool) -> Annotated:
    """Writes the codes of one data set. buffer: frames from one inference to the next, for codes that are kept where
    the image did not change; 0: each frame has its own. show: progress on stderr.

    Errors: DatasetError; nothing is changed then.
    """
    check_place(dataset, force)
    if buffer and camera not in dataset.cameras:
        raise DatasetError(
            f"{dataset.root} has no images of camera {camera!r}, which --buffer compares; it has: "
            f"{', '.join(dataset.cameras) or 'none'}"
        )
    done = without = kept = 0
    with writing(dataset.root) as new:
        for episode in tqdm(dataset.episodes, "annotate", unit="episode", disable=not show):
            frames, codes = [], []
            for frame, (row, reused) in enumerate(_coded(dataset, episode, camera, encoder, buffer)):
                if row is None:
                    without += 1
                    continue
                frames.append(frame)
                codes.append(row)
                kept += reused
            new.add(episode.index, frames, camera, codes)
            done += len(frames)
        rule = {"every": buffer, "similarity_threshold": SIMILARITY_THRESHOLD} if buffer else None
        counts = {"frames": done, "frames_without_codes": without}
        new.about.update({"camera": camera, **encoder.about(), "buffer": rule, **counts})
    return Annotated(done, without, kept / max(1, done * SIDE**2))


def _coded(
    dataset: Dataset, episode: Episode, camera: str, encoder: DepthEncoder, buffer: int
) -> Iterator[tuple[np.ndarray | None, int]]:
    """Each frame's codes, and how many are of an earlier frame."""
    depths = dataset.depth(episode, camera)
    if not buffer:
        for depth in depths:
            yield encoder.encode(depth), 0
        return
    keeper = CodeBuffer(SIDE, buffer)
    pictures = dataset.pictures(episode, camera)
    for depth in depths:
        image = next(pictures, None)
        if image is None:
            raise DatasetError(f"{dataset.root}: the video of camera {camera} ends in episode {episode.index}")
        yield keeper.step(image, encoder.encode(depth))
