# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How the engine is to compute: one object for the policy node, `serve`, `infer` and `bench-model`. No torch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from .errors import InputError
from .optimizations import NEEDS, OF_GPUS, Optimizations

EULER = "euler"    # as released
# Where in a step of the flow the velocity is asked for, in shares of the step. "midpoint" goes on with what it finds
# half way, "heun" with the mean of both ends: an error of second order for two evaluations a step.
SOLVERS: dict[str, tuple[float, ...]] = {EULER: (0.0,), "midpoint": (0.0, 0.5), "heun": (0.0, 1.0)}

# What the linear layers of the language model's blocks are kept in; the other two by the library named here.
STORED, INT8, NF4 = "stored", "int8", "nf4"
LANGUAGE_WEIGHTS = (STORED, INT8, NF4)
LIBRARY, LIBRARY_VERSIONS = "bitsandbytes", "bitsandbytes>=0.50,<0.51"
GROUP = 64    # numbers that share a scale, which is a float32
BYTES = {INT8: 1 + 4 / GROUP, NF4: 0.5 + 4 / GROUP}    # of a weight

# What stays in main memory, and is copied to the GPU as it is needed (offload.py).
NO_OFFLOAD, LANGUAGE = "none", "language"
OFFLOADS = (NO_OFFLOAD, LANGUAGE)

# Of the flow's noise. The expert was trained on noise of scale 1; far below that it is on ground that it does not know.
NOISE_SCALES = (0.3, 1.0)
NOISE_SCALE_HELP = (
    f"of the flow's noise, 1 as released, {NOISE_SCALES[0]:g} the least; the less, the nearer chunks lie to the middle "
    "of those that the model might do"
)

DRAFT_HELP = "adaptive depth generates by draft and verify: the same codes in fewer passes"
SOLVER_HELP = f"of the flow: {', '.join(SOLVERS)}; others than {EULER} move the actions: measure with bench-model"
LANGUAGE_WEIGHTS_HELP = (
    f"of the language model's blocks: {STORED}, or {INT8} or {NF4} (4 bits), which take less memory and move codes and "
    "actions: measure with bench-model"
)
OFFLOAD_HELP = (
    f"what stays in main memory and is copied as it is needed, for a small GPU: {NO_OFFLOAD}, or {LANGUAGE}, blocks of "
    "the language model; the same numbers, and slower"
)
OPTIMIZATIONS_HELP = (
    "optimisations other than the default, a,b,no_c: docs/performance.md lists them (default: none other)"
)


def check_library() -> None:
    """Errors: InputError where what keeps weights in few bits is not installed."""
    if find_spec(LIBRARY) is None:
        raise InputError(
            f"language_weights {INT8} and {NF4} need {LIBRARY}, which is not installed; "
            f"pip install '{LIBRARY_VERSIONS}', or use {STORED}"
        )


def check_kept(wanted: Optimizations, language_weights: str, offload: str) -> None:
    """Errors: InputError for what cannot be with how weights are kept."""
    if offload != NO_OFFLOAD:
        _check_offload(wanted, language_weights, offload)
    if wanted.graphs and language_weights != STORED:
        raise InputError(
            f"optimisation graphs with language_weights {language_weights}: no step over weights of few bits was ever "
            f"recorded; leave graphs out, or use {STORED}"
        )


def _check_offload(wanted: Optimizations, language_weights: str, offload: str) -> None:
    if language_weights != STORED:
        raise InputError(
            f"offload {offload} with language_weights {language_weights}: only stored weights are copied as they are "
            f"needed; use one of the two"
        )
    if wanted.graphs:
        raise InputError(f"optimisation graphs with offload {offload}: copies are not recorded; leave graphs out")
    if not wanted.fused_language:
        raise InputError(f"offload {offload} needs the optimisation fused_language; leave it on")


def check_noise_scale(scale: float, action_mode: str) -> None:
    """Errors: InputError."""
    least, most = NOISE_SCALES
    if not least <= scale <= most:
        raise InputError(f"noise_scale is {scale!r}, expected a number from {least:g} to {most:g}")
    if scale != 1 and action_mode == "discrete":
        raise InputError(f"noise_scale is {scale!r}, but discrete actions have no flow; use 1")


