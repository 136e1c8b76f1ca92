# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Single images out of videos, found by their time, and out of parquet cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from .layout import DatasetError
from .meta import Place

TOLERANCE = 0.25    # of the time between frames: an image that is farther from its frame's time is another's
# What comes of a file that is broken: no stream, a stream that nothing decodes, texts that are none.
BROKEN = (OSError, av.error.FFmpegError, IndexError, UnicodeDecodeError, AttributeError)
OPEN = 4            # videos that stay open, beside those in use
AHEAD = 2.0         # a wanted image that is so far ahead is sought, a nearer one decoded up to [s]


class Videos:
    """Videos that stay open for the next use: to open one of 200 MB takes longer than to decode an episode of it."""

    def __init__(self) -> None:
        self._idle: dict[Path, Any] = {}

    @contextmanager
    def open(self, path: Path) -> Iterator[Any]:
        """A container of PyAV's that nobody else uses meanwhile; seek before decoding."""
        container = self._idle.pop(path, None) or av.open(str(path))
        try:
            yield container
        except Exception:
            container.close()
            raise
        except GeneratorExit:    # whoever reads had enough
            self._put_back(path, container)
            raise
        self._put_back(path, container)

    def _put_back(self, path: Path, container: Any) -> None:
        if path in self._idle:
            self._idle.pop(path).close()
        self._idle[path] = container
        while len(self._idle) > OPEN:
            self._idle.pop(next(iter(self._idle))).close()


def from_video(
    videos: Videos, place: Place, fps: float, frames: Iterable[int], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """uint8 (H, W, 3) RGB of an episode's frames with these numbers, in rising order. size: (height, width) as stated.
    Errors: DatasetError."""
    position = -np.inf
    wanted = iter(frames)
    try:
        with videos.open(place.path) as container:
            stream = container.streams.video[0]
            decoded: Iterator[Any] = iter(())
            for number in wanted:
                time = place.begin + number / fps
                if time - position > AHEAD:
                    container.seek(int(time * av.time_base))
                    decoded = container.decode(stream)
                picture = next((f for f in decoded if f.time is not None and f.time > time - TOLERANCE / fps), None)
                if picture is None:
                    raise DatasetError(f"{place.path} ends before frame {number} of its episode, at {time:.3f} s")
                position = picture.time
                if position > time + TOLERANCE / fps:
                    raise DatasetError(
                        f"{place.path} has no image for frame {number} of its episode at {time:.3f} s, the next is at "
                        f"{position:.3f} s: images are missing, or its rate is not the {fps:g} a second that is stated"
                    )
                if (picture.height, picture.width) != size:
                    raise _wrong_size(str(place.path), (picture.height, picture.width), size)
                yield picture.to_ndarray(format="rgb24")
    except BROKEN as error:
        raise DatasetError(f"{place.path} cannot be read: {error}") from error


def data_of(cell: Any, where: str) -> bytes:
    """The file in a parquet cell. Errors: DatasetError."""
    data = (cell or {}).get("bytes")
    if not data:
        raise DatasetError(f"{where}: no image in the file; images that lie in files of their own are not read")
    return data


def from_cell(cell: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """uint8 (H, W, 3) RGB of a PNG or JPEG file in a parquet cell. Errors: DatasetError."""
    image = cv2.imdecode(np.frombuffer(data_of(cell, where), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{where}: the image cannot be decoded")
    if image.shape[:2] != size:
        raise _wrong_size(where, image.shape[:2], size)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _wrong_size(where: str, found: tuple[int, ...], stated: tuple[int, int]) -> DatasetError:
    there, then = (f"{width} x {height}" for height, width in (found, stated))
    return DatasetError(f"{where}: the image has {there} pixels, {then} is stated")
