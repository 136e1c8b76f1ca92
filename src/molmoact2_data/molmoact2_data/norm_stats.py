# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""norm_stats.json, as released checkpoints have it: over the frames of data sets, value by value."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .embodiments import CONTROL_MODE, Embodiment
from .frame import Frame
from .keep import Part, open_kept
from .layout import ACTION, IMAGES, STATE, DatasetError
from .reader import Dataset
from .statistics import QUANTILES, of_values
from .tables import write_json

FORMAT = "molmoact2_norm_stats.v1"
NORM_MODES = ("q01_q99", "q10_q90", "min_max", "mean_std", "none")
EXACT, WEIGHTED = "exact", "weighted"
COMBINE = {
    EXACT: "quantiles of all frames together",
    WEIGHTED: "means of each data set's quantiles, weighted by its frames, as the release has them",
}


def values_of(
    dataset: Dataset, parts: Sequence[Part], progress: Callable[[], object] = lambda: None
) -> tuple[np.ndarray, np.ndarray]:
    """States and actions of all frames that are kept: float32 (N, D) each. Errors: DatasetError, for numbers that are
    not finite too."""
    states: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    for part in parts:
        vectors = dataset.vectors(part.episode)
        if vectors.action is None:
            raise DatasetError(f"{dataset.root}: episode {part.episode.index} has no actions")
        for name, values, found in ((STATE, vectors.state, states), (ACTION, vectors.action, actions)):
            kept = values[part.first : part.end]
            if not np.isfinite(kept).all():
                raise DatasetError(
                    f"{dataset.root}: {name} of episode {part.episode.index} is not finite; leave it out: "
                    f"molmoact2 data filter {dataset.root}"
                )
            found.append(kept)
        progress()
    return np.concatenate(states), np.concatenate(actions)


def tag_entry(
    roots: Sequence[Path], robot: Embodiment, frame: Callable[[Dataset], Frame], combine: str = EXACT,
    cameras: Sequence[str] = (), progress: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """One norm tag's part of norm_stats.json. frame: of a data set. cameras: in the model's order; empty: the norm
    tag's where the data sets have them, else the first one's own. Errors: DatasetError."""
    opened = [open_kept(root) for root in roots]
    chosen = _cameras([dataset for dataset, _ in opened], robot, cameras)
    states, actions = [], []
    for dataset, parts in opened:
        state, action = values_of(dataset, parts, progress)
        states.append(frame(dataset).to_model(state))
        actions.append(frame(dataset).to_model(action))
    released = robot.released
    mask = [bool(released.normalize_gripper or not gripper) for gripper in robot.grippers]
    more = {"names": robot.names, "mask": mask}
    return {
        "action_key": ACTION,
        "state_keys": [STATE],
        "camera_keys": [IMAGES + camera for camera in chosen],
        "normalize_gripper": released.normalize_gripper,
        "action_dim": len(robot.names),
        "action_horizon": released.horizon,
        "n_action_steps": released.horizon,
        "setup_type": released.setup_type,
        "control_mode": CONTROL_MODE,
        "state_stats": combined(states, combine) | more,
        "action_stats": combined(actions, combine) | more,
    }


def combined(sets: Sequence[np.ndarray], how: str) -> dict[str, Any]:
    """Figures of several sets of values, each (N, D)."""
    whole = of_values(np.concatenate(sets))
    if how == EXACT:
        return whole
    counts, each = [len(values) for values in sets], [of_values(values) for values in sets]
    quantiles = {name: np.average([one[name] for one in each], axis=0, weights=counts).tolist() for name in QUANTILES}
    return whole | quantiles


def _cameras(datasets: Sequence[Dataset], robot: Embodiment, named: Sequence[str]) -> list[str]:
    first = datasets[0]
    fits = all(camera in first.cameras for camera in robot.tag.cameras)
    chosen = list(named or (robot.tag.cameras if fits else first.cameras))
    for dataset in datasets:
        lacking = [camera for camera in chosen if camera not in dataset.cameras]
        if lacking:
            raise DatasetError(
                f"{dataset.root} has no camera {lacking[0]!r}; it has: {', '.join(dataset.cameras) or 'none'}; say "
                "which ones in which order with --cameras"
            )
    return chosen


def still_values(entry: dict[str, Any]) -> list[str]:
    """Names of values that hardly ever move, so that their normalisation means little."""
    found = []
    for kind in ("state", "action"):
        figures = entry[f"{kind}_stats"]
        found += [
            f"{kind} {name}"
            for name, low, high, least, most in zip(
                *(figures[key] for key in ("names", "q01", "q99", "min", "max")), strict=True
            )
            if high - low < 1e-3 * (most - least) or most == least
        ]
    return found


def write_norm_stats(path: Path, tag: str, entry: dict[str, Any], norm_mode: str, force: bool) -> None:
    """Writes the file, or adds the tag to one that is there. force: replaces a tag of that name. Errors:
    DatasetError."""
    content: dict[str, Any] = {"format": FORMAT, "norm_mode": norm_mode, "metadata_by_tag": {}}
    if path.exists():
        try:
            content = json.loads(path.read_text("utf8"))
            there = content["metadata_by_tag"]
            if content["format"] != FORMAT or not isinstance(there, dict):
                raise ValueError(f"format is {content['format']!r}, expected {FORMAT!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} is there and is no norm statistics: {error!r}; name another file") from None
        if content.get("norm_mode") != norm_mode:
            raise DatasetError(
                f"{path} has norm_mode {content.get('norm_mode')!r} for all its tags; say --norm-mode, or name another"
            )
        if tag in there and not force:
            raise DatasetError(f"{path} has norm tag {tag!r} already; replace it with --force, or name another file")
    content["metadata_by_tag"][tag] = entry
    scratch = path.with_name(f".{path.name}.partial")
    write_json(scratch, content)
    scratch.replace(path)
