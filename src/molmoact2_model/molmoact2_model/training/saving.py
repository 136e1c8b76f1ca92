# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a run writes: checkpoints in the released layout, and the state it is continued from. A folder takes its name
when it is whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..checkpoint import HUB_FILES, Network, save_weights
from ..config import read_json
from ..errors import InputError

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
CARD, INDEX, LOCK = "README.md", ".index.json", ".lock"
# What is fetched of a checkpoint that is to be trained; what of it is code is copied and never run.
FETCHED = (*HUB_FILES, "*.py", "*.jinja", "*.txt", "*.model")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps others that ask so from writing to the folder, which is made; where its file system has no locks that is
    said, and not done. Errors: InputError where another writes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise InputError(f"{folder} cannot be made or written to ({error.strerror}); choose another --out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another run writes to {folder}; wait for its end, or choose another --out") from None
        except OSError as error:
            print(f"{folder} cannot be locked ({error.strerror}): let no other run write to it", file=sys.stderr)
        yield


@contextmanager
def whole_folder(goal: Path) -> Iterator[Path]:
    """A new folder beside `goal` that takes its place when the block ends without an error."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{goal.name}.", suffix=".partial", dir=goal.parent))
    try:
        yield part
        part.chmod(0o755)    # mkdtemp's folders are the maker's alone
        _put_in_place(part, goal)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep(goal: Path) -> None:
    """Removes what processes that were killed left of `whole_folder(goal)`. For whoever alone writes there."""
    for left in goal.parent.glob(f".{goal.name}.*.partial"):
        shutil.rmtree(left)


def _put_in_place(part: Path, goal: Path) -> None:
    """Whatever ends it, there is one of the two at `goal`."""
    old = part.with_suffix(".old")
    try:
        if goal.exists():
            goal.rename(old)
        part.rename(goal)
    finally:
        if old.exists() and not goal.exists():
            old.rename(goal)
    for left in goal.parent.glob(f".{goal.name}.*.old"):    # this one, and what a process that was killed left
        shutil.rmtree(left)


def save_checkpoint(
    network: Network, source: Path, goal: Path, card: str, dtype: torch.dtype | None = None
) -> None:
    """Writes a checkpoint. source: folder with all files but the weights; card: README.md; dtype: of the weights, None:
    as they are."""
    with whole_folder(goal) as folder:
        copy_files(source, folder)
        _state_dtype(folder / "config.json", str(dtype or network.dtype).removeprefix("torch."))
        save_weights(network, folder, dtype)
        (folder / CARD).write_text(card, encoding="utf-8")


def copy_files(source: Path, goal: Path) -> None:
    """All files of a checkpoint but its weights and its card."""
    for path in sorted(source.iterdir()):
        left = path.suffix in WEIGHTS or path.name.endswith(INDEX) or path.name == CARD or path.name.startswith(".")
        if path.is_file() and not left:
            shutil.copyfile(path, goal / path.name)


def _state_dtype(path: Path, name: str) -> None:
    """Wherever config.json says of what type the weights are, it says this one."""
    def stated(section: dict[str, Any]) -> dict[str, Any]:
        return {
            key: name if key in ("dtype", "torch_dtype") and isinstance(value, str)
            else stated(value) if isinstance(value, dict) else value
            for key, value in section.items()
        }    # fmt: skip

    raw = read_json(path)
    if stated(raw) != raw:
        path.write_text(json.dumps(stated(raw), indent=1) + "\n", encoding="utf-8")


def save_state(goal: Path, tensors: Mapping[str, torch.Tensor], step: int, about: Mapping[str, str]) -> None:
    """One file, replaced at once. about: of the run, in words of its own. Errors: OSError, SafetensorError."""
    part = goal.with_suffix(".partial")
    metadata = {"step": str(step), **about}
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part, metadata)
        os.replace(part, goal)
    finally:    # on a full disk it would keep others from being written
        part.unlink(missing_ok=True)


def load_state(path: Path) -> tuple[dict[str, torch.Tensor], int, dict[str, str]]:
    """What `save_state` was given. Errors: InputError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        return load_file(path), int(about.pop("step", "")), about
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be continued from: {error}; begin again with another --out") from None
