# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How an arm yields: how stiffly it follows its setpoints, and what pushes make it stop itself."""

from __future__ import annotations

from dataclasses import dataclass

from .reading import Section

AXES = 6    # of the forces at the hand: x, y, z, and about them
# Largest figures; above them a unit is wrong, or nobody would want to be near the arm.
MOST = {"stiffness": 1500.0, "damping": 200.0, "torque_thresholds": 87.0, "force_thresholds": 100.0}


@dataclass(frozen=True)
class Compliance:
    """One figure for each joint but grippers, in the arm's order; force_thresholds: (6,).

    stiffness [N m/rad], damping [N m s/rad]: of the law that follows the setpoints. torque_thresholds [N m] on a joint,
    force_thresholds [N], [N m] at the hand: from outside, at which the robot's own collision reflex stops it.
    """

    stiffness: tuple[float, ...]
    damping: tuple[float, ...]
    torque_thresholds: tuple[float, ...]
    force_thresholds: tuple[float, ...]


def read_compliance(arm: Section, joints: int) -> Compliance | None:
    """Compliance of an arm with so many joints that are no grippers; None where the contract gives none.
    Errors: ContractError."""
    if "compliance" not in arm:
        return None
    with arm.section("compliance") as section:
        return Compliance(
            stiffness=_figures(section, "stiffness", joints),
            damping=_figures(section, "damping", joints),
            torque_thresholds=_figures(section, "torque_thresholds", joints),
            force_thresholds=_figures(section, "force_thresholds", AXES),
        )


def _figures(section: Section, key: str, length: int) -> tuple[float, ...]:
    values = section.vector(key, length, size=MOST[key])
    for value in values:
        if value <= 0:
            raise section.error(key, f"must be greater than 0, not {value:g}")
    return values
