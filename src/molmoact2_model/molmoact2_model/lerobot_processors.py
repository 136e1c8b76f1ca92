# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The files that LeRobot saves of what it does to observations before the model, and to actions behind it (facts of
lerobot 0.6.1): the statistics it normalises by, the order of cameras, the words of the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import open_tensors
from .config import read_json
from .errors import CheckpointError
from .normalization import Normalizer

BEFORE, BEHIND = "policy_preprocessor.json", "policy_postprocessor.json"
STATE, ACTION = "observation.state", "action"
NORMALIZER, PACK, UNNORMALIZER = "molmoact2_masked_normalizer", "molmoact2_pack_inputs", "molmoact2_masked_unnormalizer"
STATE_FRAME, ACTION_FRAME = "molmoact2_state_frame_transform", "molmoact2_action_frame_transform"
# Steps in their order, and whether one must be there. What another step would do is not known here.
STEPS = {
    BEFORE: {
        "rename_observations_processor": False, "to_batch_processor": False, STATE_FRAME: False, NORMALIZER: True,
        "molmoact2_clamp_normalized": True, PACK: True, "device_processor": False,
    },
    BEHIND: {
        "molmoact2_clamp_action": True, UNNORMALIZER: True, ACTION_FRAME: False, "device_processor": False,
    },
}  # fmt: skip
MODES = {
    "QUANTILES": "q01_q99", "QUANTILE10": "q10_q90", "MIN_MAX": "min_max", "MEAN_STD": "mean_std", "IDENTITY": "none",
}


class LeRobotNormalizer(Normalizer):
    """As LeRobot has it, which differs where a dimension never moved (it normalises to -1, not 0), and clips in every
    mode. stats may have `signs` and `offsets` of the first dimensions: values are in the arm's frame, where the
    model's is signs * value + offsets."""

    def __init__(self, stats: Any, mode: str, name: str) -> None:
        super().__init__(stats, mode, name)
        eps = np.float32(stats.get("eps", 1e-8))
        if mode == "mean_std":
            self._span = self._high + eps
        else:
            self._span = np.where(self._high == self._low, eps, self._high - self._low)
        self._signs, self._offsets = np.ones(self.dim, np.float32), np.zeros(self.dim, np.float32)
        for values, key in ((self._signs, "signs"), (self._offsets, "offsets")):
            given = np.asarray(stats.get(key) or [], np.float32)
            if given.ndim != 1 or given.size > self.dim or not np.isfinite(given).all():
                raise CheckpointError(f"{name}: joint {key} are {stats.get(key)!r}, expected up to {self.dim} numbers")
            values[: given.size] = given
        if not (np.abs(self._signs) == 1).all():    # LeRobot multiplies both ways, which is right for these only
            raise CheckpointError(f"{name}: joint signs are {stats.get('signs')!r}, expected 1 or -1")

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """float32 (..., D), physical units -> the model's range."""
        values = self._signs * values + self._offsets
        if self.mode == "none":
            scaled = values
        elif self.mode == "mean_std":
            scaled = (values - self._low) / self._span
        else:
            scaled = np.float32(2.0) * (values - self._low) / self._span - np.float32(1.0)
        return np.clip(np.where(self._mask, scaled, values), -1.0, 1.0).astype(np.float32)

    def unnormalize(self, values: np.ndarray) -> np.ndarray:
        """float32 (..., D), the model's range -> physical units."""
        values = np.clip(values, -1.0, 1.0)
        if self.mode == "none":
            scaled = values
        elif self.mode == "mean_std":
            scaled = values * self._high + self._low
        else:
            scaled = (values + np.float32(1.0)) * self._span / np.float32(2.0) + self._low
        return (self._signs * (np.where(self._mask, scaled, values) - self._offsets)).astype(np.float32)


