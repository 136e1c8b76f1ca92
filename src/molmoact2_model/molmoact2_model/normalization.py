# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""norm_stats.json: what each norm tag normalises, and how (spec sections 2.3, 3.4 and 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .config import read_json
from .errors import CheckpointError, InputError

_EPS = 1e-6
_BOUNDS = {"min_max": ("min", "max"), "q01_q99": ("q01", "q99"), "q10_q90": ("q10", "q90")}
NORM_MODES = ("none", "mean_std", *_BOUNDS)


class Normalizer:
    """Maps between physical values (the checkpoint's own frame and units) and the model's range.

    Bounded modes map low..high to -1..1 and clip; `mean_std` standardises; `none` leaves values alone.
    Dimensions whose mask is False pass unscaled. A dimension whose minimum equals its maximum normalises to
    0.
    """

    def __init__(self, stats: Any, mode: str, name: str) -> None:
        if not isinstance(stats, Mapping):
            raise CheckpointError(f"{name} is missing or not an object")
        self.mode = mode
        if mode == "none":
            low_key = next(
                (k for k in ("mean", "min", "q01", "q10", "mask") if stats.get(k) is not None), "mean"
            )
            high_key = low_key
        else:
            low_key, high_key = ("mean", "std") if mode == "mean_std" else _BOUNDS[mode]
        self._low, self._high = (_row(stats, key, name) for key in (low_key, high_key))
        self.dim = self._low.size
        raw_mask = stats.get("mask")
        self._mask = np.ones(self.dim, bool) if raw_mask is None else np.asarray(raw_mask, dtype=bool)
        if self._high.size != self.dim or self._mask.shape != (self.dim,):
            raise CheckpointError(f"{name}: {low_key}, {high_key} and mask differ in length")
        self._constant = np.zeros(self.dim, bool)
        if mode in _BOUNDS and stats.get("min") is not None and stats.get("max") is not None:
            self._constant = _row(stats, "min", name) == _row(stats, "max", name)
            if self._constant.shape != (self.dim,):
                raise CheckpointError(f"{name}: min and max differ in length from {low_key}")

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """float32 (..., D), physical units -> the model's range."""
        if self.mode == "none":
            scaled = values
        elif self.mode == "mean_std":
            scaled = (values - self._low) / np.maximum(self._high, np.float32(_EPS))
        else:
            span = np.maximum(self._high - self._low, np.float32(_EPS))
            scaled = np.clip(np.float32(2.0) * (values - self._low) / span - np.float32(1.0), -1.0, 1.0)
        return np.where(self._constant, np.float32(0.0), np.where(self._mask, scaled, values)).astype(
            np.float32
        )

    def unnormalize(self, values: np.ndarray) -> np.ndarray:
        """float32 (..., D), the model's range -> physical units. Bounded modes clip first, masked dimensions too."""
        if self.mode in _BOUNDS:
            values = np.clip(values, -1.0, 1.0)
            scaled = (values + np.float32(1.0)) * (self._high - self._low) / np.float32(2.0) + self._low
        elif self.mode == "mean_std":
            scaled = values * self._high + self._low
        else:
            scaled = values
        return np.where(self._mask, scaled, values).astype(np.float32)


def _row(stats: Mapping[str, Any], key: str, name: str) -> np.ndarray:
    value = stats.get(key)
    if value is None:
        raise CheckpointError(f"{name} has no {key!r}, which its norm mode needs")
    row = np.asarray(value, dtype=np.float32)
    if row.ndim != 1 or row.size == 0 or not np.isfinite(row).all():
        raise CheckpointError(f"{name}: {key} is not a list of finite numbers")
    return row


@dataclass(frozen=True)
class TagStats:
    """One norm tag: an embodiment as the checkpoint saw it in training."""

    tag: str
    state: Normalizer
    action: Normalizer
    horizon: int
    n_action_steps: int
    setup_type: str
    control_mode: str
    camera_keys: tuple[str, ...]


class NormStats:
    """norm_stats.json. `tags` lists the norm tags in file order; `metadata` is the file's own table. file: what errors
    call it; normalizer: makes one of statistics, mode and name."""

    def __init__(
        self, content: Mapping[str, Any], max_action_dim: int, max_action_horizon: int,
        file: str = "norm_stats.json", normalizer: Callable[[Any, str, str], Normalizer] = Normalizer,
    ) -> None:
        self._file, self._normalizer = file, normalizer
        self.mode = str(content.get("norm_mode", "min_max"))
        if self.mode not in NORM_MODES:
            raise CheckpointError(
                f"{file}: norm_mode is {self.mode!r}, expected one of {list(NORM_MODES)}"
            )
        self.metadata: Mapping[str, Mapping[str, Any]] = content.get("metadata_by_tag") or {}
        if not self.metadata:
            raise CheckpointError(f"{file}: metadata_by_tag is missing or empty")
        self._max_dim, self._max_horizon = max_action_dim, max_action_horizon

    @classmethod
    def from_file(cls, path: Path, max_action_dim: int, max_action_horizon: int) -> NormStats:
        return cls(read_json(path), max_action_dim, max_action_horizon)

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.metadata)

    def tag(self, name: str) -> TagStats:
        """Looks a tag up; InputError lists those that are there, CheckpointError says what is wrong with its entry."""
        if name not in self.metadata:
            raise InputError(f"norm_tag {name!r} is not in this checkpoint; it has {sorted(self.metadata)}")
        entry = self.metadata[name]
        where = f"{self._file}: tag {name!r}"
        horizon = _count(entry, "action_horizon", self._max_horizon, where)
        if horizon > self._max_horizon:
            raise CheckpointError(
                f"{where}: action_horizon {horizon} is over max_action_horizon {self._max_horizon}"
            )
        stats = TagStats(
            tag=name,
            state=self._normalizer(entry.get("state_stats"), self.mode, f"{where}: state_stats"),
            action=self._normalizer(entry.get("action_stats"), self.mode, f"{where}: action_stats"),
            horizon=horizon,
            n_action_steps=_count(entry, "n_action_steps", horizon, where),
            setup_type=str(entry.get("setup_type") or ""),
            control_mode=str(entry.get("control_mode") or ""),
            camera_keys=tuple(entry.get("camera_keys") or ()),
        )
        if stats.action.dim > self._max_dim:
            raise CheckpointError(
                f"{where}: {stats.action.dim} action dimensions, the model has {self._max_dim}"
            )
        if stats.n_action_steps > horizon:
            raise CheckpointError(
                f"{where}: n_action_steps {stats.n_action_steps} is over its action_horizon {horizon}"
            )
        return stats


def _count(entry: Mapping[str, Any], key: str, default: int, where: str) -> int:
    value = entry.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{where}: {key} is {value!r}, expected an integer >= 1")
    return value
