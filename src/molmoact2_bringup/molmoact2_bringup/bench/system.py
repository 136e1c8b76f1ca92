# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A short run of the simulated system: what its visualizer costs, and how fast the run is made again."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from molmoact2_contract import System
from molmoact2_contract.qos import VIEW
from molmoact2_policy.backend import InProcessBackend
from molmoact2_policy.bags.bag import Bag
from molmoact2_policy.bags.facts import facts_of
from molmoact2_policy.bags.recorder import BagRecorder
from molmoact2_policy.bags.topics import topics_of
from molmoact2_policy.replay.configured import choose, read_configured
from molmoact2_policy.replay.embodied import embody
from molmoact2_policy.replay.recorded import read_needs
from molmoact2_policy.replay.replay import Options, replay
from molmoact2_policy.study.observations import recorded_ones

from ..running import RunningSystem
from .recorder import cpu_seconds

VISUALIZER = "visualizer"
SHOWN = {
    "policy/depth/image": Image,
    "policy/depth/refreshed": Image,
    "policy/depth/points_relative": PointCloud2,
    "policy/path": MarkerArray,
}


@dataclass(frozen=True)
class SystemCost:
    """unseen, seen: share of one core that the visualizer takes while nobody looks, and while its pictures, points and
    path are looked at; inferences: of the run; replayed, bare [s]: to make them all again, and of the bare model."""

    unseen: float
    seen: float
    inferences: int
    replayed: float
    bare: float


def system_cost(system: System, folder: Path, seconds: float) -> SystemCost:
    """Errors: those of RunningSystem, BagError, BackendError."""
    place = folder / "system"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    unseen, seen = _run(system, place, seconds)
    before = _bare(place / "bag", place)
    done = replay(place / "bag", place / "replay", Options())
    bare = (before + _bare(place / "bag", place)) / 2
    return SystemCost(unseen, seen, done.tally.repeated, done.elapsed, bare)


def _run(system: System, place: Path, seconds: float) -> tuple[float, float]:
    with (place / "log.txt").open("w") as log:
        running = RunningSystem(system, lambda line: print(line, file=log))
        with running:
            running.configure()
            facts = facts_of(system.contract, system)
            with BagRecorder(running.node, place / "bag", topics_of(system.contract), facts=facts):
                running.activate()
                unseen = _share(running, seconds / 2)
                for topic, kind in SHOWN.items():
                    running.node.create_subscription(kind, topic, lambda _: None, VIEW)
                return unseen, _share(running, seconds / 2)


def _share(running: RunningSystem, seconds: float) -> float:
    pid, began = running.pid(VISUALIZER), time.monotonic()
    busy = cpu_seconds(pid)
    running.wait(seconds)
    return (cpu_seconds(pid) - busy) / (time.monotonic() - began)


def _bare(path: Path, scratch: Path) -> float:
    """Seconds of the model alone for the observations of a bag."""
    with Bag(path) as bag:
        wanted = choose(bag, read_configured(bag)[0], {}, scratch)
        robot = embody(bag, wanted.contract, wanted.tag, {}, {})
        shown = list(recorded_ones(bag, robot, wanted.tag, read_needs(bag), ""))
    backend = InProcessBackend(wanted.settings, wanted.contract)
    backend.load()
    began = time.perf_counter()
    for seed, one in enumerate(shown):
        if one.observation is not None:
            backend.infer(one.observation.images, one.observation.model_state, one.instruction, seed)
    seconds = time.perf_counter() - began
    backend.close()
    return seconds
