# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a run writes: checkpoints in the released layout, and the state it is continued from. A folder takes its name
when it is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..checkpoint import Network, save_weights
from ..errors import InputError

COPIED = (
    "config.json", "norm_stats.json", "processor_config.json", "preprocessor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "video_preprocessor_config.json", "depth_codebook.json",
)


@contextmanager
def whole_folder(goal: Path) -> Iterator[Path]:
    """A new folder beside `goal` that takes its place when the block ends without an error."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{goal.name}.", suffix=".partial", dir=goal.parent))
    try:
        yield part
        part.chmod(0o755)    # mkdtemp's folders are the maker's alone
        if goal.exists():
            old = part.with_suffix(".old")
            goal.rename(old)
            part.rename(goal)
            shutil.rmtree(old)
        else:
            part.rename(goal)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def save_checkpoint(
    network: Network, source: Path, goal: Path, card: str, dtype: torch.dtype | None = None
) -> None:
    """Writes a checkpoint. source: folder with all files but the weights; card: README.md; dtype: of the weights, None:
    as they are."""
    with whole_folder(goal) as folder:
        for name in COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        save_weights(network, folder, dtype)
        (folder / "README.md").write_text(card, encoding="utf-8")


def save_state(goal: Path, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, int]) -> None:
    """One file, replaced at once."""
    part = goal.with_suffix(".partial")
    metadata = {name: str(value) for name, value in numbers.items()}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part, metadata)
    os.replace(part, goal)


def load_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Errors: InputError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), {name: int(value) for name, value in metadata.items() if name != "format"}
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be continued from: {error}; begin again with another --out") from None
