# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A bag in, its inferences made again, a folder out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..backend import InProcessBackend
from ..bags.bag import Bag, BagError
from .configured import Configured, Wanted, choose, read_configured, unpromised
from .embodied import Embodied, embody
from .output import NewBag
from .recorded import CHUNKS, TRACES, Recorded, read_needs, read_recorded
from .rerun import RecordedClock, Repeated, Rerun
from .tally import Tally

DECIDE_INPUTS = ("contract", "norm_tag")    # settings on which the model's inputs depend


@dataclass(frozen=True)
class Options:
    """given: settings instead of the recorded ones, by name. topics, joints: as in embodied.embody. progress: show a bar
    on stderr."""

    given: Mapping[str, Any] = field(default_factory=dict)
    topics: Mapping[str, str] = field(default_factory=dict)
    joints: Mapping[str, str] = field(default_factory=dict)
    progress: bool = False


def replay(path: Path, out: Path, options: Options) -> Tally:
    """Makes the recorded inferences of a bag again, and writes out/bag and out/summary.json.

    Errors: BagError, BackendError, ContractError.
    """
    with Bag(path) as bag:
        configured = read_configured(bag)
        recorded = configured[0] if configured else None
        wanted = choose(bag, recorded, options.given)
        robot = embody(bag, wanted.contract, wanted.tag, options.topics, options.joints)
        needs = read_needs(bag)
        if not needs.traces:
            raise BagError(f"bag {path} holds no reasoning traces; run over its images with --fresh")
        clock = RecordedClock()
        backend = InProcessBackend(wanted.settings, robot.contract, clock)
        backend.load()
        facts = backend.facts()
        tally = Tally(*_promises(recorded, wanted, facts, robot))
        rerun = Rerun(robot, wanted.tag, backend, clock, follows=wanted.settings.depth == "adaptive")
        began, spent = time.perf_counter(), 0.0
        with NewBag(out / "bag", bag) as new:
            inferences = read_recorded(bag, needs, robot.topics)
            for one in _shown(inferences, needs.traces, options.progress):
                result = rerun.repeat(one, _configured_anew(configured, one))
                spent += result.seconds
                tally.add(result)
                _write(new, result)
        elapsed = time.perf_counter() - began
        backend.close()
    figures = {
        "bag": str(path),
        "settings": {"contract": str(wanted.contract.path), **facts},
        **tally.as_figures(),
        "seconds": {"replay": round(elapsed, 3), "in_the_model": round(spent, 3)},
    }
    (out / "summary.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return tally


def _promises(
    recorded: Configured | None, wanted: Wanted, facts: Mapping[str, str], robot: Embodied
) -> tuple[list[str], list[str]]:
    """Why the model's inputs, and why its results, need not be equal to the recorded ones; empty where they must be."""
    inputs = [f"{name} was {old} and is {new}" for name, (old, new) in wanted.changed.items() if name in DECIDE_INPUTS]
    inputs += [f"the images of camera {name!r} were recorded with loss" for name in robot.lossy]
    return inputs, inputs + [reason for reason in unpromised(recorded, wanted, facts) if reason not in inputs]


def _shown(inferences: Iterator[Recorded], total: int, progress: bool) -> Iterator[Recorded]:
    yield from tqdm(inferences, total=total, desc="replay", unit="inference", disable=not progress)


def _configured_anew(configured: list[Configured], one: Recorded) -> str:
    """Why an inference is not of the policy that is replayed; empty where it is."""
    then = [c for c in configured if c.since_ns <= one.receive_ns] or configured[:1]
    differing = then[-1].differing(configured[0].facts) if then else []
    return f"the policy was configured anew before it, with another {', '.join(differing)}" if differing else ""


def _write(new: NewBag, result: Repeated) -> None:
    recorded = result.recorded
    for topic, old, made in (
        (CHUNKS, recorded.chunk, result.chunk if not recorded.trace.withheld else None),
        (TRACES, recorded.trace, result.trace),
    ):
        if old is not None:
            new.keep(topic, old, recorded.receive_ns)
        if made is not None:
            new.add(topic, made, recorded.receive_ns)
