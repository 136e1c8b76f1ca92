# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Fits a FAST tokenizer: byte-pair encoding of the letters that chunks are spelled with (fast.spelled)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ..errors import InputError
from ..fast import LETTERS, FastTokenizer, spelled
from .saving import whole_folder

RAREST = 2    # a pair that comes less often gets no token
REPORT = "report.json"


def letters_needed(scale: float, horizon: int) -> int:
    """Coefficients of chunks of so many steps, in -1..1, are rounded to whole numbers from -n to n: the transform keeps
    lengths, so none is longer than the chunk of one joint, the square root of its steps. Returns n."""
    return math.ceil(scale * math.sqrt(horizon))


def fit(chunks: Iterable[np.ndarray], horizon: int, scale: float, vocabulary: int) -> FastTokenizer:
    """A tokenizer that expresses every chunk in -1..1 of up to `horizon` steps, and those like `chunks` in few tokens.

    chunks: float (T, D), in -1..1. scale: steps of the grid that coefficients are rounded to, in 1. vocabulary: tokens
    at most. Errors: InputError.
    """
    most = letters_needed(scale, horizon)
    if 2 * most >= LETTERS:
        raise InputError(f"--scale {scale:g} is too fine for chunks of {horizon} steps; choose {scale / 100:g} or so")
    alphabet = _alphabet(2 * most + 1)
    if vocabulary < len(alphabet):
        raise InputError(
            f"--vocabulary is {vocabulary}; chunks of {horizon} steps at --scale {scale:g} need {len(alphabet)} tokens "
            "at least, before any stands for several coefficients"
        )
    tokenizer = Tokenizer(models.BPE())
    # Coefficients are no language: a token may reach over what would be words there.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=RAREST, show_progress=False, special_tokens=[], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator((spelled(chunk, scale, -most) for chunk in chunks), trainer)
    return FastTokenizer(tokenizer, scale, -most)


def _alphabet(count: int) -> list[str]:
    """What ByteLevel makes of the first so many letters: one symbol for each of their bytes."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return sorted({symbol for code in range(count) for symbol in split.pre_tokenize_str(chr(code))[0][0]})


def write(
    folder: Path, fast: FastTokenizer, vocabulary: int, shape: tuple[int | None, int | None], report: dict[str, Any]
) -> None:
    """Writes the released layout. shape: horizon and dimensions where all chunks had the same. The folder takes its
    name when it is whole."""
    config = {
        "processor_class": "UniversalActionProcessor",
        "scale": fast.scale,
        "vocab_size": vocabulary,
        "min_token": fast.min_token,
        "time_horizon": shape[0],
        "action_dim": shape[1],
    }
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    with whole_folder(folder) as part:
        fast.save(part / "tokenizer.json")
        for name, content in (
            ("processor_config.json", config), ("tokenizer_config.json", tokenizer), (REPORT, report),
        ):
            (part / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
