# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One demonstration: the expert does a task in a scene, and every step is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from molmoact2_data.companions import ALTERNATIVES, POINTS, QUESTIONS

from ..judge import Judge
from ..render import Eyes
from ..success import PICK, TASKS, TRAY
from ..tabletop import Tabletop
from .expert import Expert
from .words import PLAIN, Questions, held, instruction

HORIZON = 30                # steps of an alternative's chunk
REPLAN = 15                 # steps between two plans
START = np.array([0.16, 0.08, 0.08, 0.08, 0.08, 0.08])    # the arm's start is off home by up to this [rad]
SHOVED_EVERY, SHOVE_FADES = 20, 0.75
JOINT_SHOVES = np.array([1.0, 1.0, 1.0, 1.0, 1.5, 1.0])
SALT = 104729
STAY = 15                   # steps that an episode goes on when the task is done: to stay there is to be learnt too
PILOT_PERIOD, PILOT_LATENCY = 12, 6    # steps from one chunk to the next, and from what it was made of to its arrival
PILOTED = (15, 70)          # [%] of an attempt's steps that a pilot drives, from and to
PILOT_PATIENCE = 2.0        # of so many times an expert's: what comes of a failed first try is to be seen too
NEAR = 0.03                 # [m] from the grasp to the cube


@dataclass(frozen=True)
class Wanted:
    """What to demonstrate. tasks: name -> share; shove: standard deviation of what is now and then added to a command
    [rad], 0: nothing; paraphrase: other words too; points: where each camera sees each cube; ..._every: frames between
    two of them, 0: none."""

    tasks: dict[str, float]
    cubes: tuple[str, ...]
    shove: float
    paraphrase: bool
    points: bool
    alternatives_every: int
    questions_every: int
    main_camera: str = "front"


class Pilot(Protocol):
    """Who drives instead of the expert, who corrects (DAgger, Ross et al. 2011)."""

    def begin(self, seed: int) -> None:
        """A new attempt."""

    def chunk(self, images: dict[str, np.ndarray], state: np.ndarray, instruction: str) -> np.ndarray | None:
        """What it would command from now on, (H, D), one a step; None where it has no answer to this observation. State
        and commands in ROS units (Tabletop.to_ros)."""


@dataclass
class Step:
    """What was seen and commanded at one step. state: as measured; action: what the expert commands, to be reached by
    the next step; both in ROS units (Tabletop.to_ros). images: uint8 (H, W, 3) RGB; depth: float32 (h, w) [m]."""

    state: np.ndarray
    action: np.ndarray
    images: dict[str, np.ndarray]
    depth: dict[str, np.ndarray]


@dataclass
class Episode:
    """A finished attempt. failure: why it did not succeed, else empty. known: rows of companions, by name, with their
    frame_index."""

    seed: int
    task: str
    cube: str
    instruction: str
    failure: str = ""
    steps: list[Step] = field(default_factory=list)
    known: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


