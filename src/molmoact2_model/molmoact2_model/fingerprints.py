# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a checkpoint: the same for the same files, wherever they lie."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from .errors import CheckpointError

PATTERNS = ("*.json", "*.safetensors")    # of the files that make a checkpoint
BLOCK = 2**22


def fingerprint(folder: Path, patterns: Sequence[str] = PATTERNS) -> str:
    """SHA-256, in hex, of what `LC_ALL=C sha256sum *.json *.safetensors | sort -k 2` prints in the folder. patterns: of
    other files than these.

    The sums of files are kept, by path, size and time of change, in $XDG_CACHE_HOME/molmoact2/fingerprints.json, so
    that large ones are read once. Errors: CheckpointError where a file cannot be read.
    """
    names = sorted({file.name for pattern in patterns for file in folder.glob(pattern)})
    known = _known()
    lines, changed = [], False
    for name in names:
        file = (folder / name).resolve()
        try:
            state = file.stat()
            key = [state.st_size, state.st_mtime_ns, state.st_ino]
            entry = known.get(str(file))
            if not entry or entry[:3] != key:
                known[str(file)] = entry = [*key, _sum(file)]
                changed = True
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
        lines.append(f"{entry[3]}  {name}\n")
    if changed:
        _keep(known)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "molmoact2/fingerprints.json"


def _known() -> dict[str, list]:
    try:
        known = json.loads(_cache().read_text())
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {path: entry for path, entry in entries if isinstance(entry, list) and len(entry) == 4}


def _keep(known: dict[str, list]) -> None:
    """A cache that cannot be written costs time only."""
    file = _cache()
    new = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps({path: entry for path, entry in known.items() if os.path.exists(path)}))
        os.replace(new, file)
