# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What `--each` leaves out, row by row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..optimizations import Optimizations
from .scenes import Load


@dataclass(frozen=True)
class Kind:
    """How a row's engine computes."""

    optimizations: Optimizations
    draft: bool = False


class Each:
    """Rows without one thing that is on, under the loads in which that does anything.

    A row is named for all that it is without. What does nothing in a benchmark has no row: `idle` says so, in words.
    """

    def __init__(self, ours: Kind, fused: bool, needed: tuple[str, ...] = ()):
        """fused: whether the language model is of the kind that is fused; needed: what cannot be left out."""
        self._ours, self.idle = ours, list[str]()
        self._names = [name for name in ours.optimizations.on() if name not in needed]
        self._leave_out("reuse", "no frame of a benchmark repeats")
        if fused and ours.optimizations.fused_language:
            self._leave_out("fixed_cache", "fused_language has buffers of its own; leave that out to measure it")

    def _leave_out(self, name: str, why: str) -> None:
        if name in self._names:
            self._names.remove(name)
            self.idle.append(f"--each: no row without {name}: {why}")

    def rows(self, load: Load) -> list[tuple[str, Kind]]:
        """By name."""
        on = self._ours.optimizations
        found = []
        for name in self._names:
            if name == "joined_passes" and load.depth == "off":    # no codes, so no passes
                continue
            fewer = on.without(name)
            gone = [name, *(other for other in on.on() if other != name and not getattr(fewer, other))]
            if name == "fused_expert" and fewer.graphs:
                gone.append("graphs of flows")    # which are of the fused expert alone
            found.append((f"without {', '.join(gone)}", replace(self._ours, optimizations=fewer)))
        if self._ours.draft and load.depth == "adaptive":
            found.append(("without draft", replace(self._ours, draft=False)))
        return found
