# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of an evaluation: what was asked, and each attempt as it ends, so that what stands is never lost and the
same command goes on where it was cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from molmoact2_model.training.saving import LOCK, alone

from .attempts import Attempt

ASKED, ATTEMPTS = "asked.json", "attempts.jsonl"
LATER = ("contract", "remapped topics")    # which an evaluation of an earlier version did not keep


def write_whole(path: Path, content: bytes) -> None:
    """The file is the earlier one or this one, whenever it is cut."""
    part = path.with_name(f"{path.name}.partial")
    part.write_bytes(content)
    os.replace(part, path)


@contextmanager
def opened(out: Path, asked: Mapping[str, Any]) -> Iterator[Folder]:
    """A folder in which nobody else writes meanwhile. Errors: as of Folder; InputError while another evaluation does,
    and nothing of it is touched."""
    if out.is_dir() and not (out / ASKED).is_file() and [path.name for path in out.iterdir()] != [LOCK]:
        raise ValueError(f"--out {out} exists already and is no evaluation's; remove it or choose another folder")
    with alone(out):
        yield Folder(out, asked)


class Folder:
    """Open it by `opened`. asked: by name what decides the results, as JSON can hold it. Errors: ValueError for one
    with the attempts of another evaluation, which names what differs."""

    def __init__(self, out: Path, asked: Mapping[str, Any]):
        self.out, self._asked = out, json.loads(json.dumps(asked))
        self._attempts: dict[str, dict[int, Attempt]] = {}
        if (out / ASKED).is_file():
            self._read()
        out.mkdir(parents=True, exist_ok=True)
        self._keep_asked()

    def _keep_asked(self) -> None:
        """Where it is new."""
        path, new = self.out / ASKED, (json.dumps(self._asked, indent=1) + "\n").encode()
        if not path.is_file() or path.read_bytes() != new:
            write_whole(path, new)

    def _read(self) -> None:
        path = self.out / ATTEMPTS
        whole, newline, cut = (path.read_bytes() if path.is_file() else b"").rpartition(b"\n")
        if not whole:    # nothing stands, so that nothing can be mixed up
            path.unlink(missing_ok=True)
            return
        try:
            before = dict(json.loads((self.out / ASKED).read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.out / ASKED} cannot be read ({error}), and it alone says what the attempts beside it are of; "
                "choose another folder"
            ) from None
        for name in {**before, **self._asked}:
            if name in LATER and name not in before:
                continue
            if before.get(name) != self._asked.get(name):
                raise ValueError(
                    f"--out {self.out} holds an evaluation with another {name}: {before.get(name)!r}, and now it is "
                    f"{self._asked.get(name)!r}; give the same, or choose another folder"
                )
        if cut:
            write_whole(path, whole + newline)
        for line in whole.decode("utf-8").splitlines():
            told = json.loads(line)
            self._of(told["condition"], told["mode"])[told["attempt"]["seed"]] = Attempt.of(told["attempt"])

    def _of(self, condition: Mapping[str, Any], mode: str) -> dict[int, Attempt]:
        return self._attempts.setdefault(json.dumps([condition, mode], sort_keys=True), {})

    def attempts(self, condition: Any, mode: str) -> dict[int, Attempt]:
        """By seed, what stands of a condition (a dataclass)."""
        return self._of(asdict(condition), mode)

    def add(self, condition: Any, mode: str, attempt: Attempt) -> None:
        """Writes an attempt down."""
        told = {"condition": asdict(condition), "mode": mode, "attempt": attempt.facts}
        with (self.out / ATTEMPTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")
        self.attempts(condition, mode)[attempt.seed] = attempt
