# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated scene of a system: what is tried in it, and the benches that try it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from arm_controller.joining import RULES
from molmoact2_contract import ContractError, System
from molmoact2_model.policy import CACHE_POLICIES
from molmoact2_policy.backend import InProcessBackend
from molmoact2_policy.parameters import CHOICES, Configuration
from mujoco_driver.demos.words import PLAIN
from mujoco_driver.render import Eyes
from mujoco_driver.scene import build
from mujoco_driver.success import TASKS
from mujoco_driver.tabletop import Tabletop
from mujoco_driver.world import home_of

from ..check.wanted import configuration_of, controllers_of
from .attempts import AS_IT_IS, Attempt, Condition
from .disturbance import KINDS
from .in_process import Bench, Clock

AS_IT_IS_TEXT = "as-it-is"
FIELDS = {"cameras": "disturbance"}    # of a Condition, where they are not called as the option is
Attempting = Callable[[int], Attempt]


class SimulatedScene:
    """Errors: ContractError, SceneError."""

    def __init__(self, system: System):
        if not system.simulation:
            raise ContractError(f"{system.path}: evaluation moves the arm unattended and runs simulations only")
        self.system = system
        self._world, self._cameras, self._policy = (
            system.process(name).parameters for name in ("world", "cameras", "policy")
        )
        self._size = int(self._cameras.get("image_height", 240)), int(self._cameras.get("image_width", 320))
        if min(self._size) < 1:
            height, width = self._size
            raise ContractError(f"{system.path}: image_height is {height} and image_width {width}, expected pixels")
        scene = build(str(self._world.get("scene", "so101_tabletop")))
        home = home_of(system.contract, scene)
        self.table = Tabletop(scene, np.array([home[joint] for joint in scene.joints]))

    def words(self, task: str, seed: int) -> tuple[str, str]:
        """The cube that is asked for in the scene of a seed, and how."""
        cubes = self.table.scene.cubes
        cube = cubes[seed % len(cubes)]
        return cube, PLAIN[task].format(cube)

    # --- what is tried ------------------------------------------------------------------------------------------------
    def conditions(self, asked: Mapping[str, str], also: Sequence[str] = ()) -> list[Condition]:
        """All combinations, and more that differ from each task's first one. asked: task, latency, joining, when_late,
        depth, cache and cameras, several with commas; an empty text: as the system's files say. also: the differences,
        such as "latency=0.8,when-late=slow"; one that names a task is tried with that task alone. Errors: ValueError
        that names the option."""
        found = self._combined(asked)
        firsts = dict[str, Condition]()
        for condition in found:
            firsts.setdefault(condition.task, condition)
        for text in also:
            differing = self._differing(text, asked)
            for first in [found[0]] if "task" in differing else firsts.values():
                own = {name: f"{getattr(first, FIELDS.get(name, name)) or AS_IT_IS_TEXT}" for name in asked}
                try:
                    more = self._combined(own | differing)
                except ValueError as error:
                    raise ValueError(f"--also {text}: {error}") from None
                if "cache" in differing and more[0].depth != "adaptive":
                    raise ValueError(f"--also: {text!r} is without depth adaptive, and so without a cache")
                found += [one for one in more if one not in found]
        return found

    @staticmethod
    def _differing(text: str, asked: Mapping[str, str]) -> dict[str, str]:
        parts = [part.partition("=") for part in text.split(",")]
        names = [name.strip().replace("-", "_") for name, _, _ in parts]
        told = all(equals and value for _, equals, value in parts) and len(set(names)) == len(names)
        if not told or not set(names) <= set(asked):
            options = ", ".join(name.replace("_", "-") for name in asked)
            raise ValueError(
                f"--also: {text!r} is not NAME=VALUE, several with commas, each name once; the names are: {options}"
            )
        return {name: value.strip() for name, (_, _, value) in zip(names, parts, strict=True)}

    def _combined(self, asked: Mapping[str, str]) -> list[Condition]:
        controller = next(iter(controllers_of(self.system).values())).parameters
        own: dict[str, Any] = {
            "latency": f"{self._policy.get('least_latency', 0.0) or AS_IT_IS_TEXT}",
            "joining": controller.get("joining", "splice"), "when_late": controller.get("when_late", "hold"),
            "depth": self._policy.get("depth", "off"), "cache": self._policy.get("cache_policy", "bounded"),
        }    # fmt: skip
        known: dict[str, Iterable[str]] = {
            "task": TASKS, "joining": RULES, "when_late": ("hold", "slow"), "depth": CHOICES["depth"],
            "cache": CACHE_POLICIES, "cameras": tuple(KINDS),
        }    # fmt: skip
        lists = {name: str(text or own.get(name, "")).split(",") for name, text in asked.items()}
        for name, choices in known.items():
            unknown = [part for part in lists[name] if part not in choices]
            if unknown:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: there is no {unknown[0]!r}; there are: {', '.join(choices)}")
        latencies = [self._latency(text) for text in lists["latency"]]
        return [
            Condition(task, latency, joining, when_late, depth, cache, cameras)
            for task, latency, joining, when_late, depth, cache, cameras in itertools.product(
                lists["task"], latencies, lists["joining"], lists["when_late"], lists["depth"], lists["cache"],
                lists["cameras"],
            )
            if depth == "adaptive" or cache == lists["cache"][0]    # else there is no cache
        ]

    def _latency(self, text: str) -> float:
        if text == AS_IT_IS_TEXT:
            return AS_IT_IS
        oldest = self.system.contract.max_observation_age
        try:
            latency = float(text)
        except ValueError:
            latency = math.nan
        if not 0 < latency < oldest:
            raise ValueError(
                f"--latency: {text!r} is neither {AS_IT_IS_TEXT} nor a number of seconds above 0 and below {oldest:g} "
                f"(max_observation_age of {self.system.contract.path.name}), after which controllers refuse a chunk"
            )
        return latency

    def under(self, condition: Condition, checkpoint: str, seed: int) -> System:
        """The system as a condition wants it, its policy's parameters checked. checkpoint: by name or path, empty: the
        system's. Errors: ContractError."""
        changes: dict[str, dict[str, Any]] = {
            name: {"joining": condition.joining, "when_late": condition.when_late}
            for name in (process.name for process in controllers_of(self.system).values())
        }
        changes["world"] = {"seed": seed}
        changes["policy"] = {
            "depth": condition.depth, "cache_policy": condition.cache, "instruction": "",
            "least_latency": condition.latency,
        } | ({"checkpoint": checkpoint} if checkpoint else {})    # fmt: skip
        changed = self._changed(self.system, changes)
        wanted = configuration_of(changed.process("policy"))
        return self._changed(changed, {"policy": {"checkpoint": wanted.settings.checkpoint}})

    @staticmethod
    def _changed(system: System, changes: Mapping[str, Mapping[str, Any]]) -> System:
        return replace(system, processes=tuple(
            replace(process, parameters={**process.parameters, **changes.get(process.name, {})})
            for process in system.processes
        ))    # fmt: skip

    # --- what tries it ------------------------------------------------------------------------------------------------
    @contextmanager
    def fast(self, system: System, condition: Condition) -> Iterator[Attempting]:
        """system: as `under` gives it. Errors: ContractError, BackendError."""
        wanted = configuration_of(system.process("policy"))
        if wanted.remote is not None:
            raise ContractError(
                f"{system.path}: the policy's backend is act, a server; mode fast runs the engine itself, so use "
                "--mode live"
            )
        bench = self.bench(wanted, next(iter(controllers_of(system))))
        try:
            bench.backend.load()
            yield lambda seed: bench.attempt(condition, seed, *self.words(condition.task, seed))
        finally:
            bench.close()

    def bench(self, wanted: Configuration, arm: str) -> Bench:
        """The same robot, engine and cameras as the system's; the backend is not loaded yet."""
        clock = Clock()
        return Bench(
            self.system.contract, wanted.tag, InProcessBackend(wanted.settings, self.system.contract, clock.seconds),
            self.table, Eyes(self.table.scene, self._size), clock, arm, wanted.min_period,
            camera_period=1 / float(self._cameras.get("camera_rate", 15.0)), seed=wanted.seed,
            check_frozen=wanted.check_frozen,
        )

    @contextmanager
    def live(self, system: System, condition: Condition, log: Path) -> Iterator[Attempting]:
        """The same through the whole graph. log: gets what the processes say. Errors: as of LiveBench."""
        from .live import LiveBench

        with log.open("a", encoding="utf-8") as file:
            def write(line: str) -> None:
                file.write(line + "\n")
                file.flush()

            with LiveBench(system, condition, self.table, write) as bench:
                yield lambda seed: bench.attempt(condition, seed, *self.words(condition.task, seed))
