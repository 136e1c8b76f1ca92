# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations as a data set: several processes perform, one writes, in the order of the seeds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from molmoact2_data.depth_images import to_millimetres
from molmoact2_data.writer import DatasetWriter, Row

from ..tabletop import RATE
from .episode import Episode, Pilot, Wanted

STDERR = 2
HELD_OUT = range(90_000, 100_000)    # seeds that policies are judged by; never trained on


class WorkerDied(RuntimeError):
    """One of the processes ended, or failed, without a result."""


@dataclass(frozen=True)
class Settings:
    """How to make a data set. home: of the arm [rad], in the scene's joint order; joints: names of the values; size:
    (height, width) of images; depth_size: of depth images, None: without. pilot: makes, in each worker, who drives."""

    scene: str
    home: tuple[float, ...]
    joints: tuple[str, ...]
    wanted: Wanted
    size: tuple[int, int]
    depth_size: tuple[int, int] | None
    notes: dict[str, Any]
    pilot: Callable[[], Pilot] | None = None


@dataclass
class Made:
    """What came of it. failures: attempts that were not kept, by reason; interrupted: before all seeds were tried;
    broken: so, and why, where a worker died."""

    episodes: int = 0
    frames: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    broken: str = ""


def make(root: Path, seeds: Sequence[int], settings: Settings, workers: int, show: bool) -> Made:
    """Writes the demonstrations of these seeds; those that fail are left out. An interruption (Ctrl-C, SIGTERM) and a
    worker that dies end it with the episodes that stand. workers: processes. Errors: DatasetError."""
    depth = {} if settings.depth_size is None else {settings.wanted.main_camera: settings.depth_size}
    cameras = dict.fromkeys(_cameras(settings.scene), settings.size)
    made = Made()
    writer = DatasetWriter(root, RATE, settings.joints, cameras, "so101", settings.notes, depth)
    with _Signals() as signals, writer, tqdm(total=len(seeds), unit="episode", disable=not show) as bar:
        try:
            for episode in _performed(seeds, settings, workers):
                if episode.failure:
                    made.failures[f"{episode.task}: {episode.failure}"] += 1
                else:
                    with signals.held_back():    # an episode is written with all that is known of it
                        _write(writer, episode)
                bar.update()
                bar.set_postfix_str(f"{writer.episodes} kept")
        except KeyboardInterrupt:
            made.interrupted = True
        except WorkerDied as error:
            made.broken = str(error)
        signals.heeded = False    # what stands is made whole
        made.episodes, made.frames = writer.episodes, writer.frames
    return made


class _Signals:
    """Inside the block the first Ctrl-C or SIGTERM, of a machine that is taken away, is KeyboardInterrupt; further ones
    count for nothing, so that what stands is made whole. heeded: the next one is."""

    def __init__(self) -> None:
        self.heeded, self._held_back, self._late = True, False, False
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number, before in self._before.items():
                if before not in (None, signal.SIG_IGN):
                    signal.signal(number, self._end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            if signal.getsignal(number) == self._end:
                signal.signal(number, before)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """One that comes inside is KeyboardInterrupt at the end."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False
        if self._late:
            raise KeyboardInterrupt

    def _end(self, *_: object) -> None:
        if not self.heeded:
            return
        self.heeded = False
        with suppress(OSError):    # whoever reads it may be gone
            os.write(STDERR, b"\nending; what stands is being written\n")    # a print may be under way
        if self._held_back:
            self._late = True
        else:
            raise KeyboardInterrupt


def _write(writer: DatasetWriter, episode: Episode) -> None:
    number = writer.episodes
    extra = {"seed": str(episode.seed), "what": episode.task, "cube": episode.cube}
    writer.begin(episode.instruction, len(episode.steps), extra)
    for step in episode.steps:
        depth = {camera: to_millimetres(image) for camera, image in step.depth.items()}
        writer.add(Row(step.state, step.action, step.images, depth))
    writer.end()
    for name, rows in episode.known.items():
        writer.companion(name).add([{"episode_index": number, **row} for row in rows])


# --- workers ----------------------------------------------------------------------------------------------------------
def _performed(seeds: Sequence[int], settings: Settings, workers: int) -> Iterator[Episode]:
    """The episodes in the order of their seeds, whoever made them."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(seeds)), context, _begin, (settings,))
    try:
        # Not map, which would run ahead of the writer without end.
        ahead, waiting = 2 * workers, deque[Future[Episode]]()
        for seed in seeds:
            waiting.append(pool.submit(_perform, seed))
            if len(waiting) >= ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    except BrokenProcessPool:
        raise WorkerDied("a worker died; with less memory free than a scene needs, use fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _result(future: Future[Episode]) -> Episode:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:
        raise WorkerDied(f"a worker failed: {error!r}") from error


_demonstrator: Any = None    # of a worker's process


def _begin(settings: Settings) -> None:
    """A worker's first act. A terminal's Ctrl-C reaches every process; the first one ends the others."""
    global _demonstrator
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("MUJOCO_GL", "egl")
    from ..render import Eyes
    from ..scene import build
    from ..tabletop import Tabletop
    from .episode import Demonstrator

    scene = build(settings.scene)
    every = 0 if settings.depth_size is None else settings.size[0] // settings.depth_size[0]
    table = Tabletop(scene, np.array(settings.home))
    pilot = None if settings.pilot is None else settings.pilot()
    _demonstrator = Demonstrator(table, Eyes(scene, settings.size, every), settings.wanted, pilot)


def _perform(seed: int) -> Episode:
    return _demonstrator.perform(seed)


def _cameras(scene: str) -> tuple[str, ...]:
    from ..scene import build

    return build(scene).cameras
