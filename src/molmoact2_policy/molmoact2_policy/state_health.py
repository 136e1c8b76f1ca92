# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the joint states that the policy reads are those of the arm: controllers say what they measure themselves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from molmoact2_contract import Contract

from .ingest import Observation

MOVED = 0.05    # of the tracking limit that an arm moves while its joint states repeat themselves


@dataclass(frozen=True)
class _Measured:
    """What a controller measured. stamp_ns: ROS time; columns: of its joints in the contract's order."""

    stamp_ns: int
    columns: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class _Repeated:
    """An arm's joint states that have not changed since `stamp_ns`, and what its controller measured first after it."""

    state: np.ndarray
    stamp_ns: int
    measured: _Measured | None = None


class StateHealth:
    """Compares observations with what controllers measured last. Thread-safe.

    Another node that publishes joint states, or a relay that stands still, shows here and nowhere else.
    """

    def __init__(self, contract: Contract):
        self._contract = contract
        self._velocity, self._tracking = contract.values("velocity"), contract.values("tracking")
        self._lock = threading.Lock()
        self._measured: dict[str, _Measured] = {}
        self._repeated: dict[str, _Repeated] = {}

    def measured(self, arm: str, stamp_ns: int, joints: Sequence[str], positions: Sequence[float]) -> None:
        """What a controller measured, in ROS units. Joints that are not in the contract are its own fault to tell."""
        names = self._contract.joint_names
        if len(joints) != len(positions) or any(joint not in names for joint in joints):
            return
        columns = np.array([names.index(joint) for joint in joints], dtype=int)
        with self._lock:
            self._measured[arm] = _Measured(stamp_ns, columns, np.array(positions, dtype=np.float64))

    def problem(self, observation: Observation) -> str:
        """What is wrong with its joint states, e.g. "joint 'elbow' is ..."; empty where nothing is known to be."""
        with self._lock:
            measured = dict(self._measured)
            text = "; ".join(filter(None, (self._off(observation, m) for m in measured.values())))
            return text or self._frozen(observation, measured)

    def _off(self, observation: Observation, measured: _Measured) -> str:
        apart = abs(observation.state_stamp_ns - measured.stamp_ns) / 1e9
        if apart > self._contract.max_observation_age:
            return ""    # a controller that is silent is another matter
        columns = measured.columns
        off = np.abs(observation.state[columns] - measured.positions)
        allowed = self._tracking[columns] + self._velocity[columns] * apart
        if not (off > allowed).any():
            return ""
        worst = int(np.argmax(off / allowed))
        name = self._contract.joint_names[columns[worst]]
        return (
            f"joint {name!r} is at {observation.state[columns[worst]]:.3f} by the joint states, and at "
            f"{measured.positions[worst]:.3f} by its controller; does another node publish joint states?"
        )

    def _frozen(self, observation: Observation, measured: dict[str, _Measured]) -> str:
        for arm, now in measured.items():
            state, before = observation.state[now.columns], self._repeated.get(arm)
            if before is None or not np.array_equal(before.state, state):
                self._repeated[arm] = _Repeated(state, observation.state_stamp_ns)
            elif before.measured is None:
                if now.stamp_ns >= before.stamp_ns:
                    self._repeated[arm] = replace(before, measured=now)
            elif np.array_equal(before.measured.columns, now.columns):
                moved = np.abs(now.positions - before.measured.positions)
                if (moved > MOVED * self._tracking[now.columns]).any():
                    return f"the joint states repeat themselves while arm {arm!r} moves; check what publishes them"
        return ""
