# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A call's trace on the wire: its fields by name, arrays as arrays."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from .. import results
from . import checks
from .wire import WireError

MOST_TOKENS = 2**20
MOST_CELLS = 2**16
MODES = ("off", "full", "verified", "adaptive", "adaptive_verified", "forced")
NAMES = tuple(field.name for field in fields(results.Trace))


def write_trace(trace: results.Trace) -> dict[str, Any]:
    return asdict(trace) | {"warnings": list(trace.warnings), "clock": list(trace.clock) if trace.clock else None}


def read_trace(value: Any) -> results.Trace:
    """Errors: WireError for one that is not whole or contradicts itself."""
    entry = checks.mapping(value, "trace")
    missing = [name for name in NAMES if name not in entry]
    if missing:
        raise WireError(f"trace lacks {missing[0]}")
    checks.only(entry, NAMES, "trace")
    codes = checks.integers(entry["depth_codes"], "trace.depth_codes", MOST_CELLS)
    refreshed, probs = entry["refreshed"], entry["code_probs"]
    ages = checks.integers(entry["cell_ages"], "trace.cell_ages", MOST_CELLS)
    if not isinstance(refreshed, np.ndarray) or refreshed.dtype != bool:
        raise WireError("trace.refreshed is no array of booleans")
    if not isinstance(probs, np.ndarray) or probs.dtype != np.float32 or not np.isfinite(probs).all():
        raise WireError("trace.code_probs is no array of finite float32")
    if not refreshed.shape == probs.shape == ages.shape == codes.shape:
        raise WireError(f"trace has {codes.size} depth codes, and others of refreshed, cell_ages or code_probs")
    if codes.size and (codes.min() < 0 or codes.max() >= 2**16 or ages.min() < 0 or ages.max() >= 2**32):
        raise WireError("trace.depth_codes or trace.cell_ages lie outside 0 .. 65535 or 0 .. 2^32 - 1")
    mode = checks.text(entry["depth_mode"], "trace.depth_mode")
    if mode not in MODES:
        raise WireError(f"trace.depth_mode is {mode!r}, expected one of {', '.join(MODES)}")
    return results.Trace(
        prompt=checks.text(entry["prompt"], "trace.prompt", 2**20),
        input_ids=_tokens(entry["input_ids"], "trace.input_ids"),
        generated_token_ids=_tokens(entry["generated_token_ids"], "trace.generated_token_ids"),
        depth_codes=codes,
        refreshed=refreshed,
        cell_ages=ages,
        code_probs=probs,
        depth_mode=mode,
        cause=checks.text(entry["cause"], "trace.cause"),
        decoder_steps=checks.whole(entry["decoder_steps"], "trace.decoder_steps", 0, 2**32 - 1),
        reused_runs=checks.whole(entry["reused_runs"], "trace.reused_runs", 0, 2**32 - 1),
        seed=None if entry["seed"] is None else checks.whole(entry["seed"], "trace.seed"),
        timings=_timings(entry["timings"]),
        warnings=_warnings(entry["warnings"]),
        clock=_clock(entry["clock"]),
    )


def _tokens(value: Any, name: str) -> np.ndarray:
    ids = checks.integers(value, name, MOST_TOKENS)
    if ids.size and (ids.min() < 0 or ids.max() >= 2**31):
        raise WireError(f"{name} lie outside 0 .. 2^31 - 1")
    return ids


def _timings(value: Any) -> dict[str, float]:
    entry = checks.mapping(value, "trace.timings")
    if len(entry) > 32 or "total" not in entry:
        raise WireError("trace.timings has more than 32 stages, or no total")
    return {checks.word(stage, "trace.timings"): checks.number(entry[stage], "trace.timings") for stage in entry}


def _warnings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > 64:
        raise WireError("trace.warnings is no list of at most 64 texts")
    return tuple(checks.text(item, "trace.warnings") for item in value)


def _clock(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise WireError("trace.clock is neither null nor two readings")
    before, after = (checks.number(reading, "trace.clock", 0.0, 1e12) for reading in value)
    return before, after
