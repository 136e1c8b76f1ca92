# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The depth images of a data set, episode by episode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pyarrow import parquet

from molmoact2_data.depth_images import decode_depth
from molmoact2_data.layout import DEPTH, DatasetError
from molmoact2_data.reader import Dataset, Episode


def depth_size(dataset: Dataset, camera: str) -> tuple[int, int]:
    """(height, width) of a camera's depth images. Errors: DatasetError where there are none of the kind read here."""
    name = DEPTH + camera
    feature = dataset.features.get(name)
    if feature is None:
        others = [other.removeprefix(DEPTH) for other in dataset.features if other.startswith(DEPTH)]
        found = f"cameras with depth: {', '.join(others)}" if others else "no camera of it has depth"
        raise DatasetError(f"{dataset.root} has no {name}; {found}")
    shape, kind = feature.get("shape"), feature.get("dtype")
    unit = (feature.get("info") or {}).get("unit", "mm")
    if kind != "image" or not isinstance(shape, list) or len(shape) != 3 or shape[2] != 1 or unit != "mm":
        raise DatasetError(
            f"{dataset.root}: {name} is {kind!r} of shape {shape} in {unit}; expected 'image' of shape [h, w, 1] in "
            "mm: 16-bit PNG in the parquet files"
        )
    return int(shape[0]), int(shape[1])


def depth_images(dataset: Dataset, episode: Episode, camera: str) -> Iterator[np.ndarray]:
    """uint16 (h, w) of each frame in order, millimetres along the optical axis, 0 where nothing was measured.

    Errors: DatasetError naming file, episode and frame.
    """
    size, name = depth_size(dataset, camera), DEPTH + camera
    path = dataset.root / dataset.info["data_path"].format(
        chunk_index=episode.row["data/chunk_index"], file_index=episode.row["data/file_index"]
    )
    try:
        own = [("episode_index", "=", episode.index)]
        table = parquet.read_table(path, columns=["frame_index", name], filters=own).sort_by("frame_index")
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if table["frame_index"].to_pylist() != list(range(episode.length)):
        raise DatasetError(
            f"{path}: episode {episode.index} has {table.num_rows} frames, expected 0 to {episode.length - 1} once each"
        )
    for frame, cell in enumerate(table[name]):
        where = f"{path}: {name} of episode {episode.index}, frame {frame}"
        data = (cell.as_py() or {}).get("bytes")
        if not data:
            raise DatasetError(f"{where}: no image in the file; images that lie in files of their own are not read")
        try:
            image = decode_depth(data)
        except DatasetError as error:
            raise DatasetError(f"{where}: {error}") from error
        if image.shape != size:
            raise DatasetError(f"{where}: the image has shape {image.shape}, {size} is stated")
        yield image
