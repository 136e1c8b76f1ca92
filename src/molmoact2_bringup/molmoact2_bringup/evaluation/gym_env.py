# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Attempts in an environment with gymnasium's interface, e.g. LIBERO's behind a wrapper: no arm and no controller,
the chunk's first waypoints are the environment's actions, one a step.

A map says how the environment's observations and actions are those of a checkpoint:

    format: molmoact2_gym.v1
    cameras: [agentview_image, robot0_eye_in_hand_image]    # keys of observations, in the model's order
    upside_down: true                                       # images are turned by half a turn (default false)
    state: [robot0_joint_pos, robot0_gripper_qpos]          # keys, one behind the other
    instruction: {text: open the drawer}                    # or {attribute: task_description}: of the environment
    actions: 8                                              # waypoints of each chunk that are used
    success: {info: is_success}                             # or {reward: 1.0}: at least that
    limit: 400                                              # steps
    make: {camera_heights: 256}                             # what the environment is made with (default nothing)
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molmoact2_contract import ContractError
from molmoact2_contract.reading import Section, read_file
from molmoact2_model.session import Session

from .attempts import Attempt

FORMAT = "molmoact2_gym.v1"


@dataclass(frozen=True)
class GymMap:
    """See the module. instruction: ("text" or "attribute", which); success: ("info", key) or ("reward", least)."""

    cameras: tuple[str, ...]
    upside_down: bool
    state: tuple[str, ...]
    instruction: tuple[str, str]
    actions: int
    success: tuple[str, Any]
    limit: int
    make: Mapping[str, Any]


def load_map(path: Path) -> GymMap:
    """Errors: ContractError naming file and line."""
    with read_file(path, FORMAT) as top:
        with top.section("instruction") as section:
            instruction = _one_of(section, "text", "attribute")
        with top.section("success") as section:
            success: tuple[str, Any] = (
                ("reward", section.number("reward")) if "reward" in section else ("info", section.text("info"))
            )
        make = top.raw("make", {})
        if not isinstance(make, dict):
            raise top.error("make", f"is {make!r}, expected names and values")
        return GymMap(
            top.names("cameras"), top.flag("upside_down", False), top.names("state"), instruction,
            int(top.number("actions", least=1)), success, int(top.number("limit", least=1)), make,
        )


def _one_of(section: Section, *keys: str) -> tuple[str, str]:
    for key in keys:
        if key in section:
            return key, section.text(key)
    raise section.error(keys[0], f"is missing; {' or '.join(keys)} is needed")


def make_environment(name: str, settings: Mapping[str, Any]) -> Any:
    """name: as gymnasium registers it; "module:Name-v0" imports the module first, which registers it. Errors:
    ContractError."""
    try:
        gymnasium = importlib.import_module("gymnasium")
    except ImportError:
        raise ContractError("environments need gymnasium: pip install gymnasium") from None
    try:
        return gymnasium.make(name, **settings)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise ContractError(f"environment {name!r} cannot be made: {error}") from None


@dataclass(frozen=True)
class GymCondition:
    """Under what attempts are made, as attempts.Condition."""

    task: str
    depth: str

    @property
    def name(self) -> str:
        return f"{self.task}, depth {self.depth}"

    @property
    def first_try(self) -> None:
        """No expert is known."""
        return None

    @property
    def limit(self) -> None:
        """It is one of steps, and in the map."""
        return None

    @property
    def unit(self) -> str:
        """An environment need not say how long a step takes."""
        return "steps"


class GymBench:
    """One environment and one session of a policy. Errors of attempts: ContractError for what the map names and the
    environment does not have."""

    def __init__(self, environment: Any, session: Session, map_: GymMap):
        self._environment, self._session, self._map = environment, session, map_

    def attempt(self, seed: int) -> Attempt:
        """One episode, begun with that seed."""
        observation, _ = self._environment.reset(seed=seed)
        self._session.reset()
        attempt, steps, ended = Attempt(seed, "", self._instruction()), 0, False
        left: list[np.ndarray] = []
        while steps < self._map.limit and not (ended or attempt.success):
            left = left or list(self._chunk(attempt, observation, steps))
            observation, reward, terminated, truncated, info = self._environment.step(left.pop(0))
            steps, ended = steps + 1, bool(terminated or truncated)
            attempt.success = self._succeeded(float(reward), info)
        attempt.seconds = float(steps)
        if not attempt.success:
            attempt.reason = "the episode ended" if ended else "the limit was reached"
        return attempt

    def _chunk(self, attempt: Attempt, observation: Any, steps: int) -> np.ndarray:
        images = [self._image(observation, key) for key in self._map.cameras]
        state = np.concatenate([np.ravel(self._value(observation, key)) for key in self._map.state])
        began = time.monotonic()
        result = self._session.infer(
            images, state.astype(np.float32), attempt.instruction, seed=attempt.seed * 10_000 + steps
        )
        took = time.monotonic() - began
        attempt.latencies.append(took)
        attempt.inferences.append(took)
        if len(result.trace.refreshed):
            attempt.steps.append(int(result.trace.decoder_steps))
            if steps:    # the first one has nothing to keep
                attempt.refreshed.append(float(np.mean(result.trace.refreshed)))
        space = self._environment.action_space
        actions = result.actions[: self._map.actions]
        if actions.shape[1:] != space.shape:
            raise ContractError(
                f"the checkpoint's actions have shape {actions.shape[1:]}, the environment's {space.shape}"
            )
        return np.clip(actions, space.low, space.high).astype(space.dtype)

    def _image(self, observation: Any, key: str) -> np.ndarray:
        image = np.asarray(self._value(observation, key))
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ContractError(f"{key} is {image.dtype} {image.shape}, expected uint8 (height, width, 3)")
        return np.ascontiguousarray(image[::-1, ::-1] if self._map.upside_down else image)

    def _value(self, observation: Any, key: str) -> Any:
        """key: with dots into what lies within."""
        value = observation
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                there = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
                raise ContractError(f"the environment's observation has no {key!r}; it has: {there}")
            value = value[part]
        return value

    def _instruction(self) -> str:
        kind, what = self._map.instruction
        if kind == "text":
            return what
        text = getattr(self._environment.unwrapped, what, None)
        if not isinstance(text, str):
            raise ContractError(f"the environment has no text {what!r}; name its instruction in the map")
        return text

    def _succeeded(self, reward: float, info: Mapping[str, Any]) -> bool:
        kind, what = self._map.success
        if kind == "reward":
            return reward >= what
        return bool(info.get(what, False))


@contextmanager
def opened(environment: Any, session: Session, map_: GymMap) -> Iterator[Callable[[int], Attempt]]:
    """What gives the attempt at a seed; the environment stays open."""
    yield GymBench(environment, session, map_).attempt
