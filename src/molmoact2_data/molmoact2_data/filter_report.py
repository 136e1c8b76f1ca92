# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which rules with which thresholds, as a person asks for them, and what they removed, as a person is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .filtering import UNREADABLE, UNREADABLE_WHY, Finding, Result
from .inspection import table
from .layout import DatasetError
from .rules import RULES, Rule, thresholds

FORMAT = "molmoact2_filter_report.v1"
SHOWN = 3    # examples of each rule


def load_rules(path: Path) -> dict[str, Any]:
    """A YAML file: rule: false, true or a table of thresholds. Errors: DatasetError."""
    try:
        content = yaml.safe_load(path.read_text("utf8"))
    except (OSError, yaml.YAMLError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds no table of rules")
    return content


def chosen_rules(wanted: Mapping[str, Any]) -> list[Rule]:
    """wanted: rule -> False, True or a table of thresholds; rules that it does not name are on, with their own.
    Errors: DatasetError for a rule or threshold that there is not, and for values that cannot be."""
    for name in wanted:
        if name not in RULES:
            raise DatasetError(f"there is no rule {name!r}; there are: {', '.join(RULES)}")
    rules = []
    for name, kind in RULES.items():
        how = wanted.get(name, True)
        if how is False:
            continue
        if how is not True and not isinstance(how, dict):
            raise DatasetError(f"rule {name} is {how!r}, expected true, false or a table of thresholds")
        rules.append(kind(**_checked(name, kind, how if isinstance(how, dict) else {})))
    return rules


def _checked(name: str, kind: type[Rule], given: Mapping[str, Any]) -> dict[str, float]:
    known = thresholds(kind)
    for key, value in given.items():
        if key not in known:
            raise DatasetError(f"rule {name} has no {key!r}; it has: {', '.join(known)}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            raise DatasetError(f"{name}.{key} is {value!r}, expected a number above 0")
    return dict(given)


def about(rules: Sequence[Rule]) -> dict[str, dict[str, Any]]:
    """The rules that are on: why, and thresholds."""
    return {rule.name: {"why": rule.why, **thresholds(rule)} for rule in rules}


def report(results: Sequence[Result], rules: Sequence[Rule]) -> dict[str, Any]:
    """For a JSON file: everything that was found."""
    return {"format": FORMAT, "rules": about(rules), "data": [_of(result) for result in results]}


def _of(result: Result) -> dict[str, Any]:
    by_rule: dict[str, list[Finding]] = {}
    for finding in result.findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    episodes = result.dataset.episodes
    return {
        "data": str(result.dataset.root),
        "episodes": len(episodes),
        "frames": sum(episode.length for episode in episodes),
        "kept_episodes": len({part.episode.index for part in result.parts}),
        "kept_parts": len(result.parts),
        "kept_frames": result.frames,
        "not_asked": result.off,
        "removed": {
            rule: {
                "episodes": len({finding.episode for finding in found}),
                "frames": sum(finding.end - finding.first for finding in found),
                "cuts": sum(finding.end == finding.first for finding in found),
                "findings": [
                    {"episode": f.episode, "first": f.first, "end": f.end, "why": f.why} for f in found
                ],
            }
            for rule, found in sorted(by_rule.items())
        },
    }


def told(content: Mapping[str, Any]) -> str:
    """A report for a person."""
    blocks = []
    reasons = {name: rule["why"] for name, rule in content["rules"].items()} | {UNREADABLE: UNREADABLE_WHY}
    for one in content["data"]:
        kept, frames = one["kept_frames"], one["frames"]
        rows = [["rule", "episodes", "frames", "cuts", "why"]]
        examples = []
        for rule, found in one["removed"].items():
            numbers = [str(found[key]) for key in ("episodes", "frames", "cuts")]
            rows.append([rule, *numbers, reasons[rule]])
            for first in found["findings"][:SHOWN]:
                where = f"episode {first['episode']}, frames {first['first']} to {first['end'] - 1}"
                if first["first"] == first["end"]:
                    where = f"episode {first['episode']}, cut before frame {first['first']}"
                examples.append(f"  {rule}: {where}: {first['why']}")
        head = (
            f"{one['data']}: {kept} of {frames} frames kept ({kept / frames:.1%}), {one['kept_episodes']} of "
            f"{one['episodes']} episodes, in {one['kept_parts']} parts"
        )
        off = [f"  {rule} was not asked: {why}" for rule, why in one["not_asked"].items()]
        lines = [table(rows), *examples] if one["removed"] else ["  nothing to remove"]
        blocks.append("\n".join([head, *lines, *off]))
    return "\n\n".join(blocks)
