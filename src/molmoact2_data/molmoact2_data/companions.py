# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is known of single frames beside the data set itself: parquet files under `annotations/<name>`, a row for each
thing known, with the episode and the frame that it is about. Readers that do not know them pass them by.

Names in use: `questions` (camera, question, answer), `points` (camera, phrase, and where what it names is, as shares of
width and height from the upper left), `alternatives` (instruction, and the chunk for it), `depth_codes` (camera and
codes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import compute

from .layout import DATA_MB
from .tables import EpisodeTable, RolledTable

FOLDER = "annotations"
FILES = FOLDER + "/{name}/chunk-{{chunk_index:03d}}/file-{{file_index:03d}}.parquet"
DESCRIPTIONS = ("meta/depth_codes.json",)    # of what is in such files
KEYS = ("episode_index", "frame_index")
SHARES, LISTS, MAY_LACK = ("across", "down"), ("chunk", "codes"), (*KEYS, "camera")
QUESTIONS, POINTS, ALTERNATIVES, DEPTH_CODES = "questions", "points", "alternatives", "depth_codes"
SCHEMAS = {
    QUESTIONS: {"camera": pyarrow.string(), "question": pyarrow.string(), "answer": pyarrow.string()},
    POINTS: {
        "camera": pyarrow.string(), "phrase": pyarrow.string(), "across": pyarrow.float32(), "down": pyarrow.float32()
    },
    ALTERNATIVES: {"instruction": pyarrow.string(), "chunk": pyarrow.list_(pyarrow.float32())},
    DEPTH_CODES: {"camera": pyarrow.string(), "codes": pyarrow.list_(pyarrow.int16())},
}


def schema(name: str) -> pyarrow.Schema:
    """Of a companion's files."""
    keys = [(key, pyarrow.int64()) for key in KEYS]
    return pyarrow.schema([*keys, *SCHEMAS[name].items()])


class CompanionWriter:
    """Writes one companion, episode by episode."""

    def __init__(self, root: Path, name: str):
        self._schema = schema(name)
        self._files = RolledTable(root, FILES.format(name=name), DATA_MB)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """rows: of one episode, in the order of its frames, each with both keys and the companion's columns."""
        if rows:
            self._files.add(pyarrow.Table.from_pylist(list(rows), self._schema))

    def close(self) -> None:
        self._files.close()


class Companion:
    """One companion, read episode by episode. Without any row where the data set has none of that name. Errors:
    DatasetError."""

    def __init__(self, root: Path, name: str):
        self._columns = [column for column in schema(name).names if column != KEYS[0]]
        self._files = [EpisodeTable(path) for path in sorted((root / FOLDER / name).glob("chunk-*/file-*.parquet"))]

    def rows(self, episode: int) -> list[dict[str, Any]]:
        """Of one episode, in the order of its frames."""
        return [row for file in self._files for row in file.rows(episode, self._columns).to_pylist()]

    def frames(self, episode: int) -> set[int]:
        """Numbers of those of an episode of which something is known."""
        return {number for file in self._files for number in file.rows(episode, KEYS[1:])[KEYS[1]].to_pylist()}

    def faults(self, episode: int) -> Iterator[tuple[int, str]]:
        """The frames of an episode of which something is said that cannot be, and what."""
        for file in self._files:
            table = file.rows(episode, self._columns)
            if not _sound(table):
                yield from ((row[KEYS[1]], fault(row)) for row in table.to_pylist() if fault(row))


def fault(row: Mapping[str, Any]) -> str:
    """What in a row cannot be; empty for a sound one."""
    for name, value in row.items():
        if value is None and name not in MAY_LACK:
            return f"{name} is missing"
        if name in SHARES and not 0 <= value <= 1:
            return f"{name} is {value}, expected a share of the image, from 0 to 1"
        if name in LISTS and not np.isfinite(np.array(value, np.float64)).all():
            return f"{name} holds a number that is none"
    return ""


def _sound(table: pyarrow.Table) -> bool:
    """Whether no row has a fault, by whole columns."""
    for name in (name for name in table.column_names if name not in MAY_LACK):
        values = compute.list_flatten(table[name]) if name in LISTS else table[name]
        if table[name].null_count or values.null_count:
            return False
        numbers = np.asarray(values, np.float64) if name in (*SHARES, *LISTS) else np.zeros(0)
        if not np.isfinite(numbers).all() or (name in SHARES and not ((numbers >= 0) & (numbers <= 1)).all()):
            return False
    return True
