# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a state says of the run that it is of, and whether that run may go on with the recipe as it is now."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .recipe import Recipe, Start

RECIPE, PROCESSES, FILES, AMOUNTS = "recipe", "processes", "files", "amounts"
# More steps, more data and other files of results are the same run, longer. All else would make it one that no recipe
# describes.
MAY_CHANGE = ("description", "data", "run.steps", "run.save_every", "run.sample_every", "run.saved")
LONGEST = 60    # characters of a value that is told
UNKNOWN = (
    "{} is of an earlier version and does not say what files it was begun with ({}). It goes on with those that the "
    "recipe names now"
)


def described(
    recipe: Recipe, processes: int, files: Mapping[str, str], amounts: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What is kept beside the weights. files: digests.digests; amounts: digests.amounts."""
    kept = {RECIPE: json.dumps(dataclasses.asdict(recipe)), PROCESSES: str(processes)}
    return kept | {FILES: json.dumps(dict(files)), AMOUNTS: json.dumps(dict(amounts or {}))}


def other_amounts(kept: Mapping[str, str], amounts: Mapping[str, str]) -> list[str]:
    """Data sets at the same paths that are more or less now than when the state was saved, in words."""
    were = json.loads(kept.get(AMOUNTS, "{}"))
    return [
        f"goes on with a change: {path} has {now}, and had {were[path]}: its frames are drawn in another order"
        for path, now in amounts.items() if were.get(path, now) != now
    ]


def check_same_run(
    state: Path, kept: Mapping[str, str], recipe: Recipe, processes: int, files: Mapping[str, str],
    accept_changes: bool,
) -> list[str]:
    """kept: of `described`, when the state was saved; files: as they are now. Returns what whoever goes on should know,
    a line for each. Errors: InputError that names what differs and may not."""
    if RECIPE not in kept or PROCESSES not in kept:
        return [
            f"{state} is of an earlier version and keeps no recipe: whether the run was begun with this seed, batch, "
            "optimizer, start, files and number of processes is not known. It goes on with what the recipe says now"
        ]
    before, now = _flat(_plain(_NOTHING)) | _flat(json.loads(kept[RECIPE])), _flat(_plain(recipe))
    changed = {name: (before.get(name), value) for name, value in now.items() if before.get(name) != value}
    free = {name: values for name, values in changed.items() if name in MAY_CHANGE}
    others = {name: values for name, values in changed.items() if name not in MAY_CHANGE}
    others |= _other_units(before["data"], now["data"])
    if int(kept[PROCESSES]) != processes:
        others["the number of processes"] = int(kept[PROCESSES]), processes
    said = [_told(name, *values) for name, values in others.items()]
    were = json.loads(kept.get(FILES, "{}"))
    other = [f"the {name} has changed since" for name, one in files.items() if were.get(name, one) != one]
    if (said or other) and not accept_changes:
        raise InputError(
            f"{state} is of another recipe{' or other files' if other else ''}: {'; '.join([*said, *other])}. "
            "Go on with what the run was begun with, begin again with another --out, or say --accept-changes"
        )
    told = [_told(name, *values) for name, values in free.items()] + said + other
    unknown = ", ".join(name for name in files if name not in were)
    return [f"goes on with a change: {one}" for one in told] + ([UNKNOWN.format(state, unknown)] if unknown else [])


_NOTHING = Recipe("", "", Start(), "", (), ())    # what a recipe is where it says nothing


def _plain(recipe: Recipe) -> dict[str, Any]:
    """As JSON has it: lists in the place of tuples."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """By the names that `--set` takes, as far as the sections' own keys."""
    sections = {f.name for f in dataclasses.fields(Recipe) if dataclasses.is_dataclass(getattr(_NOTHING, f.name))}
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if name in sections else {name: value}
    return flat


def _other_units(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Of data sets that the run has learnt from: their numbers would mean something else."""
    known = {data["path"]: data["units"] for data in before}
    return {
        f"the units of {data['path']}": (known[data["path"]], data["units"])
        for data in now if known.get(data["path"], data["units"]) != data["units"]
    }    # fmt: skip


def _told(name: str, before: Any, now: Any) -> str:
    if name == "data":
        before, now = (", ".join(map(_named, those)) or "nothing" for those in (before, now))
        return f"data is {now}, was {before}"
    return f"{name} is {_short(now)}, was {_short(before)}"


def _named(data: Mapping[str, Any]) -> str:
    episodes = f", episodes {data['episodes']}" if data["episodes"] else ""
    return f"{data['path']} (weight {data['weight']:g}{episodes})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
