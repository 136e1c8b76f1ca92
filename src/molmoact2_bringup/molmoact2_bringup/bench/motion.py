# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How an arm moves where chunks meet, by joining rule and latency. Simulated time; the real controller and engine.

The chunks come from a real checkpoint by the real engine, each arriving a set time L after its observation; the next
observation is taken when it arrives or, with k requests in flight, every L / k. `upstream` is what the reference's own
loop does: hold still while the model runs, then play the chunk from its first waypoint, with nothing in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial.legendre import legvander

from arm_controller.chunk import Chunk
from arm_controller.controller import ArmController
from arm_controller.driver import ArmDriver, ArmState
from arm_controller.operating import Operator
from molmoact2_contract import Contract, NormTag
from molmoact2_policy.backend import Backend
from molmoact2_policy.continuity import Continuity, Heard, Prefix
from molmoact2_policy.model_frame import ModelFrame
from molmoact2_policy.runner import MARGIN

from .trace import BORDER, Case, Run

UPSTREAM, RULES = "upstream", ("splice", "rtc", "ensemble")
FOLLOWS = 0.3                      # of the way to its command that the simulated arm goes in a tick
START_NS = 1_800_000_000_000_000_000
WARM_UP = 3                        # chunks before the run is measured
STATUS_TICKS = 2    # until the policy has heard what the controller states; on a busy machine it was 7 to 20 ms
DISPLACED = 0.2                    # [rad]; how far the scripted plan moves when the scene changes
DEGREE = 4                         # of the polynomials that smooth a chunk

Progress = Callable[[], object]


class FollowingArm(ArmDriver):
    """Joints that follow their setpoint with a first-order lag, on a clock that the run advances."""

    def __init__(self, start: np.ndarray):
        self.positions, self.command, self.now_ns = start.copy(), start.copy(), START_NS

    def connect(self) -> None: ...

    def read(self) -> ArmState:
        self.positions = self.positions + FOLLOWS * (self.command - self.positions)
        return ArmState(self.positions.copy(), self.now_ns)

    def write(self, positions: np.ndarray) -> None:
        self.command = positions.copy()

    def stop(self) -> None:
        self.command = self.positions.copy()

    def close(self) -> None: ...


@dataclass(frozen=True)
class Request:
    """An observation and the chunk that comes of it. actions (H, D): the checkpoint's frame."""

    number: int
    stamp_ns: int
    actions: np.ndarray


@dataclass(frozen=True)
class Bench:
    """One robot and one engine. frames: what the cameras show, all the time; arm: the one that is moved; horizon:
    waypoints of a chunk."""

    contract: Contract
    tag: NormTag
    backend: Backend
    frames: tuple[np.ndarray, ...]
    arm: str
    instruction: str
    horizon: int

    @property
    def length(self) -> float:
        """H, the time from an observation to its chunk's last waypoint [s]."""
        return (self.horizon - 1 + self.tag.first_offset) * self.tag.dt

    @property
    def displaced(self) -> int:
        """The joint of the arm that answers to a change of the scene: the last that is no gripper."""
        joints = self.contract.arm(self.arm).joints
        return max(index for index, joint in enumerate(joints) if not self.contract.joints[joint].is_gripper)

    def infer(
        self, state: np.ndarray, number: int, prefix: Prefix | None = None, *, changed: bool = False,
        smooth: bool = False,
    ) -> np.ndarray:
        """Actions (H, D) in the checkpoint's frame for a state (J,) in ROS units.

        smooth: each joint is replaced by the polynomial nearest to it.

        The checkpoint that ships plans the same motion whatever the picture shows, so what a changed scene does to the
        plan is scripted: all of it is displaced in one joint. The engine gets state and prefix without the displacement
        and its chunk is given it back, which is the same as an engine that was fitted to the displaced motion.
        """
        frame = ModelFrame(self.contract, self.tag)
        offset = np.zeros(len(state))
        offset[self.displaced] = DISPLACED * changed
        told = frame.to_model(state - offset)
        moved = frame.to_model(state) - told
        if prefix is not None:
            prefix = replace(prefix, actions=prefix.actions - moved)
        actions = self.backend.infer(self.frames, told, self.instruction, number, prefix).actions + moved
        return _smoothed(actions) if smooth else actions

    def run(self, case: Case, chunks: int, progress: Progress = lambda: None, changed_from: int | None = None) -> Run:
        """One run. changed_from: number of the first observation, counted from 1, that shows the scene changed."""
        if case.rule == UPSTREAM:
            return self._play(case, chunks, progress, changed_from)
        return _Flight(self, case, changed_from).run(chunks, progress)

    def _play(self, case: Case, chunks: int, progress: Progress, changed_from: int | None) -> Run:
        """Each waypoint is sent when it is due, as the reference's loop does."""
        period, dt = 1.0 / self.contract.setpoint_hz, self.tag.dt
        joints = self.contract.arm(self.arm).joints
        columns = [self.contract.joint_names.index(joint) for joint in joints]
        driver = FollowingArm(self.contract.values("home", joints))
        setpoints: list[np.ndarray] = []
        borders: list[int] = []
        captures: list[int] = []
        for number in range(1, chunks + 1):
            captures.append(len(setpoints))
            changed = _sees(case, number, changed_from)
            actions = self.infer(driver.positions, number, changed=changed, smooth=case.smooth)
            waypoints = ModelFrame(self.contract, self.tag).actions_to_ros(actions)[0][:, columns]
            commands = [driver.command] * round(case.latency / period)
            times = np.arange(round(len(waypoints) * dt / period)) * period
            commands += [waypoints[min(int(t / dt + 1e-9), len(waypoints) - 1)] for t in times]
            borders.append(len(setpoints) + round(case.latency / period))
            for command in commands:
                driver.write(command)
                driver.read()
                setpoints.append(driver.command.copy())
            progress()
        rates = np.ones(len(setpoints))
        return Run(case, 1.0 / period, np.array(setpoints), np.array(borders), np.array(captures), rates, np.empty(0))


