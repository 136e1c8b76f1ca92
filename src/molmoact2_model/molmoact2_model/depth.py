# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth codes as a depth map, with what there is to read them by. No ROS; torch only for a decoder network.

* A codebook: `depth_codebook.json` in the checkpoint's folder, or a file of that format. It alone may claim metres:

      {"format": "molmoact2_depth_codebook.v1", "unit": "m", "values": [0.21, 0.22, ...]}
      {"format": "molmoact2_depth_codebook.v1", "unit": "relative", "larger": "nearer", "values": [...]}

  One value for each code, in the order of the codes. With "m" it is the distance along the camera's optical axis.
* A decoder network in the layout of the published VQ-VAE (see depth_vqvae.py): relative depth.
* Neither: the code itself, which is an index and says nothing of distance.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .config import read_json
from .errors import CheckpointError, InputError

METRES, RELATIVE, CODE = "m", "relative", "code"
FARTHER, NEARER = "farther", "nearer"
CODEBOOK_FILE = "depth_codebook.json"
CODEBOOK_FORMAT = "molmoact2_depth_codebook.v1"
NETWORK_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class DepthMap:
    """One decoded map. It covers the whole main image, whatever the image's aspect; row 0 is at the top.

    values: float32 (h, w), finite. unit: "m" (along the optical axis), "relative" (an order without a scale), or "code"
    (an index: not even an order). larger: what a larger value means, "farther" or "nearer"; empty for "code".
    span: least and greatest value there can be, where the source says so, else of this map. source: what decoded it.
    """

    values: np.ndarray
    unit: str
    larger: str
    span: tuple[float, float]
    source: str

    def shares(self) -> np.ndarray:
        """Each value's place within the span, float32 (h, w), 0 .. 1."""
        low, high = self.span
        return np.clip((self.values - low) / max(high - low, 1e-12), 0.0, 1.0).astype(np.float32)

    def farness(self) -> np.ndarray:
        """0 (nearest of the span) .. 1 (farthest), float32 (h, w). Errors: ValueError for codes."""
        if self.unit == CODE:
            raise ValueError("code indices say nothing of near and far")
        return self.shares() if self.larger == FARTHER else 1.0 - self.shares()


class DepthDecoder(Protocol):
    """Makes a depth map of integer codes (rows, cols). Errors: InputError for codes it does not have."""

    unit: str
    source: str

    def decode(self, codes: np.ndarray) -> DepthMap: ...


