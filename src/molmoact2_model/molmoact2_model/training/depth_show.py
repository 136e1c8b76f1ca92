# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of one frame: the camera's image, its depth image, and what its codes say."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from molmoact2_data.layout import DatasetError

from ..depth import CODE, METRES, CodeIndex, DepthDecoder, DepthMap, open_decoder
from ..picture import scale_colours, side_by_side
from .depth_annotate import with_depth
from .depth_store import DepthCodes

HEIGHT, CAPTION = 480, 26
UNMEASURED = (200, 200, 200)    # no colour of the scale
NEAR_SHARE, FAR_SHARE = 0.01, 0.99    # of the depth image's pixels, that its colours span


def depth_row(root: Path, episode: int, frame: int, network: Path | None = None) -> Image.Image:
    """The three side by side, each with a line that says what it is. network: decodes codes that a network made.

    Errors: DatasetError, CheckpointError.
    """
    store = DepthCodes(root)
    dataset = with_depth(root, store.camera)
    found = next((one for one in dataset.episodes if one.index == episode), None)
    if found is None or not 0 <= frame < found.length:
        there = f"frames 0 to {found.length - 1}" if found else f"{len(dataset.episodes)} episodes"
        raise DatasetError(f"{root} has no episode {episode}, frame {frame}; it has {there}")
    codes = store.of_episode(episode).get(frame)
    if codes is None:
        raise DatasetError(f"{root}: episode {episode}, frame {frame} has no depth codes: nothing was measured there")
    depth = next(islice(dataset.depth(found, store.camera), frame, None))
    coded = _decoder(store, network).decode(codes.astype(np.int64).reshape(store.grid))
    image = None
    if store.camera in dataset.cameras:
        image = next(islice(dataset.pictures(found, store.camera), frame, None), None)
    height, across = (image if image is not None else depth).shape[:2]
    width = round(HEIGHT * across / height)
    span = _span(depth, coded)
    panels = [(_colours(depth / 1000.0, depth > 0, span), "depth image, {:.2f} m (bright) to {:.2f} m".format(*span))]
    panels.append((_coded_colours(coded, span), _words(coded)))
    if image is not None:
        panels.insert(0, (image, f"{store.camera}, episode {episode}, frame {frame}"))
    return side_by_side([_panel(pixels, words, width) for pixels, words in panels])


def _decoder(store: DepthCodes, network: Path | None) -> DepthDecoder:
    codebook = store.codebook()
    if codebook is not None:
        return codebook
    return open_decoder(network) if network is not None else CodeIndex(int(store.about["network"]["codes"]))


def _span(depth: np.ndarray, coded: DepthMap) -> tuple[float, float]:
    """Of the colours [m]: both panels' where the codes are metric, so that equal colours are equal distances."""
    metres = depth[depth > 0] / 1000.0
    if not metres.size:
        metres = np.ravel(coded.values) if coded.unit == METRES else np.array([0.0, 1.0])
    low, high = np.quantile(metres, (NEAR_SHARE, FAR_SHARE))
    return float(low), float(high)


def _coded_colours(coded: DepthMap, span: tuple[float, float]) -> np.ndarray:
    if coded.unit == METRES:
        return _colours(coded.values, np.ones_like(coded.values, bool), span)
    return scale_colours(coded.shares() if coded.unit == CODE else 1.0 - coded.farness())


def _words(coded: DepthMap) -> str:
    if coded.unit == METRES:
        return f"codes in metres, {coded.values.min():.2f} to {coded.values.max():.2f}"
    return "code index (no codebook)" if coded.unit == CODE else "codes by the network, relative"


def _colours(metres: np.ndarray, measured: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """uint8 (h, w, 3); near is bright."""
    shares = np.clip((metres - span[0]) / max(span[1] - span[0], 1e-9), 0.0, 1.0)
    return np.where(measured[..., None], scale_colours(1.0 - shares), np.array(UNMEASURED, np.uint8))


def _panel(pixels: np.ndarray, words: str, width: int) -> Image.Image:
    panel = Image.new("RGB", (width, HEIGHT + CAPTION), "white")
    panel.paste(Image.fromarray(pixels).resize((width, HEIGHT), Image.Resampling.NEAREST), (0, 0))
    face = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 15)
    ImageDraw.Draw(panel).text((2, HEIGHT + CAPTION // 2), words, "black", face, anchor="lm")
    return panel