class Processors:
    """Both files of a folder. prompt: settings of the step that makes the model's input. Errors: CheckpointError, also
    for steps that this engine does not know."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before, self._behind = _steps(folder, BEFORE), _steps(folder, BEHIND)
        self.prompt = _config(self._before, PACK)
        if self.prompt.get("normalize_language") is False:
            raise CheckpointError(
                f"{folder / BEFORE}: normalize_language is false; this engine brings instructions to the released form "
                "always. Train with policy.normalize_language=true"
            )

    @property
    def mode(self) -> str:
        """Of normalisation, as norm_stats.json names it."""
        maps = (_config(self._before, NORMALIZER), "STATE"), (_config(self._behind, UNNORMALIZER), "ACTION")
        names = [(config.get("norm_map") or {}).get(kind, "IDENTITY") for config, kind in maps]
        if names[0] != names[1] or names[0] not in MODES:
            raise CheckpointError(
                f"{self._folder}: {BEFORE} normalises states by {names[0]}, {BEHIND} actions by {names[1]}; expected "
                f"the same for both, of {', '.join(MODES)}"
            )
        return MODES[names[0]]

    def cameras(self, features: Mapping[str, Any]) -> list[str]:
        """Keys of the data set's cameras in the model's order. features: input_features of the policy."""
        visual = [name for name, what in features.items() if what.get("type") == "VISUAL"]
        keys = [str(key) for key in self.prompt.get("image_keys") or sorted(visual)]
        renamed = _config(self._before, "rename_observations_processor").get("rename_map") or {}
        before = {new: old for old, new in renamed.items()}
        return [before.get(key, key) for key in keys]

    def stats(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of state and of action, as norm_stats.json has them."""
        state = self._stats(self._before, NORMALIZER, STATE, _config(self._before, STATE_FRAME))
        return state, self._stats(self._behind, UNNORMALIZER, ACTION, _config(self._behind, ACTION_FRAME))

    def _stats(
        self, steps: Mapping[str, Mapping[str, Any]], step: str, feature: str, frame: Mapping[str, Any]
    ) -> dict[str, Any]:
        name, mend = steps[step].get("state_file"), "LeRobot fills it from the data set that the policy is trained on"
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{self._folder}: step {step} names no file with statistics; {mend}")
        path = self._folder / name
        if not path.is_file():
            raise CheckpointError(f"{name} is missing in {self._folder}; it holds the statistics of {feature}")
        with ExitStack() as stack:
            found: dict[str, Any] = {
                key.removeprefix(f"{feature}."): reader().float().numpy()
                for key, reader in open_tensors(path, stack).items()
                if key.startswith(f"{feature}.")
            }
        if not found:
            raise CheckpointError(f"{path} has no statistics of {feature}; {mend}")
        figures = {key: np.atleast_1d(values).tolist() for key, values in found.items()}
        if "mask" in figures:
            figures["mask"] = [bool(value) for value in figures["mask"]]
        moved = {"signs": frame.get("joint_signs"), "offsets": frame.get("joint_offsets")}
        eps = _config(steps, step).get("eps", 1e-8)
        return figures | {"eps": eps} | {key: value for key, value in moved.items() if value is not None}


def _steps(folder: Path, file: str) -> dict[str, Mapping[str, Any]]:
    """Steps by registered name, in the order of the file."""
    if not (folder / file).is_file():
        raise CheckpointError(
            f"{file} is missing in {folder}; LeRobot saves it beside the policy's config.json, with the statistics "
            "that actions are scaled by"
        )
    steps = read_json(folder / file).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        raise CheckpointError(f"{folder / file} has no list of steps")
    found = {str(step.get("registry_name") or step.get("class")): step for step in steps}
    known = STEPS[file]
    _check_order(folder / file, [str(step.get("registry_name") or step.get("class")) for step in steps], known)
    return found


def _check_order(path: Path, found: Sequence[str], known: Mapping[str, bool]) -> None:
    strange = [name for name in found if name not in known]
    lacking = [name for name, needed in known.items() if needed and name not in found]
    if strange or lacking or list(found) != [name for name in known if name in found]:
        what = f"step {strange[0]} is not known" if strange else f"step {lacking[0]} is missing" if lacking else "order"
        raise CheckpointError(
            f"{path}: {what}; it has {', '.join(found)}; expected, in this order: {', '.join(known)}. Without it "
            "actions would not be what LeRobot makes of them"
        )


def _config(steps: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    config = steps.get(name, {}).get("config")
    return config if isinstance(config, Mapping) else {}
