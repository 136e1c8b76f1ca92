# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth codes beside a data set: the companion `depth_codes`, and what they mean in `meta/depth_codes.json`.

The description is put in place last and taken away first, so codes without one are those of a run that was cut short.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molmoact2_data.companions import DEPTH_CODES, FOLDER, Companion, CompanionWriter
from molmoact2_data.layout import DatasetError
from molmoact2_data.tables import write_json

from ..depth import Codebook, parse_codebook
from ..errors import CheckpointError

ABOUT = "meta/depth_codes.json"
FORMAT = "molmoact2_depth_codes.v1"


@dataclass
class NewCodes:
    """A store that is being written. about: what its description says; complete it before the end."""

    about: dict[str, Any]
    _writer: CompanionWriter

    def add(self, episode: int, frames: Sequence[int], camera: str, codes: Sequence[np.ndarray]) -> None:
        """One episode's frames that have codes, each int16 (cells,), row-major."""
        self._writer.add([
            {"episode_index": episode, "frame_index": frame, "camera": camera, "codes": row}
            for frame, row in zip(frames, codes, strict=True)
        ])


@contextmanager
def writing(root: Path) -> Iterator[NewCodes]:
    """What is written inside replaces the data set's codes at the end; where an error ends it, nothing changes."""
    with tempfile.TemporaryDirectory(prefix=".depth_codes.", suffix=".partial", dir=root) as name:
        scratch = Path(name)
        writer = CompanionWriter(scratch, DEPTH_CODES)
        new = NewCodes({"format": FORMAT}, writer)
        try:
            yield new
        finally:
            writer.close()
        made, place, about = scratch / FOLDER / DEPTH_CODES, root / FOLDER / DEPTH_CODES, root / ABOUT
        if not made.exists():
            raise DatasetError(f"{root}: no frame has a depth measurement; nothing was written")
        write_json(scratch / ABOUT, new.about)
        about.unlink(missing_ok=True)
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            shutil.move(place, scratch / "earlier")
        os.replace(made, place)
        os.replace(scratch / ABOUT, about)


class DepthCodes:
    """A data set's depth codes, read an episode at a time. Errors: DatasetError, here and while reading.

    camera: whose image they are of; about: all of the description.
    """

    def __init__(self, root: Path):
        self.root, self._path = root, root / ABOUT
        try:
            self.about = json.loads(self._path.read_text("utf8"))
        except FileNotFoundError:
            raise DatasetError(f"{root} has no depth codes; make them: molmoact2 depth annotate {root}") from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self._path} cannot be read: {error}") from error
        known = self.about.get("format") if isinstance(self.about, dict) else None
        if known != FORMAT:
            raise DatasetError(f"{self._path}: format is {known!r}, expected {FORMAT!r}")
        try:
            self.camera = str(self.about["camera"])
            rows, cols = self.about["cells"]["grid"]
            self.grid = int(rows), int(cols)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{self._path}: camera or cells.grid is missing or wrong ({error!r})") from None
        self._rows = Companion(root, DEPTH_CODES)

    def codebook(self) -> Codebook | None:
        """None for codes of a network. Errors: CheckpointError for a wrong one."""
        content = self.about.get("codebook")
        return None if content is None else parse_codebook(content, self._path)

    def of_episode(self, episode: int) -> dict[int, np.ndarray]:
        """Codes int16 (cells,), row-major, by frame; frames at which nothing was measured have none."""
        cells, found = self.grid[0] * self.grid[1], {}
        for row in self._rows.rows(episode):
            codes = row["codes"] or []
            if len(codes) != cells:
                raise DatasetError(
                    f"{self.root}: episode {episode}, frame {row['frame_index']} has {len(codes)} depth codes, not "
                    f"{cells}; annotate anew with --force"
                )
            found[row["frame_index"]] = np.array(codes, np.int16)
        return found


def common_codebook(stores: Sequence[DepthCodes]) -> Codebook | None:
    """The codebook that all were coded with, to be saved with a checkpoint; None where a network coded all of them.

    Errors: DatasetError naming two that were coded differently, CheckpointError for a codebook that is wrong.
    """
    if not stores:
        raise CheckpointError("no data set with depth codes was named")
    first = stores[0]
    for other in stores[1:]:
        for key in ("codebook", "network", "cells"):
            if first.about.get(key) != other.about.get(key):
                raise DatasetError(
                    f"{first.root} and {other.root} have depth codes by another {key}; one model cannot learn both: "
                    f"annotate both with one: molmoact2 depth annotate {first.root} {other.root} --force"
                )
    return first.codebook()
