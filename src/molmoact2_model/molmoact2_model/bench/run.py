# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One run of the benchmark: what is loaded, which rows there are, what is put together from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ..checkpoint import DTYPES
from ..config import ModelConfig
from ..engine_options import (
    BYTES,
    EULER,
    LANGUAGE,
    LANGUAGE_WEIGHTS,
    NO_OFFLOAD,
    STORED,
    EngineOptions,
    evaluations,
)
from ..errors import InputError
from ..footprint import cached, computed, copied, kept, read_back
from ..fused_language import fits
from ..optimizations import PLAIN, Optimizations
from ..policy import MolmoAct2Policy, find_device, machine, set_threads
from . import report
from .agreement import agreement
from .heights import GpuMemory, memory
from .measure import SEED, EngineRunner, Measured, Row, Runner, compare, find_given, load_given, measured, weights
from .networks import SIZES, random_name, random_policy, released_config, write_random
from .roofline import Rates, Shape, measure_rates, work
from .rows import Each, Kind
from .scenes import Load, views

FINE = 100    # Euler steps that stand for the exact flow
TEXT = 110    # tokens of a released prompt besides its images, about
OFFLOADED = "the language model's blocks are in main memory; plain is with fused_language, which that needs"


@dataclass(frozen=True)
class Setting:
    """What to measure, as command.py describes it; empty or None: its default. Where checkpoint and random are both
    there, the random weights lie in that folder."""

    checkpoint: str
    random: str
    tag: str
    device: str
    dtypes: tuple[str, ...]
    threads: int | None
    cameras: int | None
    depths: tuple[str, ...]
    changed: tuple[int, ...]
    calls: int
    fastest: bool
    cpu_time: bool
    num_steps: int | None
    engine: EngineOptions
    each: bool
    solvers: tuple[tuple[str, int], ...]
    against: str
    compare_weights: tuple[str, ...]
    agreement: bool
    only_roofline: bool
    only_memory: bool
    rates: tuple[float, ...]

    @property
    def ours(self) -> Optimizations:
        return self.engine.switches()

    @property
    def offload(self) -> bool:
        return self.engine.offload != NO_OFFLOAD

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Type and language weights of each network; the first is what the others are compared with."""
        weights = (self.engine.language_weights, *self.compare_weights)
        return list(dict.fromkeys((dtype, kind) for kind in weights for dtype in self.dtypes))

    def label(self, kind: tuple[str, str]) -> str:
        """How it differs from the first."""
        others = [name for name, first in zip(kind, self.kinds[0], strict=True) if name != first]
        return ", ".join(["optimised", *others])


def loads(setting: Setting, policy: MolmoAct2Policy) -> list[Load]:
    """Errors: InputError for a depth mode that the checkpoint does not have."""
    depth = policy.config.depth
    wanted = setting.depths or (("off", "full", "adaptive", "verified") if depth else ("off",))
    found = []
    for mode in wanted:
        if mode != "off" and depth is None:
            raise InputError(f"--depth {mode}: {policy.name} has no depth reasoning; use --depth off")
        counts = [min(count, depth.num_codes) for count in setting.changed] if depth else []
        found += [Load(mode, count) for count in counts] if mode in ("adaptive", "verified") else [Load(mode)]
    return list(dict.fromkeys(found))


def measure_all(setting: Setting) -> tuple[str, dict[str, Any], Callable[[Path], None]]:
    """Table, figures, and what draws the plot into a file."""
    with _weights_for_all(setting) as found:
        return _measure_all(found)


@contextmanager
def _weights_for_all(setting: Setting) -> Iterator[Setting]:
    """Random weights that another implementation is to have, too, are written as a checkpoint; both read that one."""
    if setting.against:
        find_given(setting.against)    # before anything that takes long
    if not (setting.against and setting.random):
        yield setting
        return
    with TemporaryDirectory(prefix="molmoact2-") as folder:
        write_random(Path(folder), setting.random, DTYPES[setting.dtypes[0]])
        yield replace(setting, checkpoint=folder)


def _measure_all(setting: Setting) -> tuple[str, dict[str, Any], Callable[[Path], None]]:
    if setting.threads:
        set_threads(setting.threads)
    device, dtype = find_device(setting.device), DTYPES[setting.dtypes[0]]
    rates = _rates(setting, device)
    policies = {setting.label(kind): _policy(setting, *kind) for kind in setting.kinds}
    policy = policies["optimised"]
    tag = setting.tag or policy.norm_tags[0]
    cameras = setting.cameras or len(policy.stats.tag(tag).camera_keys) or 2
    shape = measured(policy, tag, cameras)
    if setting.agreement and policy.config.depth is None:
        raise InputError(f"--agreement: {policy.name} has no depth reasoning, so no codes to compare; leave it out")
    steps = setting.num_steps or policy.config.flow.num_steps
    (plain, ours, *others), each = _runners(setting, policies, tag, steps), _each(setting, policy)
    asked = evaluations(setting.engine.solver, steps)
    found: list[dict[str, Any]] = []
    left_out, gpu = list(each.idle) if each else [], GpuMemory(device)
    for load in loads(setting, policy):
        without = [_runner(setting, policy, tag, steps, *row) for row in (each.rows(load) if each else [])]
        rows = compare([plain, ours, *without, *others], load, shape, setting.calls, left_out.append, gpu)
        for row in rows:
            bounds = _bounds(policy, row, shape, asked, dtype) if row.name == ours.name else None
            found.append(report.figures(row, rows[0], bounds, rates, setting.fastest))
    solvers = [_solved(policy, tag, setting, shape, *named) for named in _with_released(setting.solvers, steps)]
    agreed = _agreed(setting, policies, tag, shape) if setting.agreement else []
    parts = {label: weights(one) for label, one in policies.items()}
    facts: dict[str, Any] = {
        "what": policy.name, "tag": tag, "device": setting.device, "cameras": cameras, "flow_steps": steps,
        "dtypes": list(setting.dtypes), "optimised": list(setting.ours.on()),
        **machine(setting.device, next((kind for _, kind in setting.kinds if kind in BYTES), STORED)),
        "language_weights": setting.engine.language_weights, "offload": setting.engine.offload,
        "solver": setting.engine.solver, "draft": setting.engine.draft,
        "rates": asdict(rates), "clock": "processor" if setting.cpu_time else "wall",
        "weights_MiB": sum(parts["optimised"].values()), "weights_by_part_MiB": parts, "memory_MiB": memory(),
    }  # fmt: skip
    head = [
        f"{policy.name}, {setting.dtypes[0]} on {facts['processor']}",
        f"{facts['threads']} threads, torch {facts['torch']}",
        f"{cameras} cameras, {found[0]['prompt_tokens']:.0f} tokens of prompt, {steps} flow steps; weights "
        f"{facts['weights_MiB']:.0f} MiB, resident {facts['memory_MiB']['resident']:.0f} MiB, at the height of the run "
        f"{facts['memory_MiB']['height']:.0f} MiB",
        f"a copy moves {rates.bandwidth / 1e9:.1f} GB/s, a product does {rates.products / 1e12:.3f} TFLOP/s "
        f"({rates.source})",
        f"optimised: {', '.join(setting.ours.on())}; solver {setting.engine.solver}"
        + (", adaptive with a draft" if setting.engine.draft else ""),
        *([OFFLOADED] if setting.offload else []),
        *(["times are of the processor, summed over threads, not of the clock"] if setting.cpu_time else []),
    ]
    ends = ["", *left_out] if left_out else []
    ends.append(report.parts_table("weights [MiB]", parts))
    ends += [report.solver_table(solvers)] if solvers else []
    ends += [report.agreement_table(agreed)] if agreed else []
    text = "\n".join([*head, report.table(found), *ends])
    title = f"{Path(policy.name).name}, {setting.dtypes[0]}, {cameras} cameras, {facts['threads']} threads"
    figures = {**facts, "rows": found, "left_out": left_out, "solvers": solvers, "agreement": agreed}
    return text, figures, partial(report.plot, found, title)


def bounds_only(setting: Setting) -> str:
    """The least time by stage for the first of the depth modes, from sizes alone."""
    if not setting.random:
        raise InputError("--only-roofline needs --random released or small")
    if setting.threads:
        set_threads(setting.threads)
    config, dtype = released_config(SIZES[setting.random]), DTYPES[setting.dtypes[0]]
    assert config.depth is not None
    cameras, cells = setting.cameras or 2, config.depth.num_codes
    prompt = _prompt(config, cameras)
    known = {"off": (0, 0), "full": (cells + 1, cells + 2), "verified": (1, cells + 2)}
    modes = setting.depths or tuple(known)
    if not set(modes) <= set(known):
        raise InputError("--only-roofline knows --depth off, full and verified (with a draft that is right)")
    rates, size = _rates(setting, find_device(setting.device)), dtype.itemsize
    block_size = BYTES.get(setting.engine.language_weights)
    blocks = []
    for mode in modes:
        passes, read = known[mode]
        asked = evaluations(setting.engine.solver, setting.num_steps or config.flow.num_steps)
        shape = Shape(cameras, prompt, 30, asked, passes, read, read)
        blocks.append(f"depth {mode}, {cameras} cameras, {prompt} tokens of prompt, {setting.dtypes[0]}")
        least = work(config, shape, size, block_size, setting.offload)
        blocks.append(report.bounds_table(least, rates) + "\n")
    return "\n".join(blocks)


def memory_only(setting: Setting) -> str:
    """What a network of these sizes takes, by part; nothing of it is made."""
    if not setting.random:
        raise InputError("--only-memory needs --random with a size")
    config, size = released_config(SIZES[setting.random]), DTYPES[setting.dtypes[0]].itemsize
    cameras, prompt = setting.cameras or 2, _prompt(config, setting.cameras or 2)
    tokens = prompt + (config.depth.num_codes + 2 if config.depth else 0)
    columns = {
        kind: {
            **{part: count / 1e6 for part, count in computed(config, size, kind).items()},
            f"keys and values of {tokens} tokens": cached(config.text, tokens, size) / 1e6,
            "the largest matrix read back": read_back(config.text, size, kind) / 1e6,
        }
        for kind in LANGUAGE_WEIGHTS
    }
    columns[f"offload {LANGUAGE}"] = {
        **{part: count / 1e6 for part, count in computed(config, size, STORED, LANGUAGE).items()},
        f"keys and values of {tokens} tokens": cached(config.text, tokens, size) / 1e6,
        "two blocks, copied": copied(config.text, size) / 1e6,
    }
    title = f"{setting.random} size, {setting.dtypes[0]}, {cameras} cameras"
    return "\n".join([
        f"{title}: computed from the sizes, not measured; what an inference allocates besides, and what libraries "
        "take of a GPU for themselves, is not in it",
        report.parts_table("language weights [MB]", columns),
        f"\noffload {LANGUAGE} leaves {kept(config, size) / 1e6:.0f} MB in main memory, and each pass of the "
        "language model copies them",
    ])    # fmt: skip


def _prompt(config: ModelConfig, cameras: int) -> int:
    """Tokens, about."""
    rows, columns = (side // config.vision.patch_size for side in config.vision.image_size)
    return cameras * (-(-rows // 2) * -(-columns // 2) + 2) + TEXT


def _rates(setting: Setting, device: torch.device) -> Rates:
    if setting.rates:
        main = setting.rates[2] * 1e9 if len(setting.rates) > 2 else None
        return Rates(setting.rates[0] * 1e9, setting.rates[1] * 1e12, "as given", main)
    return measure_rates(device, DTYPES[setting.dtypes[0]], setting.offload)


def _policy(setting: Setting, dtype: str, language_weights: str) -> MolmoAct2Policy:
    if not setting.checkpoint:
        device = find_device(setting.device)
        return random_policy(
            setting.random, device, DTYPES[dtype], setting.ours, language_weights, setting.engine.offload
        )
    found = MolmoAct2Policy.from_pretrained(
        setting.checkpoint, device=setting.device, dtype=dtype, optimizations=setting.ours,
        language_weights=language_weights, offload=setting.engine.offload,
    )
    if setting.random:
        found.name = random_name(setting.random)
    return found


def _each(setting: Setting, policy: MolmoAct2Policy) -> Each | None:
    """Rows of `--each`; None: there are none."""
    if not setting.each:
        return None
    needed = ("fused_language",) if setting.offload else ()
    return Each(Kind(setting.ours, setting.engine.draft), fits(policy.config.text), needed)


def _runners(setting: Setting, policies: Mapping[str, MolmoAct2Policy], tag: str, steps: int) -> list[Runner]:
    """The plain one, ours, and whatever else is in every load."""
    first, ours = policies["optimised"], setting.ours
    clock, kind = _clock(setting), Kind(ours, setting.engine.draft)
    plain = replace(PLAIN, fused_language=setting.offload)    # which has no other path
    runners: list[Runner] = [EngineRunner("plain", first, tag, plain, steps, EULER, clock)]
    runners += [_runner(setting, policy, tag, steps, label, kind) for label, policy in policies.items()]
    if setting.against:
        given = (setting.checkpoint, setting.device, setting.dtypes[0], first.stats.tag(tag), steps, clock)
        runners.append(load_given(setting.against, *given))
    return runners


def _runner(setting: Setting, policy: MolmoAct2Policy, tag: str, steps: int, name: str, kind: Kind) -> EngineRunner:
    solver, clock = setting.engine.solver, _clock(setting)
    return EngineRunner(name, policy, tag, kind.optimizations, steps, solver, clock, kind.draft)


def _clock(setting: Setting) -> Callable[[], float]:
    return time.process_time if setting.cpu_time else time.perf_counter


def _bounds(policy: MolmoAct2Policy, row: Row, shape: Measured, asked: int, dtype: torch.dtype) -> report.Bounds:
    """asked: how often the expert is."""
    config, block_size = policy.config, BYTES.get(policy.network.language_weights)
    needed = Shape(
        shape.cameras, round(row.mean("prompt")), shape.horizon, asked, row.mean("passes"), row.mean("tokens_read"),
        min(row.mean("tokens_read"), config.depth.num_codes + 2 if config.depth else 0),
    )  # fmt: skip
    return work(config, needed, dtype.itemsize, block_size, policy.network.offload != NO_OFFLOAD)


def _agreed(
    setting: Setting, policies: Mapping[str, MolmoAct2Policy], tag: str, shape: Measured
) -> list[dict[str, Any]]:
    """Rows of each network by itself; nothing is compared with the first."""
    cells = shape.grid[0] * shape.grid[1]
    wrong = list(dict.fromkeys(min(count, cells) for count in setting.changed))
    return [
        {"name": dtype if kind == STORED else f"{dtype}, {kind}", **row}
        for (dtype, kind), policy in zip(setting.kinds, policies.values(), strict=True)
        for row in agreement(policy, tag, setting.ours, shape, wrong, setting.calls)
    ]


# --- solvers ----------------------------------------------------------------------------------------------
def _with_released(solvers: Sequence[tuple[str, int]], steps: int) -> list[tuple[str, int]]:
    return list(dict.fromkeys([("euler", steps), *solvers])) if solvers else []


def _solved(
    policy: MolmoAct2Policy, tag: str, setting: Setting, shape: Measured, solver: str, steps: int
) -> dict[str, Any]:
    """How far the actions of a solver are from the released sampler's and from the flow solved in FINE steps."""
    load, released = Load("off"), setting.num_steps or policy.config.flow.num_steps
    kinds = [(solver, steps), ("euler", released), ("euler", FINE)]
    clock = _clock(setting)
    runners = [EngineRunner("", policy, tag, setting.ours, count, name, clock) for name, count in kinds]
    for runner in runners:
        runner.open(load)
    seconds, differences = [], []
    for call in range(setting.calls):
        view = views(shape.cameras, shape.state_dim, shape.grid, 0, SEED + call)[0]
        noise = np.random.default_rng(SEED + call).standard_normal((shape.horizon, shape.max_action_dim))
        mine, *others = (runner(view, noise.astype(np.float32), None) for runner in runners)
        seconds.append(mine.seconds["expert"])
        differences.append([np.abs(mine.actions - other.actions) for other in others])
    found: dict[str, Any] = {"solver": f"{solver} x {steps}", "evaluations": evaluations(solver, steps)}
    found["expert_s"] = float(np.median(seconds))
    for index, name in enumerate(("released", "exact")):
        errors = np.array([pair[index] for pair in differences])
        found |= {f"{name}_rms": float(np.sqrt((errors**2).mean())), f"{name}_max": float(errors.max())}
    return found