def evaluations(solver: str, steps: int) -> int:
    """How often so many steps of the flow ask the expert."""
    return steps * len(SOLVERS[solver])


@dataclass(frozen=True)
class EngineOptions:
    """What is not said of depth and actions elsewhere. By default everything is as released.

    draft: "adaptive" depth generates by draft and verify (Engine.verify_depth). solver: of the flow, one of SOLVERS.
    optimizations: what differs from the default, as Optimizations.read takes it. language_weights: one of
    LANGUAGE_WEIGHTS (quantized.py). offload: what stays in main memory, one of OFFLOADS (offload.py).
    """

    draft: bool = False
    solver: str = EULER
    optimizations: str = ""
    language_weights: str = STORED
    offload: str = NO_OFFLOAD

    @classmethod
    def of(cls, source: Any) -> EngineOptions:
        """From whatever has them by their names: parsed arguments, settings."""
        return cls(source.draft, source.solver, source.optimizations, source.language_weights, source.offload)

    def switches(self) -> Optimizations:
        """Errors: InputError for a name that is no optimisation."""
        return Optimizations.read(self.optimizations)

    def check_session(self, depth: str, action_mode: str) -> None:
        """Errors: InputError for what is not known, or would do nothing with these modes."""
        if self.solver not in SOLVERS:
            raise InputError(f"solver is {self.solver!r}, expected one of {list(SOLVERS)}")
        if self.solver != EULER and action_mode == "discrete":
            raise InputError(f"solver is {self.solver!r}, but discrete actions have no flow; use {EULER!r}")
        if self.draft and depth == "verified":
            raise InputError("draft is for depth='adaptive'; depth='verified' drafts by itself: leave draft out")
        if self.draft and depth != "adaptive":
            raise InputError(f"draft is for depth='adaptive', and depth is {depth!r}: there is nothing to draft with")

    def check(self, depth: str, action_mode: str, device: str) -> None:
        """Errors: InputError for what is not known, does not go together, or is not for this device."""
        self.check_session(depth, action_mode)
        self.check_device(device)

    def check_device(self, device: str) -> None:
        """Errors: InputError."""
        wanted = self.switches()
        for name in OF_GPUS:
            if getattr(wanted, name) and not device.startswith("cuda"):
                raise InputError(f"optimisation {name} is for a GPU, and the device is {device!r}; leave it out")
        if self.language_weights not in LANGUAGE_WEIGHTS:
            raise InputError(f"language_weights is {self.language_weights!r}, expected one of {list(LANGUAGE_WEIGHTS)}")
        if self.language_weights != STORED:
            check_library()
        if self.offload not in OFFLOADS:
            raise InputError(f"offload is {self.offload!r}, expected one of {list(OFFLOADS)}")
        if self.offload != NO_OFFLOAD and not device.startswith("cuda"):
            raise InputError(
                f"offload {self.offload} is for a GPU, and the device is {device!r}, which computes in main memory "
                "anyway; leave it out"
            )
        check_kept(wanted, self.language_weights, self.offload)
        for name, needed in NEEDS.items():
            if getattr(wanted, name) and not all(getattr(wanted, other) for other in needed):
                them = "them" if len(needed) > 1 else "it"
                raise InputError(f"optimisation {name} needs {' and '.join(needed)}; leave {them} on")
        if wanted.compiled and wanted.graphs:
            raise InputError("optimisation compiled with graphs, which records the flow without it; leave one out")


def add_noise_scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--noise-scale", type=float, default=1.0, metavar="SCALE", help=NOISE_SCALE_HELP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a command, for EngineOptions.of."""
    parser.add_argument("--draft", action="store_true", help=DRAFT_HELP)
    parser.add_argument("--solver", choices=list(SOLVERS), default=EULER, help=SOLVER_HELP)
    parser.add_argument("--optimizations", metavar="NAME,NAME", default="", help=OPTIMIZATIONS_HELP)
    parser.add_argument("--language-weights", choices=LANGUAGE_WEIGHTS, default=STORED, help=LANGUAGE_WEIGHTS_HELP)
    parser.add_argument("--offload", choices=OFFLOADS, default=NO_OFFLOAD, help=OFFLOAD_HELP)
