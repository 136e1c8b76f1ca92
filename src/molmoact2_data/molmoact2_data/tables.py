# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Parquet and JSON files of a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from .layout import CHUNK_FILES

MB = 1_000_000


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
