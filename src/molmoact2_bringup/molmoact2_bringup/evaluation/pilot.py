# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A policy that drives in demonstrations, so that an expert can correct it where it really comes to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from molmoact2_contract import load_contract
from molmoact2_policy.backend import InProcessBackend, Settings
from molmoact2_policy.model_frame import ModelFrame


@dataclass(frozen=True)
class PolicyPilot:
    """Makes one in a worker's process. contract: by name or path. Errors: as of InProcessBackend.load."""

    contract: str
    settings: Settings

    def __call__(self) -> Driving:
        return Driving(self)


class Driving:
    """The policy of one process (mujoco_driver.demos.episode.Pilot)."""

    def __init__(self, made_by: PolicyPilot):
        contract = load_contract(made_by.contract)
        self._tag = contract.norm_tag(made_by.settings.norm_tag)
        self._frame = ModelFrame(contract, self._tag)
        self._backend = InProcessBackend(made_by.settings, contract)
        self._backend.load()
        self._seed = 0

    def begin(self, seed: int) -> None:
        self._backend.reset()
        self._seed = seed * 10_000

    def chunk(self, images: dict[str, np.ndarray], state: np.ndarray, instruction: str) -> np.ndarray:
        self._seed += 1
        seen = [images[camera] for camera in self._tag.cameras]
        inference = self._backend.infer(seen, self._frame.to_model(state), instruction, self._seed)
        return self._frame.actions_to_ros(inference.actions)[0]
