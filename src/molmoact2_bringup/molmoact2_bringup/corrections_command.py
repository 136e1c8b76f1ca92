# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2 corrections`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

BAD_INPUT = 2


def register(subparsers: Any) -> None:
    from molmoact2_model.engine_options import add_noise_scale
    from mujoco_driver.demos.command import add_arguments

    parser = subparsers.add_parser(
        "corrections",
        help="a policy drives in the simulated scene, an expert says what it should have done",
        description="DAgger (Ross et al. 2011): the policy of a checkpoint drives for a part of each attempt, and the "
        "scripted expert ends it. Every K frames (--alternatives) it is kept what the expert would have done there; "
        "molmoact2 train learns that, and only that, of such a data set (recipe: run.every K, run.shift false). "
        "Otherwise as molmoact2 sim demos.",
    )
    parser.add_argument("checkpoint", help="folder, or name of one in checkpoints/")
    parser.add_argument("--contract", default="so101", help="(default %(default)s)")
    parser.add_argument("--norm-tag", default="so101_sim_molmoact2_tiny", help="(default %(default)s)")
    depths = ["off", "full", "adaptive", "verified"]
    parser.add_argument("--depth", default="off", choices=depths, help="(default %(default)s)")
    add_noise_scale(parser)
    parser.add_argument(
        "--smoothing", type=float, default=0.0, metavar="SECONDS",
        help="a cubic is fitted to so long a stretch of a chunk around each waypoint; 0: none (default %(default)s)",
    )
    add_arguments(
        parser, alternatives="every K frames it is kept what the expert would have done, for each instruction; "
        "at least 1 (default %(default)s)",
    )
    parser.set_defaults(func=run, alternatives=3)


def run(args: argparse.Namespace) -> int:
    from molmoact2_contract import ContractError, find_resource, load_contract
    from molmoact2_policy.backend import BackendError, InProcessBackend, Settings
    from molmoact2_policy.smoothing import LONGEST
    from mujoco_driver.demos.command import run as demonstrate

    from .evaluation.pilot import PolicyPilot

    try:
        if args.alternatives < 1:
            raise ValueError("--alternatives must be at least 1: it is what is learnt of these data")
        if not 0 <= args.smoothing <= LONGEST:
            raise ValueError(
                f"--smoothing is {args.smoothing:g}; it must be a length in seconds, 0 for none, {LONGEST:g} at most"
            )
        checkpoint = str(find_resource("checkpoints", args.checkpoint))
        settings = Settings(
            checkpoint, args.norm_tag, args.depth, noise_scale=args.noise_scale, smoothing=args.smoothing, threads=1
        )
        InProcessBackend(settings, load_contract(args.contract)).load()    # what is wrong with it is said once, here
    except (ContractError, BackendError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    return demonstrate(args, PolicyPilot(args.contract, settings))
