# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The report: each line as it is found on the terminal, all of them in check.md and check.json. No ROS here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from .line import FAIL, Line, summary


class Interrupted(Exception):
    """Ctrl-C; everything that was started has been ended."""


class Report:
    """folder: exists; system: name of what is checked."""

    def __init__(self, folder: Path, system: str):
        self._folder, self._system = folder, system
        self.lines: list[Line] = []

    def add(self, lines: Line | Iterable[Line]) -> None:
        for line in [lines] if isinstance(lines, Line) else lines:
            self.lines.append(line)
            print(line, flush=True)

    @property
    def failed(self) -> bool:
        return any(line.outcome == FAIL for line in self.lines)

    def write(self) -> str:
        """Writes both files; returns the summary."""
        at, words = datetime.now(timezone.utc).isoformat(timespec="seconds"), summary(self.lines)
        content = {"system": self._system, "at": at, "failed": self.failed, "lines": [asdict(x) for x in self.lines]}
        (self._folder / "check.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        rows = ["| | what | found | mend |", "|---|---|---|---|", *map(_row, self.lines)]
        head = f"# Check of {self._system}\n\n{at}: {words}.\n\n"
        (self._folder / "check.md").write_text(head + "\n".join(rows) + "\n")
        return words


def _row(line: Line) -> str:
    cells = (f"**{line.outcome}**" if line.outcome == FAIL else line.outcome, line.name, line.text, line.mend)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
