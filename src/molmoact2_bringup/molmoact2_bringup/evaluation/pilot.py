# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A policy that drives in demonstrations, so that an expert can correct it where it really comes to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from molmoact2_contract import load_contract
from molmoact2_policy.backend import BackendError, InProcessBackend, Settings, Unanswered
from molmoact2_policy.model_frame import ModelFrame
from molmoact2_policy.runner import MOST_UNANSWERED, no_answers


@dataclass(frozen=True)
class PolicyPilot:
    """Makes one in a worker's process. contract: by name or path. Errors: as of InProcessBackend.load."""

    contract: str
    settings: Settings

    def __call__(self) -> Driving:
        return Driving(self)


class Driving:
    """The policy of one process (mujoco_driver.demos.episode.Pilot). As in a running system it fails after so many
    inferences in a row without an action."""

    def __init__(self, made_by: PolicyPilot):
        contract = load_contract(made_by.contract)
        self._tag = contract.norm_tag(made_by.settings.norm_tag)
        self._frame = ModelFrame(contract, self._tag)
        self._backend = InProcessBackend(made_by.settings, contract)
        self._backend.load()
        self._seed = self._unanswered = 0

    def begin(self, seed: int) -> None:
        self._backend.reset()
        self._seed = seed * 10_000

    def chunk(self, images: dict[str, np.ndarray], state: np.ndarray, instruction: str) -> np.ndarray | None:
        """Errors: BackendError."""
        self._seed += 1
        seen = [images[camera] for camera in self._tag.cameras]
        try:
            inference = self._backend.infer(seen, self._frame.to_model(state), instruction, self._seed)
        except Unanswered as error:
            self._unanswered += 1
            if self._unanswered >= MOST_UNANSWERED:
                raise BackendError(no_answers(self._unanswered, error)) from error
            return None
        self._unanswered = 0
        return self._frame.actions_to_ros(inference.actions)[0]
