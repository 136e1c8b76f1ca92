# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a replay found, counted: how much was made again, what was equal, what was not, and what could not be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .equality import INPUTS, RESULTS
from .rerun import Result

MOST_LISTED = 1000    # of inferences that are named one by one; all are counted


@dataclass
class Tally:
    """Counts.

    inputs_unpromised, unpromised: why the model's inputs, and why its results, need not equal the recorded ones; empty
    where they must.
    """

    inputs_unpromised: list[str]
    unpromised: list[str]
    traces: int = 0
    repeated: int = 0
    compared: int = 0
    equal: Counter[str] = field(default_factory=Counter)
    unequal: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    mismatches: list[dict[str, Any]] = field(default_factory=list)    # where equality is promised
    broken: int = 0                                                   # inferences with a mismatch
    not_repeated: list[dict[str, Any]] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)                    # of the bag

    def add(self, result: Result) -> None:
        self.traces += 1
        if result.why_not:
            if len(self.not_repeated) < MOST_LISTED:
                self.not_repeated.append({"trace": result.name, "why": result.why_not})
            return
        self.repeated += 1
        if result.equality is None:
            return
        self.compared += 1
        for name, equal in result.equality.parts.items():
            {True: self.equal, False: self.unequal, None: self.unknown}[equal][name] += 1
        promised = (() if self.inputs_unpromised else INPUTS) + (() if self.unpromised else RESULTS)
        broken = result.equality.unequal(promised)
        if broken:
            self.broken += 1
            if len(self.mismatches) < MOST_LISTED:
                self.mismatches.append({"trace": result.name, "unequal": broken})

    def as_figures(self) -> dict[str, Any]:
        parts = {
            name: {"equal": self.equal[name], "unequal": self.unequal[name], "not_recorded": self.unknown[name]}
            for name in (*INPUTS, *RESULTS)
        }
        return {
            "the_bag_lacks": self.lacks,
            "traces": self.traces,
            "repeated": self.repeated,
            "equality": parts,
            "equality_of_inputs_promised": not self.inputs_unpromised,
            "equality_of_results_promised": not self.unpromised,
            "because_not": self.unpromised,
            "mismatches": {"inferences": self.broken, "listed": self.mismatches},
            "not_repeated": {"inferences": self.traces - self.repeated, "listed": self.not_repeated},
        }

    def headline(self) -> list[str]:
        if not self.compared and self.repeated:
            lines = [f"{self.repeated} inferences over the images of the bag; nothing was recorded to compare with"]
        else:
            lines = [f"{self.repeated} of {self.traces} recorded inferences were made again"]
        if self.compared and self.unpromised:
            lines.append(f"equality of codes and actions is not promised: {'; '.join(self.unpromised)}")
        for name in (*INPUTS, *RESULTS):
            known = self.equal[name] + self.unequal[name]
            if self.unequal[name]:
                lines.append(f"{name}: {self.unequal[name]} of {known} differ")
        if self.compared and not self.unequal:
            without = f"; {self.unknown['actions']} without a chunk to compare" if self.unknown["actions"] else ""
            lines.append(f"inputs, codes and actions are equal, bit by bit{without}")
        lines += [f"NOT EQUAL in {m['trace']}: {', '.join(m['unequal'])}" for m in self.mismatches[:10]]
        if self.broken > 10:
            lines.append(f"... and {self.broken - 10} more, see summary.json")
        lines += [f"not made: {m['trace']}: {m['why']}" for m in self.not_repeated[:10]]
        if self.traces - self.repeated > 10:
            lines.append(f"... and {self.traces - self.repeated - 10} more, see summary.json")
        return lines + [f"the bag: {text}" for text in self.lacks]
