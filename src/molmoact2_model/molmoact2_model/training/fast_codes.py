# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks of data sets as tokens in a file, and such a file as chunks: parquet, a row for each chunk.

Both have `robot`, `dataset`, `episode_index` and `frame_index` (of the chunk's first waypoint); one has `tokens`, the
other `chunk`: horizon x joints numbers, waypoint by waypoint, in the units of the data set. What the rows mean is JSON
in the file's metadata under `molmoact2`: format, tokenizer, and each robot's joints, horizon and statistics.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet
from tqdm import tqdm

from ..errors import DecodeError, InputError
from ..fast import FILES as FAST_FILES
from ..fast import FastTokenizer
from ..fingerprints import fingerprint
from ..normalization import Normalizer
from .fast_data import Place, Robot
from .fast_report import Measured, measure

TOKENS, CHUNKS = "molmoact2_fast_tokens.v1", "molmoact2_fast_chunks.v1"
ABOUT = b"molmoact2"
KEYS = {
    "robot": pyarrow.string(), "dataset": pyarrow.string(), "episode_index": pyarrow.int64(),
    "frame_index": pyarrow.int64(),
}    # fmt: skip
COLUMNS = {
    TOKENS: KEYS | {"tokens": pyarrow.list_(pyarrow.int32())},
    CHUNKS: KEYS | {"chunk": pyarrow.list_(pyarrow.float32())},
}
ROWS = 1000    # written and read at a time
Row = dict[str, Any]


def encode(
    fast: FastTokenizer, folder: Path, robots: Sequence[Robot], every: int, path: Path, show: bool
) -> list[Measured]:
    """Writes the tokens of the robots' chunks, and says what they cost. Chunks that have none are left out and counted.
    folder: of the tokenizer; path: takes its name when it is whole. Errors: DatasetError, InputError."""
    names = [robot.name for robot in robots]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"robot {twice!r} has chunks of two shapes; encode them to a file each")
    about = {
        "format": TOKENS, "tokenizer": _digest(folder), "every": every,
        "robots": {
            robot.name: {
                "joints": list(robot.joints), "horizon": robot.horizon, "norm_mode": robot.normalizer.mode,
                "action_stats": dict(robot.stats),
            }
            for robot in robots
        },
    }  # fmt: skip
    with _writing(path, about) as add:
        return [measure(fast, robot, every, show, partial(_keep, add, robot.name)) for robot in robots]


def _digest(folder: Path) -> str:
    return fingerprint(folder.expanduser(), FAST_FILES)


def _keep(add: Callable[[Row], None], robot: str, place: Place, tokens: list[int]) -> None:
    add({
        "robot": robot, "dataset": str(place.root), "episode_index": place.episode, "frame_index": place.frame,
        "tokens": tokens,
    })  # fmt: skip


def decode(folder: Path, source: Path, path: Path, show: bool) -> dict[str, int]:
    """Writes the chunks that the tokens in `source` spell; returns how many of each robot. folder: of the tokenizer
    that they are of; path: takes its name when it is whole. Errors: InputError names the first row that spells no
    chunk of its robot's shape; CheckpointError."""
    fast = FastTokenizer.from_folder(folder)
    file, about = _opened(source)
    if about.get("tokenizer") != _digest(folder):
        raise InputError(f"{source} was encoded with another tokenizer than {folder}; name that one")
    robots = _robots(source, about)
    counts = dict.fromkeys(robots, 0)
    kept = {name: about["robots"][name] for name in robots}
    with _writing(path, {"format": CHUNKS, "robots": kept}) as add:
        rows = _rows(source, file)
        for row in tqdm(rows, source.name, file.metadata.num_rows, leave=False, disable=not show):
            name, tokens = row["robot"], row.pop("tokens")
            where = f"{source}: {row['dataset']}: episode {row['episode_index']}, frame {row['frame_index']}"
            if name not in robots:
                raise InputError(f"{where} is of robot {name!r}; the file describes: {', '.join(robots)}")
            horizon, normalizer = robots[name]
            if tokens is None or None in tokens:
                raise InputError(f"{where} has no tokens, or an empty one among them; encode anew")
            try:
                chunk = fast.decode(tokens, horizon, normalizer.dim)
            except DecodeError as error:
                raise InputError(f"{where}: {error}") from None
            add(row | {"chunk": normalizer.unnormalize(chunk).ravel()})
            counts[name] += 1
    return counts


@contextmanager
def _writing(path: Path, about: Mapping[str, Any]) -> Iterator[Callable[[Row], None]]:
    """Rows for a new file, which takes its name when the block ends without an error."""
    schema = pyarrow.schema(list(COLUMNS[about["format"]].items()), {ABOUT: json.dumps(about).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.partial")
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        if len(rows) == ROWS:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            rows.clear()

    try:
        with parquet.ParquetWriter(part, schema) as writer:
            yield add
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _opened(path: Path) -> tuple[parquet.ParquetFile, dict[str, Any]]:
    """A file of tokens, and what it says of itself. Errors: InputError."""
    try:
        file = parquet.ParquetFile(path)
        about = json.loads((file.schema_arrow.metadata or {}).get(ABOUT, b"{}"))
    except (OSError, ValueError) as error:    # ArrowInvalid is a ValueError
        raise InputError(f"{path} cannot be read: {error}") from None
    if not isinstance(about, dict) or about.get("format") != TOKENS:
        raise InputError(f"{path} holds no tokens of molmoact2 fast encode: its format is not {TOKENS!r}")
    found = {field.name: field.type for field in file.schema_arrow}
    lacking = [name for name, kind in COLUMNS[TOKENS].items() if found.get(name) != kind]
    if lacking:
        raise InputError(f"{path}: column {lacking[0]!r} is missing or not of {COLUMNS[TOKENS][lacking[0]]}")
    return file, about


def _robots(path: Path, about: Mapping[str, Any]) -> dict[str, tuple[int, Normalizer]]:
    """Horizon and normaliser by name."""
    robots = {}
    try:
        for name, robot in about["robots"].items():
            horizon, joints = int(robot["horizon"]), len(robot["joints"])
            normalizer = Normalizer(robot["action_stats"], robot["norm_mode"], f"{path}: action_stats of {name!r}")
            if normalizer.dim != joints or horizon < 1:
                raise ValueError(f"{name}: {horizon} waypoints, {joints} joints, statistics of {normalizer.dim}")
            robots[name] = horizon, normalizer
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: what it says of its robots cannot be ({error!r}); encode anew") from None
    return robots


def _rows(path: Path, file: parquet.ParquetFile) -> Iterator[Row]:
    try:
        for batch in file.iter_batches(ROWS, columns=list(COLUMNS[TOKENS])):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