class _Flight:
    """One run of a controller: requests begin, their chunks arrive, and ticks go by."""

    def __init__(self, bench: Bench, case: Case, changed_from: int | None):
        self.bench, self.case, self.changed_from = bench, case, changed_from
        arm = bench.contract.arm(bench.arm)
        self.driver = FollowingArm(bench.contract.values("home", arm.joints))
        self.controller = ArmController(
            bench.contract, arm, self.driver, shadow=False, joining=case.rule, when_late=case.when_late
        )
        self.continuity = Continuity(bench.tag.dt, bench.tag.first_offset, MARGIN)
        self._statuses: deque[Heard] = deque()    # on their way to the policy
        self.steady_ns, self.under_way = 1_000_000_000, deque[Request]()
        self.setpoints: list[np.ndarray] = []
        self.rates: list[float] = []
        self.captures: list[int] = []
        self.borders: list[int] = []
        self.seams: list[float] = []

    def run(self, chunks: int, progress: Progress) -> Run:
        self._tick()
        self.controller.hear_policy("bench", "bench", self.steady_ns / 1e9)
        Operator(self.controller, lambda: (self.steady_ns, self.driver.now_ns)).arm()
        self._tick()    # what is observed before that moves nothing
        last, latency_ns = chunks + WARM_UP, round(1e9 * self.case.latency)
        next_ns, interval_ns = self.driver.now_ns, latency_ns // self.case.in_flight
        while len(self.borders) < last:
            if self.under_way and self.driver.now_ns >= self.under_way[0].stamp_ns + latency_ns:
                self._arrive(self.under_way.popleft())
                progress()
            if self.driver.now_ns >= next_ns and len(self.captures) < last:
                self._begin(len(self.captures) + 1)
                next_ns += interval_ns
            self._tick()
        start, end = self.borders[WARM_UP - 1], self.borders[-1]
        for _ in range(int(BORDER / self.controller.period)):
            self._tick()
        borders, captures = np.array(self.borders[WARM_UP:]) - start, np.array(self.captures) - start
        setpoints, rates = np.array(self.setpoints[start:]), np.array(self.rates[start:end])
        seams = np.array(self.seams[WARM_UP:])
        return Run(self.case, 1.0 / self.controller.period, setpoints, borders, captures, rates, seams)

    def _tick(self) -> None:
        period_ns = int(1e9 * self.controller.period)
        self.steady_ns += period_ns
        self.driver.now_ns += period_ns
        self.controller.tick(self.steady_ns, self.driver.now_ns)
        self.setpoints.append(self.driver.command.copy())
        self.rates.append(self.controller.rate)
        controller = self.controller
        self._statuses.append(
            Heard(
                self.case.rule, controller.scheduler.chunk_id, controller.last.consumed, controller.last.latency,
                controller.lag, controller.last.refused_id,
            )
        )
        if len(self._statuses) > STATUS_TICKS:
            self.continuity.hear(self.bench.arm, self._statuses.popleft(), of_this_episode=True)

    def _begin(self, number: int) -> None:
        stamp_ns, prefix = self.driver.now_ns, self.continuity.prefix(self.driver.now_ns / 1e9)
        self.captures.append(len(self.setpoints) - 1)    # the clock stands at the last tick
        changed = _sees(self.case, number, self.changed_from)
        actions = self.bench.infer(self.driver.positions, number, prefix, changed=changed, smooth=self.case.smooth)
        self.under_way.append(Request(number, stamp_ns, actions))

    def _arrive(self, request: Request) -> None:
        tag, contract, stamp = self.bench.tag, self.bench.contract, request.stamp_ns / 1e9
        ros, _ = ModelFrame(contract, tag).actions_to_ros(request.actions)
        names = contract.joint_names
        chunk = Chunk(request.number, "bench", stamp, tag.dt, tag.first_offset, len(ros), names, ros.ravel())
        refused = self.controller.accept(chunk, self.steady_ns / 1e9, self.driver.now_ns / 1e9)
        if refused:
            raise RuntimeError(f"{self.case}: {refused}")
        self.continuity.delivered(request.number, stamp, request.actions, self.case.latency)
        self.borders.append(len(self.setpoints))
        self.seams.append(self.controller.last.seam_jump)


def _smoothed(actions: np.ndarray) -> np.ndarray:
    basis = legvander(np.linspace(-1.0, 1.0, len(actions)), DEGREE)
    return (basis @ np.linalg.lstsq(basis, actions, rcond=None)[0]).astype(np.float32)


def _sees(case: Case, number: int, changed_from: int | None) -> bool:
    return (changed_from is not None and number >= changed_from) or (case.wavers and number % 2 == 0)
