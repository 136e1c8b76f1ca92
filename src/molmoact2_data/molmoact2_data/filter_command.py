# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What `molmoact2 data filter` does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .filter_report import about, chosen_rules, load_rules, report, told
from .filtering import Result, judge
from .keep import KEEP, write_keep
from .layout import INFO, DatasetError
from .reader import Dataset
from .rules import RULES, Rule
from .tables import write_json

REPORT, REPORT_TEXT = "meta/filter_report.json", "meta/filter_report.txt"


def run(args: argparse.Namespace, progress: Callable[[], object]) -> str:
    """What to print. Errors: DatasetError."""
    rules = chosen_rules(_wanted(args))
    datasets = [Dataset(root) for root in args.data]
    places = _places(args)
    for place, dataset in zip(places, datasets, strict=True):
        _check_place(place, dataset, args)
    results = [judge(dataset, rules, progress) for dataset in datasets]
    for result in results:
        if not result.frames:
            why = told(report([result], rules))
            raise DatasetError(f"nothing of {result.dataset.root} is kept; nothing is written\n{why}")
    content = report(results, rules)
    for place, result in zip(places, results, strict=True):
        _write(place, result, rules, args.write)
    notes = [_left_out(result) for result in results if args.write]
    return "\n".join([told(content), "", *filter(None, notes), *map(str, places)])


def _left_out(result: Result) -> str:
    from .rewrite import unwritten

    names = ", ".join(unwritten(result.dataset))
    return names and f"not written of {result.dataset.root}: {names} (the list, without --write, keeps them)"


def _wanted(args: argparse.Namespace) -> dict[str, Any]:
    """Rules and thresholds as the options have them, which go before the file's."""
    wanted = load_rules(args.rules) if args.rules else {}
    for name in [*args.off, *args.only]:
        if name not in RULES:
            raise DatasetError(f"there is no rule {name!r}; there are: {', '.join(RULES)}")
    if args.only:
        wanted = {name: wanted.get(name) or True if name in args.only else False for name in RULES}
    wanted |= dict.fromkeys(args.off, False)
    for change in args.changes:
        name, equals, value = change.partition("=")
        rule, dot, key = name.partition(".")
        if not equals or not dot:
            raise DatasetError(f"--set {change}: expected RULE.NAME=VALUE, e.g. idle.seconds=3")
        if wanted.get(rule) is False:
            raise DatasetError(f"--set {change}: rule {rule} is off")
        earlier = wanted.get(rule)
        try:
            given = yaml.safe_load(value)
        except yaml.YAMLError:
            raise DatasetError(f"--set {change}: {value!r} is no value in YAML") from None
        wanted[rule] = (earlier if isinstance(earlier, dict) else {}) | {key: given}
    return wanted


def _places(args: argparse.Namespace) -> list[Path]:
    if len(args.data) == 1:
        return [args.out]
    places = [args.out / root.resolve().name for root in args.data]
    for place in places:
        if places.count(place) > 1:
            raise DatasetError(f"two data sets are named {place.name}; filter them one by one, each to its own --out")
    return places


def _check_place(place: Path, dataset: Dataset, args: argparse.Namespace) -> None:
    own = place.resolve() == dataset.root.resolve()
    if args.write and place.exists():
        raise DatasetError(f"{place} exists already; remove it or choose another --out")
    if not own and (place / INFO).exists():
        raise DatasetError(f"{place} is another data set; choose another --out")
    if (place / KEEP).exists() and not args.force:
        raise DatasetError(f"{place / KEEP} exists already; replace it with --force, or choose another --out")


def _write(place: Path, result: Result, rules: list[Rule], write: bool) -> None:
    content = report([result], rules)
    if write:
        from .rewrite import rewrite

        rewrite(result.dataset, result.parts, place)
    else:
        asked = [rule for rule in rules if rule.name not in result.off]
        write_keep(place, result.dataset, result.parts, about(asked))
    write_json(place / REPORT, content)
    text = "\n".join(filter(None, [told(content), _left_out(result) if write else ""]))
    (place / REPORT_TEXT).write_text(text + "\n", "utf8")
