# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One line of the check: what was looked at, how it is, what was found, and the mend. No ROS here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

PASS, WARN, FAIL, SKIP = "pass", "warn", "fail", "skip"
OUTCOMES = (PASS, WARN, FAIL, SKIP)
NAME_WIDTH = 26


@dataclass(frozen=True)
class Line:
    """name: what was looked at; outcome: one of OUTCOMES; text: what was found; mend: what to do, empty where nothing
    is to be done."""

    name: str
    outcome: str
    text: str
    mend: str = ""

    def __str__(self) -> str:
        mend = f"  -> {self.mend}" if self.mend else ""
        return f"{self.outcome}  {self.name:{NAME_WIDTH}}  {self.text}{mend}"


def passed(name: str, text: str) -> Line:
    return Line(name, PASS, text)


def warned(name: str, text: str, mend: str) -> Line:
    """Goes, but not as it should."""
    return Line(name, WARN, text, mend)


def failed(name: str, text: str, mend: str) -> Line:
    """The robot must not be run so, or cannot be."""
    return Line(name, FAIL, text, mend)


def skipped(name: str, text: str) -> Line:
    """Was not looked at; the text says why."""
    return Line(name, SKIP, text)


def summary(lines: Iterable[Line]) -> str:
    counts = Counter(line.outcome for line in lines)
    words = {PASS: "passed", WARN: "to be looked at", FAIL: "failed", SKIP: "not looked at"}
    return ", ".join(f"{counts[outcome]} {words[outcome]}" for outcome in OUTCOMES)
