# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A bag in, inferences over it, a new bag and figures out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..backend import InProcessBackend
from ..bags.bag import Bag, BagError, stamp_ns
from ..report.run import CHUNKS, POLICY, TRACES
from .configured import Configured, Wanted, choose, read_configured, unpromised
from .embodied import Embodied, embody
from .figures import RunFigures
from .fresh import Fresh, Timing, read_sets
from .open_loop import Measured, OpenLoop
from .output import NewBag
from .recorded import Recorded, read_needs, read_recorded
from .rerun import RecordedClock, Rerun, Result
from .tally import Tally

DECIDE_INPUTS = ("contract", "norm_tag")    # settings on which the model's inputs depend
TRACED, FRESH, REALTIME = "traced", "fresh", "realtime"


@dataclass(frozen=True)
class Options:
    """How to replay.

    given: settings instead of the recorded ones, by name. topics, joints: as in embodied.embody. mode: TRACED makes the
    recorded inferences again; FRESH takes every set of images; REALTIME takes those that the live node would have
    taken. latency [s]: of REALTIME; None: as recorded, else as long as each takes now. instruction: empty: as recorded.
    seed: of FRESH and REALTIME. progress: show a bar on stderr.
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    topics: Mapping[str, str] = field(default_factory=dict)
    joints: Mapping[str, str] = field(default_factory=dict)
    mode: str = TRACED
    latency: float | None = None
    instruction: str = ""
    seed: int = 0
    progress: bool = False


@dataclass
class Replayed:
    """What a replay gave. recorded: the figures of the recorded run; None where no inference was recorded.

    facts: settings of the new run; recorded_facts: of the recorded one, empty where the bag does not say.
    elapsed, in_the_model: seconds.
    """

    robot: Embodied
    tally: Tally
    new: RunFigures
    recorded: RunFigures | None
    facts: Mapping[str, str]
    recorded_facts: Mapping[str, str]
    elapsed: float = 0.0
    in_the_model: float = 0.0


def replay(path: Path, out: Path, options: Options) -> Replayed:
    """Runs the policy over a bag and writes out/bag. Errors: BagError, BackendError, ContractError."""
    with Bag(path) as bag:
        if bag.span_ns is None:
            raise BagError(f"bag {path} holds no message: there is nothing to replay")
        configured = read_configured(bag)
        recorded = configured[0] if configured else None
        wanted = choose(bag, recorded, options.given, out)
        robot = embody(bag, wanted.contract, wanted.tag, options.topics, options.joints)
        return _Studio(bag, configured, wanted, robot, options).run(out)


class _Studio:
    """One replay under way."""

    def __init__(self, bag: Bag, configured: list[Configured], wanted: Wanted, robot: Embodied, options: Options):
        self._bag, self._configured, self._wanted, self._robot = bag, configured, wanted, robot
        self._options, self._recorded = options, configured[0] if configured else None
        self._measured = Measured(robot.contract.joint_names)
        self._loops = {name: OpenLoop(self._measured) for name in ("new", "recorded")}

    def run(self, out: Path) -> Replayed:
        options, joints = self._options, self._robot.contract.joint_names
        needs = read_needs(self._bag) if options.mode == TRACED else None
        if needs is not None and not needs.traces:
            raise BagError(
                f"bag {self._bag.path} holds no reasoning traces; run over its images with --fresh or "
                "--realtime-latency"
            )
        instruction = options.instruction or ("" if needs is not None else self._recorded_instruction())
        clock = RecordedClock()
        backend = InProcessBackend(self._wanted.settings, self._robot.contract, clock)
        backend.load()
        facts = {"contract": str(self._wanted.contract.path), **backend.facts()}
        recorded_facts = self._recorded.facts if self._recorded else {}
        done = Replayed(
            self._robot, Tally(*self._promises(facts)), RunFigures("replayed", joints),
            None if needs is None else RunFigures("recorded", joints), facts, recorded_facts,
        )
        if needs is not None:
            rerun = Rerun(
                self._robot, self._wanted.tag, backend, clock,
                self._wanted.settings.depth in ("adaptive", "verified"), instruction,
            )
            inferences = read_recorded(self._bag, needs, self._robot.topics, self._robot.joint_topic, self._hear)
            total = needs.traces
            results = (rerun.repeat(one, self._configured_anew(one)) for one in inferences)
        else:
            fresh = Fresh(self._robot, self._wanted.tag, backend, clock, instruction, options.seed)
            sets = read_sets(self._bag, self._robot, self._wanted.tag, self._measured.hear)
            timing = Timing(self._latency(fresh) if options.mode == REALTIME else None, self._min_period())
            total = 0
            results = (fresh.infer(taken) for taken in timing.taken(sets))
        began = time.perf_counter()
        with NewBag(out / "bag", self._bag) as new:
            for result in self._shown(results, total):
                self._keep(done, result)
                _write(new, result)
        done.elapsed = time.perf_counter() - began
        done.tally.lacks = list(self._bag.lacks)
        backend.close()
        for name, run in (("new", done.new), ("recorded", done.recorded)):
            self._loops[name].advance(finish=True)
            if run is not None:
                run.open_loop = self._loops[name].mean
        return done

    def _hear(self, message: Any) -> None:
        self._measured.hear(self._robot.joint_state(message))

    def _shown(self, results: Iterator[Result], total: int) -> Iterator[Result]:
        yield from tqdm(
            results, total=total or None, desc="replay", unit="inference", disable=not self._options.progress
        )

    def _keep(self, done: Replayed, result: Result) -> None:
        done.in_the_model += result.seconds
        done.tally.add(result)
        if done.recorded is not None and result.recorded is not None:
            done.recorded.add(result.recorded.trace, result.recorded.chunk, result.ready_ns)
            if result.recorded.chunk is not None:
                self._loops["recorded"].add(result.recorded.chunk)
        if result.trace is not None and result.chunk is not None:
            chunk = None if result.trace.withheld else result.chunk
            done.new.add(result.trace, chunk, result.ready_ns)
            if chunk is not None:
                self._loops["new"].add(chunk)
        for loop in self._loops.values():
            loop.advance()

    # --- what was recorded --------------------------------------------------------------------------------------------
    def _promises(self, facts: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Why the model's inputs, and why its results, need not equal the recorded ones; empty where they must."""
        wanted, options = self._wanted, self._options
        changed = [(name, *values) for name, values in wanted.changed.items() if name in DECIDE_INPUTS]
        inputs = [f"{name} was {old or 'not known'} and is {new}" for name, old, new in changed]
        inputs += [f"the images of camera {name!r} were recorded with loss" for name in self._robot.lossy]
        results = unpromised(self._recorded, wanted, facts)
        results += [f"the instruction is {options.instruction!r} throughout"] if options.instruction else []
        return inputs, inputs + [reason for reason in results if reason not in inputs]

    def _configured_anew(self, one: Recorded) -> str:
        """Why an inference is not of the policy that is replayed; empty where it is."""
        then = [c for c in self._configured if c.since_ns <= one.receive_ns] or self._configured[:1]
        differing = then[-1].differing(self._configured[0].facts) if then else []
        return f"the policy was configured anew before it, with another {', '.join(differing)}" if differing else ""

    def _recorded_instruction(self) -> str:
        for topic in (TRACES, POLICY):
            for _, _, message, _ in self._bag.messages({topic}):
                if message.instruction:
                    return str(message.instruction)
        raise BagError(f"bag {self._bag.path} does not say what the robot was to do; say it with --instruction")

    def _min_period(self) -> float:
        return float(self._recorded.facts.get("min_period", 0.0)) if self._recorded else 0.0

    def _latency(self, fresh: Fresh) -> Callable[[], float]:
        """How long the next inference of REALTIME takes [s]."""
        if self._options.latency is not None:
            given = self._options.latency
            return lambda: given
        traces = (trace for _, _, trace, _ in self._bag.messages({TRACES}))
        recorded = [(stamp_ns(trace.finished) - stamp_ns(trace.started)) / 1e9 for trace in traces]
        following = iter(recorded)
        return lambda: next(following, recorded[-1] if recorded else fresh.last_seconds)


def _write(new: NewBag, result: Result) -> None:
    recorded = result.recorded
    if recorded is not None:
        if recorded.chunk is not None:
            new.keep(CHUNKS, recorded.chunk, result.receive_ns)
        new.keep(TRACES, recorded.trace, result.receive_ns)
    if result.trace is not None:
        if not result.trace.withheld:
            new.add(CHUNKS, result.chunk, result.receive_ns)
        new.add(TRACES, result.trace, result.receive_ns)
