# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How an arm moves where chunks meet, by joining rule and latency. Simulated time; the real controller and engine.

The chunks come from a real checkpoint by the real engine, one inference at a time, each arriving a set time L after its
observation. `upstream` is what the reference's own loop does: hold still while the model runs, then play the chunk from
its first waypoint, with nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arm_controller.chunk import Chunk
from arm_controller.controller import ArmController
from arm_controller.driver import ArmDriver, ArmState
from molmoact2_contract import Contract, NormTag
from molmoact2_policy.backend import Backend
from molmoact2_policy.continuity import Continuity
from molmoact2_policy.model_frame import ModelFrame
from molmoact2_policy.runner import MARGIN

UPSTREAM, RULES = "upstream", ("splice", "rtc", "ensemble")
FOLLOWS = 0.3                      # of the way to its command that the simulated arm goes in a tick
START_NS = 1_800_000_000_000_000_000
BORDER = 0.06                      # [s] before and after a chunk's arrival that count as its border
STILL = 0.1                        # [s]
WARM_UP = 3                        # chunks before the run is measured


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
class Run:
    """Setpoints (N, J) at a steady rate, and the ticks at which chunks arrived. rates: of path time, (N,)."""

    rule: str
    latency: float
    hz: float
    setpoints: np.ndarray
    borders: np.ndarray
    rates: np.ndarray

    def derivative(self, order: int) -> np.ndarray:
        """(N, J), from setpoints alone; the first `order` rows are 0."""
        values = np.diff(self.setpoints, n=order, axis=0) * self.hz**order
        return np.concatenate([np.zeros((order, values.shape[1])), values])

    def border_step(self, order: int) -> float:
        """Largest change of the derivative from one setpoint to the next at any chunk border, of any joint."""
        steps = np.abs(np.diff(self.derivative(order), axis=0)).max(axis=1)
        reach = int(BORDER * self.hz)
        near = [steps[max(b - reach, 0) : b + reach] for b in self.borders]
        return float(np.concatenate(near).max()) if near else 0.0

    @property
    def standing(self) -> float:
        """Share of the time in which nothing moves for at least STILL seconds."""
        still = np.abs(np.diff(self.setpoints, axis=0)).max(axis=1) < 1e-6
        edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(int)))
        lengths = edges[1::2] - edges[::2]
        return float(lengths[lengths >= STILL * self.hz].sum() / len(still))

    @property
    def slowdown(self) -> float:
        return float(1.0 - self.rates.mean())


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

    def infer(self, state: np.ndarray, number: int, continuity: Continuity | None, stamp: float) -> np.ndarray:
        """Actions (H, D) in the checkpoint's frame for a state (J,) in ROS units."""
        frame = ModelFrame(self.contract, self.tag)
        prefix = continuity.prefix(stamp) if continuity else None
        return self.backend.infer(self.frames, frame.to_model(state), self.instruction, number, prefix).actions

    def run(
        self,
        rule: str,
        latency: float,
        chunks: int,
        when_late: str = "hold",
        progress: Callable[[], object] = lambda: None,
    ) -> Run:
        """One run. rule: UPSTREAM or one of RULES; latency [s]: from each observation to its chunk's arrival."""
        if rule == UPSTREAM:
            return self._play(latency, chunks, progress)
        start = self.contract.values("home", self.contract.arm(self.arm).joints)
        driver = FollowingArm(start)
        controller = ArmController(
            self.contract, self.contract.arm(self.arm), driver, shadow=False, joining=rule, when_late=when_late
        )
        steady_ns, period_ns = 1_000_000_000, int(1e9 * controller.period)
        continuity = Continuity(self.tag.dt, self.tag.first_offset, MARGIN)
        continuity.joins_by(self.arm, rule)
        setpoints, rates, borders = [], [], []

        def tick() -> None:
            nonlocal steady_ns
            steady_ns += period_ns
            driver.now_ns += period_ns
            controller.tick(steady_ns, driver.now_ns)
            setpoints.append(driver.command.copy())
            rates.append(controller.rate)

        tick()
        controller.hear_policy("bench", "bench", steady_ns / 1e9)
        controller.arm()
        for number in range(1, chunks + WARM_UP + 1):
            stamp_ns = driver.now_ns
            actions = self.infer(driver.positions, number, continuity, stamp_ns / 1e9)
            while driver.now_ns < stamp_ns + latency * 1e9:
                tick()
            now = driver.now_ns / 1e9
            chunk = self._chunk(actions, number, stamp_ns / 1e9)
            refused = controller.accept(chunk, steady_ns / 1e9, now)
            if refused:
                raise RuntimeError(f"{rule}, L {latency:g} s: {refused}")
            continuity.delivered(number, stamp_ns / 1e9, actions, latency)
            continuity.accepted(self.arm, number, controller.last.consumed)
            if number > WARM_UP:
                borders.append(len(setpoints))
            else:
                setpoints.clear()
                rates.clear()
            progress()
        return self._made(rule, latency, controller.period, setpoints, borders, rates)

    def _chunk(self, actions: np.ndarray, number: int, stamp: float) -> Chunk:
        ros, _ = ModelFrame(self.contract, self.tag).actions_to_ros(actions)
        tag, names = self.tag, self.contract.joint_names
        return Chunk(number, "bench", stamp, tag.dt, tag.first_offset, len(ros), names, ros.ravel())

    def _play(self, latency: float, chunks: int, progress: Callable[[], object]) -> Run:
        """Each waypoint is sent when it is due, as the reference's loop does."""
        period, dt = 1.0 / self.contract.setpoint_hz, self.tag.dt
        joints = self.contract.arm(self.arm).joints
        columns = [self.contract.joint_names.index(joint) for joint in joints]
        driver = FollowingArm(self.contract.values("home", joints))
        setpoints: list[np.ndarray] = []
        borders: list[int] = []
        for number in range(1, chunks + 1):
            actions = self.infer(driver.positions, number, None, 0.0)
            waypoints = ModelFrame(self.contract, self.tag).actions_to_ros(actions)[0][:, columns]
            commands = [driver.command] * round(latency / period)
            times = np.arange(round(len(waypoints) * dt / period)) * period
            commands += [waypoints[min(int(t / dt + 1e-9), len(waypoints) - 1)] for t in times]
            borders.append(len(setpoints) + round(latency / period))
            for command in commands:
                driver.write(command)
                driver.read()
                setpoints.append(driver.command.copy())
            progress()
        return self._made(UPSTREAM, latency, period, setpoints, borders, [1.0] * len(setpoints))

    @staticmethod
    def _made(rule: str, latency: float, period: float, setpoints: list, borders: list, rates: list) -> Run:
        return Run(rule, latency, 1.0 / period, np.array(setpoints), np.array(borders), np.array(rates))