def check_codes(codes: np.ndarray, size: int) -> np.ndarray:
    """The codes as int64 (rows, cols). Errors: InputError unless they are integers 0 .. size - 1 in a grid."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or not codes.size or not np.issubdtype(codes.dtype, np.integer):
        found = f"{codes.dtype} of shape {codes.shape}"
        raise InputError(f"depth codes are {found}, expected a grid (rows, cols) of integers")
    if codes.min() < 0 or codes.max() >= size:
        wrong = int(codes.min() if codes.min() < 0 else codes.max())
        raise InputError(f"depth code {wrong} is not in the codebook, which has codes 0 .. {size - 1}")
    return codes.astype(np.int64)


class CodeIndex:
    """Shows the codes as they are. size: number of codes."""

    unit, source = CODE, "code index (no codebook)"

    def __init__(self, size: int):
        self.size = size

    def decode(self, codes: np.ndarray) -> DepthMap:
        codes = check_codes(codes, self.size)
        return DepthMap(codes.astype(np.float32), CODE, "", (0.0, float(self.size - 1)), self.source)


class Codebook:
    """One number for each code. values: float32 (codes,); unit, larger: as in DepthMap."""

    def __init__(self, values: np.ndarray, unit: str, larger: str, source: str):
        self.values, self.unit, self.larger, self.source = values, unit, larger, source

    def decode(self, codes: np.ndarray) -> DepthMap:
        codes = check_codes(codes, self.values.size)
        span = float(self.values.min()), float(self.values.max())
        return DepthMap(self.values[codes], self.unit, self.larger, span, self.source)


def checkpoint_decoder(folder: Path) -> DepthDecoder:
    """What the checkpoint in a local folder offers: its codebook, else the code index.

    Errors: CheckpointError for a folder that is no depth checkpoint, or a codebook that is wrong.
    """
    size = read_json(folder / "config.json").get("num_depth_tokens")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise CheckpointError(f"{folder / 'config.json'}: num_depth_tokens is {size!r}; there are no depth codes")
    path = folder / CODEBOOK_FILE
    if not path.exists():
        return CodeIndex(size)
    codebook = read_codebook(path)
    if codebook.values.size != size:
        raise CheckpointError(
            f"{path}: values has {codebook.values.size} numbers, but the checkpoint has {size} depth codes"
        )
    return codebook


def open_decoder(path: Path) -> DepthDecoder:
    """A decoder by file: a codebook (.json) or a decoder network (.pt, .pth, .safetensors).

    Errors: CheckpointError that names what does not fit. Nothing in the file is executed.
    """
    if path.suffix == ".json":
        return read_codebook(path)
    if path.suffix in NETWORK_SUFFIXES:
        from .depth_vqvae import VqVaeDecoder  # needs torch

        return VqVaeDecoder(path)
    raise CheckpointError(
        f"{path}: a depth decoder is a codebook (.json) or a network ({', '.join(NETWORK_SUFFIXES)}) by its suffix"
    )


def codebook_content(codebook: Codebook) -> dict[str, Any]:
    """As a file holds it."""
    larger = {} if codebook.unit == METRES else {"larger": codebook.larger}
    # The shortest number that is read as the same float32 again.
    values = [float(str(value)) for value in codebook.values.astype(np.float32)]
    return {"format": CODEBOOK_FORMAT, "unit": codebook.unit, **larger, "values": values}


def write_codebook(path: Path, codebook: Codebook) -> None:
    """Writes a whole file or none."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(codebook_content(codebook)) + "\n", "utf8")
    os.replace(partial, path)


def read_codebook(path: Path) -> Codebook:
    """Reads and checks a codebook. Errors: CheckpointError naming the file and the key."""
    return parse_codebook(read_json(path), path)


def parse_codebook(content: dict[str, Any], path: Path) -> Codebook:
    """Checks the content of a codebook. path: where it was found. Errors: CheckpointError naming it and the key."""
    found = content.get("format")
    if found != CODEBOOK_FORMAT:
        raise CheckpointError(f"{path}: format is {found!r}, expected {CODEBOOK_FORMAT!r}")
    unit = content.get("unit")
    if unit not in (METRES, RELATIVE):
        raise CheckpointError(f"{path}: unit is {unit!r}, expected {METRES!r} (metres) or {RELATIVE!r}")
    known = {"format", "unit", "values"} | ({"larger"} if unit == RELATIVE else set())
    for key in content:
        if key not in known:
            there = ", ".join(sorted(known))
            raise CheckpointError(f"{path}: {key!r} is not known with unit {unit!r}; expected {there}")
    larger = content.get("larger") if unit == RELATIVE else FARTHER
    if larger not in (FARTHER, NEARER):
        raise CheckpointError(f"{path}: larger is {larger!r}; say what a larger value means: {FARTHER!r} or {NEARER!r}")
    return Codebook(_values(content.get("values"), unit, path), unit, larger, f"{path.name}, {unit}")


def _values(values: Any, unit: str, path: Path) -> np.ndarray:
    if not isinstance(values, list) or not values:
        raise CheckpointError(f"{path}: values must be a list with one number for each code")
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise CheckpointError(f"{path}: values[{index}] is {value!r}, expected a finite number")
        if unit == METRES and value <= 0:
            raise CheckpointError(f"{path}: values[{index}] is {value!r} m, expected a distance greater than 0")
    return np.array(values, dtype=np.float32)
