# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Parquet and JSON files of a data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from .layout import CHUNK_FILES, DatasetError

MB = 1_000_000
FEW = 16    # rows that hold images, at a time


class RolledTable:
    """Parquet files of rows, a group of rows for each episode."""

    def __init__(self, root: Path, pattern: str, most_mb: int):
        self._root, self._pattern, self._most = root, pattern, most_mb * MB
        self.file, self._size = -1, 0
        self._writer: parquet.ParquetWriter | None = None

    def add(self, table: pyarrow.Table) -> tuple[int, int]:
        """Chunk and file in which it lies."""
        if self._writer is None or self._size > self._most:
            self.close()
            self.file, self._size = self.file + 1, 0
            chunk, file = divmod(self.file, CHUNK_FILES)
            path = self._root / self._pattern.format(chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(path, table.schema)
        self._writer.write_table(table)
        self._size += table.nbytes
        return divmod(self.file, CHUNK_FILES)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class EpisodeTable:
    """The rows of single episodes in one parquet file, without reading the others: groups of rows are chosen by what
    the file says of their episodes. Errors: DatasetError."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._file = parquet.ParquetFile(path)
            self.columns: list[str] = self._file.schema_arrow.names
            if "episode_index" not in self.columns:
                raise DatasetError(f"{path}: column 'episode_index' is missing; it has: {', '.join(self.columns)}")
            self._spans = [self._span(group) for group in range(self._file.num_row_groups)]
        except (OSError, ValueError) as error:    # ArrowInvalid is a ValueError
            raise DatasetError(f"{path} cannot be read: {error}") from error

    def _span(self, group: int) -> tuple[float, float]:
        """The least and the greatest episode in a group, as far as the file says so."""
        row_group = self._file.metadata.row_group(group)
        names = [row_group.column(index).path_in_schema for index in range(row_group.num_columns)]
        found = row_group.column(names.index("episode_index")).statistics
        return (found.min, found.max) if found is not None and found.has_min_max else (-np.inf, np.inf)

    def rows(self, episode: int, columns: Sequence[str]) -> pyarrow.Table:
        """Those of an episode, in the file's order."""
        lacking = [name for name in columns if name not in self.columns]
        if lacking:
            raise DatasetError(f"{self._path}: column {lacking[0]!r} is missing; it has: {', '.join(self.columns)}")
        try:
            table = self._file.read_row_groups(self._groups(episode), ["episode_index", *columns])
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self._path} cannot be read: {error}") from error
        return table.filter(np.asarray(table["episode_index"]) == episode)

    def cells(self, episode: int, name: str) -> Iterator[pyarrow.Scalar]:
        """One column of an episode, whose rows lie together, a few at a time: for cells that hold images."""
        if name not in self.columns:
            raise DatasetError(f"{self._path}: column {name!r} is missing; it has: {', '.join(self.columns)}")
        found = False
        try:
            for batch in self._file.iter_batches(FEW, self._groups(episode), ["episode_index", name]):
                rows = np.asarray(batch["episode_index"]) == episode
                if found and not rows.any():
                    return
                found = found or bool(rows.any())
                yield from batch.filter(pyarrow.array(rows))[name]
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self._path} cannot be read: {error}") from error

    def _groups(self, episode: int) -> list[int]:
        return [index for index, (low, high) in enumerate(self._spans) if low <= episode <= high]


def column(values: np.ndarray) -> pyarrow.Array:
    if values.ndim == 1:
        return pyarrow.array(values)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n", "utf8")


def write_table(path: Path, table: pyarrow.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
