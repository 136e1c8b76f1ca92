# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Options of every command that runs the model over a bag."""

from __future__ import annotations

import argparse
from typing import Any, Protocol

from molmoact2_model.engine_options import (
    DRAFT_HELP,
    LANGUAGE_WEIGHTS,
    LANGUAGE_WEIGHTS_HELP,
    NOISE_SCALE_HELP,
    OPTIMIZATIONS_HELP,
    SOLVER_HELP,
    SOLVERS,
)


class Group(Protocol):
    def add_argument(self, *names: str, **how: Any) -> Any: ...


def add_what(group: Group, only_depth: bool = False) -> None:
    """Settings instead of the recorded ones. only_depth: those on which depth codes depend."""
    add = group.add_argument
    add("--contract", help="embodiment contract: a name in config/embodiments, or a path")
    add("--checkpoint", help="a folder, a name in checkpoints/, or a Hub id owner/name")
    add("--norm-tag", help="norm tag: in the checkpoint and in the contract")
    if not only_depth:
        add("--depth", choices=["off", "full", "adaptive", "verified"])
        add("--cache-policy", choices=["bounded", "reference"])
        add("--full-refresh-every", type=int, metavar="N")
        add("--similarity-threshold", type=float, metavar="COSINE")
        add("--action-mode", choices=["continuous", "discrete"])
        add("--fast-tokenizer", metavar="DIR")
        add("--num-steps", type=int, metavar="N")
        add("--noise-scale", type=float, metavar="SCALE", help=NOISE_SCALE_HELP)
        add("--smoothing", type=float, metavar="SECONDS")
        add("--rtc", choices=["gradient", "replace"])
        add("--rtc-beta", type=float, metavar="BETA")
        add("--draft", action=argparse.BooleanOptionalAction, help=DRAFT_HELP)
        add("--solver", choices=list(SOLVERS), help=SOLVER_HELP)
        add("--optimizations", metavar="NAME,NAME", help=OPTIMIZATIONS_HELP)
    add("--device", help="torch device: cpu, cuda, cuda:1")
    add("--dtype", choices=["float32", "bfloat16", "float16"])
    add("--language-weights", choices=LANGUAGE_WEIGHTS, help=LANGUAGE_WEIGHTS_HELP)
    add("--threads", type=int, metavar="N", help="processor threads of the engine")


def add_elsewhere(group: Group) -> None:
    """Names of a bag that are not the contract's."""
    add = group.add_argument
    add("--topic", type=pair, action="append", default=[], metavar="OURS=THEIRS", dest="topics",
        help="a topic of the contract that has another name in the bag; may be repeated")
    add("--joint", type=pair, action="append", default=[], metavar="THEIRS=OURS", dest="joints",
        help="a joint that has another name in the bag; may be repeated")


def pair(text: str) -> tuple[str, str]:
    left, _, right = text.partition("=")
    if not left or not right:
        raise argparse.ArgumentTypeError(f"must have the form A=B, not {text!r}")
    return left, right


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings by name, None where as recorded."""
    from .configured import KINDS

    return {name: getattr(args, name) for name in (*KINDS, "contract") if hasattr(args, name)}
