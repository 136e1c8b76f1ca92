# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Tries what is left to try of an evaluation, and reports what stands, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from mujoco_driver.tabletop import Tabletop

from ..running import Stopped
from .attempts import Attempt
from .folder import Folder
from .report import Found, write_results

MOST = 10**12    # each inference's seed is made of it


@dataclass(frozen=True)
class Trial:
    """One condition (a dataclass) in one mode. bench: opens what gives the attempt at a seed."""

    condition: Any
    mode: str
    bench: Callable[[], AbstractContextManager[Callable[[int], Attempt]]]


def scenes(text: str) -> range:
    """Seeds of "FIRST:END". Errors: ValueError."""
    begin, colon, end = text.partition(":")
    if not (colon and begin.isdigit() and end.isdigit() and int(begin) < int(end)):
        raise ValueError(f"--scenes is {text!r}, expected FIRST:END, e.g. 80000:80100")
    if int(end) > MOST:
        raise ValueError(f"--scenes is {text!r}; seeds of scenes go up to {MOST}")
    return range(int(begin), int(end))


def try_all(
    folder: Folder, trials: Sequence[Trial], seeds: range, facts: Mapping[str, Any], table: Tabletop | None
) -> bool:
    """Returns whether Ctrl-C cut it short. facts, table: of the report. Errors: those of the benches, after what stands
    has been reported."""
    try:
        _try(folder, trials, seeds)
    except (KeyboardInterrupt, Stopped):
        return True
    finally:
        _report(folder, trials, seeds, facts, table)
    return False


def _try(folder: Folder, trials: Sequence[Trial], seeds: range) -> None:
    stand = sum(seed in folder.attempts(trial.condition, trial.mode) for trial in trials for seed in seeds)
    total = len(trials) * len(seeds)
    with tqdm(total=total, initial=stand, unit="scene", disable=not sys.stderr.isatty()) as bar:
        for trial in trials:
            stands = folder.attempts(trial.condition, trial.mode)
            left = [seed for seed in seeds if seed not in stands]
            if left:
                with trial.bench() as attempt:
                    for seed in left:
                        folder.add(trial.condition, trial.mode, attempt(seed))
                        bar.update()
            tqdm.write(_line(Found(trial.condition, trial.mode, list(stands.values())).summary))


def _report(
    folder: Folder, trials: Sequence[Trial], seeds: range, facts: Mapping[str, Any], table: Tabletop | None
) -> None:
    found = []
    for trial in trials:
        stands = folder.attempts(trial.condition, trial.mode)
        found.append(Found(trial.condition, trial.mode, [stands[seed] for seed in seeds if seed in stands]))
    stand, total = sum(len(one.attempts) for one in found), len(trials) * len(seeds)
    if not stand:
        return
    more = {"attempts": str(stand) if stand == total else f"{stand} of {total}; the same command tries the others"}
    write_results(folder.out, {**facts, **more}, [one for one in found if one.attempts], table)
    print(f"\n{folder.out / 'report.html'}")


def _line(found: Mapping[str, Any]) -> str:
    low, high = (100 * bound for bound in found["interval"])
    reasons = "; ".join(f"{count} {reason}" for reason, count in found["failures"].items())
    line = f"{found['condition']} ({found['mode']}): {found['successes']}/{found['n']} ({low:.0f}-{high:.0f} %)"
    return line + (f"; failed: {reasons}" if reasons else "")
