# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the engine does to be fast, one switch each. None changes the function: in float32 tokens and codes are the same
and actions agree to 1e-5 (test_optimizations.py); only sums are taken in another order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from .errors import InputError

# In which order sums are taken by default: another word when that changes, so that a replay does not promise the bits
# of a recording by an engine that took them otherwise.
ARITHMETIC = "fused 2"
OF_GPUS = ("unwatched", "graphs")    # those that are of use on a GPU alone
NEEDS = {"graphs": ("fused_language", "joined_passes"), "compiled": ("fused_expert",)}    # else they are refused
OFF = "no_"    # before the name of one to switch off


@dataclass(frozen=True)
class Optimizations:
    """Which of them are on. `molmoact2 bench-model --each` measures each; docs/performance.md has what was measured.

    reuse: images and the part of a prompt that repeat are not read again; frames all or none.
    reuse_cameras: the features of each camera whose frame repeats byte for byte; cameras are then looked at one by one,
    so that a result does not depend on how many of them were new.
    fixed_cache: keys and values are kept in buffers that are allocated once, not joined anew at each step.
    keep_modulations: what depends on the flow time alone is computed once per number of steps.
    fused_language, fused_expert: the blocks of the language model and of the expert as few large operations.
    joined_passes: tokens that are known or likely before they are asked for (reused depth codes, the end of the codes)
    are read in the same pass as the last one generated.
    unwatched: on a GPU the end of a stage is not waited for, so the seconds of a trace's stages are those of the
    program and not of the device; the total remains true. Copies within a stage are still waited for.
    graphs: on a GPU, prompts, depth codes and flows are computed by recorded graphs. Untried on any; needs
    fused_language, and for flows fused_expert.
    compiled: the expert is computed as torch.compile makes it; needs fused_expert.
    """

    reuse: bool = True
    reuse_cameras: bool = False
    fixed_cache: bool = True
    keep_modulations: bool = True
    fused_language: bool = True
    fused_expert: bool = True
    joined_passes: bool = True
    unwatched: bool = False
    graphs: bool = False
    compiled: bool = False

    @classmethod
    def only(cls, names: Iterable[str]) -> Optimizations:
        """Those that are named. Errors: InputError for a name that is none."""
        known, wanted = cls.names(), set(names)
        for name in wanted - set(known):
            raise InputError(f"{name!r} is no optimisation, expected one of {', '.join(known)}")
        return cls(**{name: name in wanted for name in known})

    @classmethod
    def read(cls, text: str) -> Optimizations:
        """The default but for those named: "reuse_cameras,no_joined_passes". Errors: InputError."""
        wanted: dict[str, bool] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name = part.removeprefix(OFF)
            if name not in cls.names():
                known = ", ".join(cls.names())
                raise InputError(f"{name!r} is no optimisation, expected some of {known}; {OFF}NAME switches one off")
            if wanted.setdefault(name, part == name) != (part == name):
                raise InputError(f"optimisations {text!r} switch {name} both on and off")
        return cls(**wanted)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    def text(self) -> str:
        """What `read` makes the same of; empty for the default."""
        usual = type(self)()
        differing = [name for name in self.names() if getattr(self, name) != getattr(usual, name)]
        return ",".join(name if getattr(self, name) else OFF + name for name in differing)

    def without(self, name: str) -> Optimizations:
        """One of them switched off, and those that need it."""
        gone = [name, *(other for other, needed in NEEDS.items() if name in needed)]
        return replace(self, **dict.fromkeys(gone, False))

    def on(self) -> tuple[str, ...]:
        """The names of those that are on."""
        return tuple(name for name in self.names() if getattr(self, name))


PLAIN = Optimizations.only(())
# For a network whose weights others hold, too (one that is being trained): nothing that rearranges them.
SHARED = Optimizations(fused_language=False, fused_expert=False)
