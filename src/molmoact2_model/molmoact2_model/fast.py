# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""OpenFAST: an action chunk as a few tokens, by a cosine transform along time and byte-pair encoding (spec
section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.fft import dct, idct
from tokenizers import Tokenizer

from .config import read_json
from .errors import CheckpointError, DecodeError, ModelError
from .processing import load_tokenizer

FILES = ("processor_config.json", "tokenizer.json")
LETTERS = 0xD800    # code points from 0; those that follow are no characters
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class FastTokenizer:
    """Encodes and decodes action chunks in the model's range (-1..1).

    Where the reference answers malformed tokens with a chunk of zeros and a warning, this one raises: zeros
    un-normalise to the middle of every joint's range, and a robot would go there.
    """

    def __init__(self, tokenizer: Tokenizer, scale: float, min_token: int) -> None:
        self._tokenizer, self.scale, self.min_token = tokenizer, scale, min_token
        self.vocab_size = tokenizer.get_vocab_size()

    @classmethod
    def from_folder(cls, folder: str | Path) -> FastTokenizer:
        """Reads `processor_config.json` and `tokenizer.json`; CheckpointError names what is wrong with them."""
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise CheckpointError(
                f"fast_tokenizer {folder} is not a folder; it holds processor_config.json and tokenizer.json"
            )
        config = read_json(folder / "processor_config.json")
        scale, min_token, size = (
            config.get("scale", 10),
            config.get("min_token", 0),
            config.get("vocab_size", 1024),
        )
        if (
            isinstance(scale, bool)
            or not isinstance(scale, (int, float))
            or not math.isfinite(scale)
            or scale <= 0
        ):
            raise CheckpointError(
                f"{folder}: processor_config.json: scale is {scale!r}, expected a number > 0"
            )
        for key, value in (("min_token", min_token), ("vocab_size", size)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise CheckpointError(
                    f"{folder}: processor_config.json: {key} is {value!r}, expected an integer"
                )
        fast = cls(load_tokenizer(folder), float(scale), min_token)
        if not 0 < fast.vocab_size <= size:
            raise CheckpointError(
                f"{folder}: tokenizer.json has {fast.vocab_size} tokens, processor_config.json allows {size}"
            )
        return fast

    def save(self, path: Path) -> None:
        """Writes tokenizer.json."""
        self._tokenizer.save(str(path))

    def encode(self, actions: np.ndarray) -> list[int]:
        """float (T, D) in the model's range -> tokens. ModelError for a chunk that this tokenizer cannot express, where
        the reference would cut a coefficient off or drop it unseen."""
        text = spelled(actions, self.scale, self.min_token)
        tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
        if self._text(tokens) != text:
            raise ModelError(
                "this FAST tokenizer cannot express the chunk: a coefficient is outside what it was fitted on"
            )
        return tokens

    def decode(self, tokens: Sequence[int], horizon: int, action_dim: int) -> np.ndarray:
        """Tokens -> float32 (horizon, action_dim) in the model's range. ModelError names what is malformed."""
        foreign = sorted({token for token in tokens if not 0 <= token < self.vocab_size})
        if foreign:
            raise DecodeError(
                f"FAST tokens {foreign[:8]} are outside the tokenizer's {self.vocab_size}; there is no action"
            )
        text = self._text(tokens)
        if _REPLACEMENT in text:
            raise DecodeError("the FAST tokens do not spell whole coefficients; there is no action")
        if len(text) != horizon * action_dim:
            raise DecodeError(
                f"the FAST tokens spell {len(text)} coefficients, a chunk of {horizon} steps and "
                f"{action_dim} dimensions has {horizon * action_dim}; there is no action"
            )
        coefficients = (
            np.array([ord(letter) for letter in text]).reshape(horizon, action_dim) + self.min_token
        )
        return idct(coefficients / self.scale, axis=0, norm="ortho").astype(np.float32)

    def _text(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False)


def spelled(actions: np.ndarray, scale: float, min_token: int) -> str:
    """float (T, D) -> a letter for each coefficient, time by time: the rounded one, counted from `min_token`.
    ModelError for what is no chunk, and for coefficients below the lowest or beyond the letters there are."""
    actions = np.asarray(actions, dtype=np.float64)
    if actions.ndim != 2 or actions.size == 0 or not np.isfinite(actions).all():
        raise ModelError(
            f"actions have shape {actions.shape} or are not finite, expected finite (steps, dimensions)"
        )
    letters = np.around(dct(actions, axis=0, norm="ortho") * scale).ravel() - min_token
    if letters.min() < 0 or letters.max() >= LETTERS:
        raise ModelError(
            "this FAST tokenizer cannot express the chunk: it has coefficients from "
            f"{letters.min() + min_token:.0f} to {letters.max() + min_token:.0f}, there are letters "
            f"from {min_token} to {min_token + LETTERS - 1}"
        )
    return "".join(map(chr, letters.astype(int)))


def action_bins(token_ids: Sequence[int], start: int, end: int, first: int, count: int) -> list[int]:
    """Picks the FAST tokens out of generated ids: those between the first `start` and the next `end`, or all
    after `start` without an `end`, or all without a `start`; as 0 .. count - 1, other ids are skipped."""
    ids = list(token_ids)
    begin = ids.index(start) + 1 if start in ids else 0
    stop = ids.index(end, begin) if begin and end in ids[begin:] else len(ids)
    return [token - first for token in ids[begin:stop] if first <= token < first + count]
