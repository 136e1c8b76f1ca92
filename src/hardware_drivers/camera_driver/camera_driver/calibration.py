# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration files as ROS's camera_calibration and camera_info_manager write them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from .source import CameraError, Intrinsics

MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
MATRICES = {
    "camera_matrix": (3, 3), "rectification_matrix": (3, 3), "projection_matrix": (3, 4),
}
MEND = "make the file with camera_calibration's cameracalibrator, and see docs/cameras.md"


def load_calibration(path: str | Path) -> Intrinsics:
    """Reads a calibration file. Errors: CameraError naming the file, the key and what was expected."""
    try:
        data = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise CameraError(f"calibration file {path} cannot be read: {error.strerror}; give its path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CameraError(f"calibration file {path} is no YAML: {' '.join(str(error).split())}; {MEND}") from None
    if not isinstance(data, dict):
        raise CameraError(f"calibration file {path} holds no keys; {MEND}")
    read = _Reader(path, data)
    width, height = read.size("image_width"), read.size("image_height")
    matrices = {name: read.matrix(name, shape) for name, shape in MATRICES.items()}
    model = data.get("distortion_model")
    if model not in MODELS:
        raise read.error("distortion_model", f"is {model!r}; it must be one of {', '.join(MODELS)}")
    distortion = read.matrix("distortion_coefficients", None)
    if len(distortion) not in MODELS[model]:
        counts = " or ".join(map(str, MODELS[model]))
        raise read.error("distortion_coefficients", f"has {len(distortion)} numbers; {model} has {counts}")
    k = matrices["camera_matrix"]
    if k[0] <= 0 or k[4] <= 0:
        raise read.error("camera_matrix", f"has focal lengths {k[0]:g} and {k[4]:g}; both must be above 0")
    if not (0 < k[2] < width and 0 < k[5] < height):
        raise read.error("camera_matrix", f"has its centre at {k[2]:g}, {k[5]:g}, outside {width} x {height} px")
    return Intrinsics(
        width, height, model, distortion, k, matrices["rectification_matrix"], matrices["projection_matrix"]
    )


def check_fits(intrinsics: Intrinsics, path: str, name: str, width: int, height: int) -> None:
    """Errors: CameraError where the calibration is of another image size than the camera's."""
    if (intrinsics.width, intrinsics.height) != (width, height):
        raise CameraError(
            f"calibration file {path} is for {intrinsics.width} x {intrinsics.height} px, {name} delivers "
            f"{width} x {height}; calibrate at that size, or set width and height to the calibrated one"
        )


class _Reader:
    def __init__(self, path: str | Path, data: dict[str, Any]):
        self._path, self._data = path, data

    def error(self, key: str, text: str) -> CameraError:
        return CameraError(f"calibration file {self._path}: {key} {text}; {MEND}")

    def size(self, key: str) -> int:
        value = self._data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self.error(key, f"is {value!r}; it must be a number of pixels above 0")
        return value

    def matrix(self, key: str, shape: tuple[int, int] | None) -> tuple[float, ...]:
        section = self._data.get(key)
        if not isinstance(section, dict) or not isinstance(section.get("data"), list):
            raise self.error(key, "is missing; it must hold rows, cols and data")
        rows, cols, numbers = section.get("rows"), section.get("cols"), section["data"]
        if not (isinstance(rows, int) and isinstance(cols, int) and rows * cols == len(numbers)):
            raise self.error(key, f"has {len(numbers)} numbers in data, and rows {rows!r} and cols {cols!r}")
        if shape is not None and (rows, cols) != shape:
            raise self.error(key, f"is {rows} x {cols}; it must be {shape[0]} x {shape[1]}")
        if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
            raise self.error(key, "holds something that is no finite number")
        return tuple(float(n) for n in numbers)