class Demonstrator:
    """Makes episodes in one scene. eyes: what draws it. pilot: drives until a step that the seed draws, and then the
    expert does; what the expert would have done in its place is kept."""

    def __init__(self, table: Tabletop, eyes: Eyes, wanted: Wanted, pilot: Pilot | None = None):
        self._table, self._eyes, self._wanted, self._pilot = table, eyes, wanted, pilot
        self._expert = Expert(table)
        self._seen = {name: Questions(table, name, eyes.size) for name in table.scene.cameras}
        self._questions = self._seen[wanted.main_camera]

    def perform(self, seed: int) -> Episode:
        """The attempt of that seed: always the same."""
        wanted, table = self._wanted, self._table
        random = np.random.default_rng([seed, SALT])
        shares = np.array(list(wanted.tasks.values()))
        task = str(random.choice(list(wanted.tasks), p=shares / shares.sum()))
        cube = str(random.choice(wanted.cubes))
        table.reset(seed, random.uniform(-START, START))
        done = Episode(seed, task, cube, instruction(task, cube, random if wanted.paraphrase else None))
        judge = Judge(table, task, cube, 1.0 if self._pilot is None else PILOT_PATIENCE)
        succeeded, stayed = False, 0
        commands = self._commands(done, judge, random)
        if self._pilot is not None:
            self._pilot.begin(seed)
            commands = self._piloted(done, judge, random, commands)
        for command, given in commands:
            self._keep(done, command, random)
            table.step(given)
            succeeded = succeeded or judge.update()
            stayed += succeeded
            if stayed > STAY:
                return done
        if not succeeded:
            done.failure = judge.reason()
        return done

    def _commands(
        self, done: Episode, judge: Judge, random: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each command as the expert means it, and as it is given."""
        path, index, shove = np.empty((0, 6)), 0, np.zeros(6)
        for step in range(judge.limit):
            if index >= min(len(path), REPLAN):
                path, index = self._expert.plan(done.task, done.cube, judge.limit), 0
            if self._wanted.shove and step % SHOVED_EVERY == SHOVED_EVERY // 2 and random.random() < 0.5:
                shove = random.normal(0, self._wanted.shove, 6) * JOINT_SHOVES
            yield path[index], path[index] + shove
            shove, index = shove * SHOVE_FADES, index + 1

    def _piloted(
        self, done: Episode, judge: Judge, random: np.random.Generator, expert: Iterator[tuple[np.ndarray, np.ndarray]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pilot's commands and beside each the expert's; from some step on the expert's alone. A chunk is followed
        from the waypoint on that is due when it would arrive, and until another comes; before the first the arm stays
        where it is."""
        assert self._pilot is not None
        table, until = self._table, int(random.integers(*PILOTED) * judge.limit / 100)
        running = upcoming = table.joints()[None]
        first, seen_at, begun_at = True, 0, 0
        for step in range(until):
            if step % PILOT_PERIOD == 0:
                images, _ = self._eyes.look(table.data)
                chunk = self._pilot.chunk(images, table.to_ros(table.joints()), done.instruction)
                if chunk is not None:
                    upcoming, seen_at = table.to_servo(chunk), step
                    if first:
                        running, begun_at, first = upcoming, seen_at, False
            if step == seen_at + PILOT_LATENCY:
                running, begun_at = upcoming, seen_at
            meant = self._expert.chunk(done.task, done.cube, 1)[0]
            yield meant, running[min(step - begun_at, len(running) - 1)]
        yield from expert

    def _keep(self, done: Episode, command: np.ndarray, random: np.random.Generator) -> None:
        table, frame = self._table, len(done.steps)
        images, depth = self._eyes.look(table.data)
        clipped = np.clip(command, *table.limits.T)
        done.steps.append(Step(table.to_ros(table.joints()), table.to_ros(clipped), images, depth))
        if self._wanted.points:
            done.known.setdefault(POINTS, []).extend({"frame_index": frame, **row} for row in self._points())
        if self._wanted.questions_every and frame % self._wanted.questions_every == 0:
            question, answer = self._questions.ask(random)
            row = {"camera": self._wanted.main_camera, "question": question, "answer": answer}
            done.known.setdefault(QUESTIONS, []).append({"frame_index": frame, **row})
        if self._wanted.alternatives_every and frame % self._wanted.alternatives_every == 0:
            done.known.setdefault(ALTERNATIVES, []).extend(self._alternatives(done, frame))

    def _points(self) -> Iterator[dict[str, Any]]:
        for camera, view in self._seen.items():
            for cube in self._table.scene.cubes:
                seen = view.pixel(self._table.place(cube))
                if seen is not None:
                    yield {"camera": camera, "phrase": cube, "across": seen[0], "down": seen[1]}

    def _alternatives(self, done: Episode, frame: int) -> list[dict[str, Any]]:
        """What the expert would do for other instructions: for all of them far from the cube, for those of the same
        cube near it, and with it in the hand for those that go on with it."""
        table, hand = self._table, held(self._table)
        near = np.linalg.norm(table.site("grasp") - table.place(done.cube)) < NEAR
        cubes = (done.cube,) if near or hand else table.scene.cubes
        asked = {
            PLAIN[task].format(cube): (task, cube)
            for task in ((PICK, TRAY) if hand else TASKS)
            for cube in cubes
            if (task, cube) != (done.task, done.cube) and task in self._wanted.tasks
        }
        if self._pilot is not None:    # what comes of this frame is not what the expert would have done
            asked[done.instruction] = done.task, done.cube
        rows = []
        for words, (task, cube) in asked.items():
            chunk = table.to_ros(np.clip(self._expert.chunk(task, cube, HORIZON), *table.limits.T))
            rows.append({"frame_index": frame, "instruction": words, "chunk": chunk.astype(np.float32).ravel()})
        return rows
