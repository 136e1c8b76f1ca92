# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that moves the arm whatever it is shown, for faults and benches."""

from __future__ import annotations

from molmoact2_contract import System

from .up import with_settings

TAG = "so101_sim_molmoact2_tiny"
CHECKPOINT = "molmoact2-tiny-sway-so101"    # its card says what it does


def that_sways(system: System) -> System:
    """The system with that checkpoint, where its policy takes the small ones; else as it is. A policy that does a task
    stands still when it is done, and what it does on images of noise is anybody's guess."""
    for process in system.processes:
        if process.name == "policy" and process.parameters.get("norm_tag") == TAG:
            return with_settings(system, [f"policy.checkpoint={CHECKPOINT}"])
    return system
