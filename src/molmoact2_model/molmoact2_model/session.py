# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One session: checks a request, runs the engine, keeps the depth cache, and records what happened."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .engine import Engine
from .engine_options import EULER
from .errors import DecodeError, InputError, ModelError
from .fast import FastTokenizer, action_bins
from .guidance import Guidance, Running, check_running, make_guidance
from .images import check_images
from .normalization import TagStats
from .processing import Prompt, PromptBuilder
from .results import DepthOutcome, InferenceResult, Reasoning, Trace
from .stopwatch import Stopwatch
from .think import Codes, Decision, ReferencePolicy, Request

MAX_NUM_STEPS = 1000
VERIFIED, ADAPTIVE_VERIFIED = "verified", "adaptive_verified"    # the second: adaptive with a draft


class Session:
    """One stream of calls with a memory: the depth cache. One call at a time; calls from other threads wait."""

    def __init__(
        self,
        engine: Engine,
        prompts: PromptBuilder,
        tag: TagStats,
        depth: str,
        draft: bool,
        fast: FastTokenizer | None,
        cache: ReferencePolicy | None,
        clock: Callable[[], float],
        rtc: str,
        rtc_beta: float,
        solver: str = EULER,
        watched: bool = True,
        noise_scale: float = 1.0,
    ) -> None:
        """watched: on a GPU, each stage is waited for, so that its seconds are its own."""
        self._solver, self._watched, self._noise_scale = solver, watched, noise_scale
        self.stage_clock: Callable[[], float] = time.perf_counter    # [s], by which a trace's stages are timed
        self._engine, self._prompts, self._tag, self._fast, self._clock = engine, prompts, tag, fast, clock
        self._depth, self._draft, self._rtc, self._rtc_beta = depth, draft or depth == VERIFIED, rtc, rtc_beta
        self._config = engine.network.config
        # The chunk's rows before the observation's own belong to earlier observation steps.
        self._first = self._config.n_obs_steps - 1
        self._cache = cache
        self._drafted: Codes | None = None    # where there is no cache: the last call's codes
        self._lock = threading.Lock()

    @property
    def norm_tag(self) -> str:
        return self._tag.tag

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def horizon(self) -> int:
        """Waypoints the flow produces; `noise` has as many rows."""
        return self._tag.horizon

    def reset(self, because: str = "reset") -> None:
        """Begins a new episode: the depth cache is forgotten, the next adaptive call makes a full pass.

        because: the cause that this pass will name.
        """
        with self._lock:
            self._forget(because)

    def _forget(self, because: str) -> None:
        self._drafted = None
        if self._cache is not None:
            self._cache.forget(because)

    def expect(self, codes: np.ndarray) -> None:
        """Takes codes int (cells,) for those of the last call: what the next "verified" one drafts with."""
        with self._lock:
            self._drafted = Codes(codes, np.full(codes.size, np.nan, np.float32), np.zeros(codes.size, np.int64))

    def check_instruction(self, instruction: str, num_images: int = 1) -> None:
        """InputError for an instruction that `infer` would refuse with so many images."""
        state = np.zeros(self._tag.state.dim, np.float32)
        length = len(self._prompts.build(instruction, state, num_images, self._depth != "off").ids)
        limit = self._config.text.max_positions
        if length > limit:
            raise InputError(f"the prompt would have {length} tokens, the model reads {limit}; shorten the instruction")

    def infer(
        self,
        images: Sequence[np.ndarray],
        state: np.ndarray,
        instruction: str,
        *,
        num_steps: int | None = None,
        n_action_steps: int | None = None,
        noise: np.ndarray | None = None,
        seed: int | None = None,
        prefix: np.ndarray | None = None,
        frozen: int = 0,
        overlap: int | None = None,
    ) -> InferenceResult:
        """Images, state and instruction -> one action chunk and its trace.

        images: uint8 (H, W, 3) RGB, in the tag's camera order; the first is the main image, the only one
        depth is about. state: (D,) numbers in the checkpoint's frame. num_steps: flow steps (config's where
        None). n_action_steps: how many waypoints to return (the tag's where None). noise: float32 (horizon,
        max_action_dim), the start of the flow; else drawn from `seed` on the CPU in float32; else from a
        fresh seed, which the trace records. prefix: (K, D), the running chunk from the new chunk's first
        waypoint on, in the checkpoint's frame; the new chunk continues it (guidance.py), and its first `frozen`
        waypoints, which will be over before the new chunk can arrive, are held to it. overlap: waypoints of the
        running chunk less the whole ones between the two observations (K where None). Discrete actions cannot be
        guided, and the trace warns. Raises InputError for what it refuses, and ModelError where the
        model's own output cannot be used.
        """
        running = check_running(prefix, frozen, overlap, self.horizon - self._first, self._tag.action.dim)
        request = self._checked(images, state, num_steps, n_action_steps, noise, seed, running)
        with self._call():
            return self._infer(request, instruction)

    def reason(self, images: Sequence[np.ndarray], state: np.ndarray, instruction: str) -> Reasoning:
        """The depth codes alone, as `infer` reasons and remembers them. Raises as `infer`, and InputError where depth
        is off."""
        if self._depth == "off":
            raise InputError("depth is off: there is nothing to reason")
        request = self._checked(images, state, None, None, None, 0, None)
        with self._call():
            self._read(request, instruction, self._stopwatch())
            seen = self._think(request, instruction)
            assert seen is not None
            if self._cache is not None:
                self._cache.commit(seen.request, seen.decision, seen.codes, self._clock())
            return Reasoning(seen.codes.codes, seen.decision.refreshed, seen.decision.cause, self._engine.steps)

    # --- one call -----------------------------------------------------------------------------------------
    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except InputError:
                raise
            except Exception:
                self._forget("call_failed")
                self._engine.forget()
                raise

    def _read(self, request: _Checked, instruction: str, watch: Stopwatch) -> Prompt:
        prompt = self._prompts.build(
            instruction, self._tag.state.normalize(request.state), len(request.images), self._depth != "off"
        )
        watch.lap("preprocess")
        self._engine.see(request.images)
        watch.lap("vision")
        discrete_horizon = self._tag.horizon if self._fast else 0
        self._engine.prefill(prompt, self._engine.room(self._depth != "off", discrete_horizon))
        watch.lap("prefill")
        return prompt

    def _infer(self, request: _Checked, instruction: str) -> InferenceResult:
        watch = self._stopwatch()
        prompt = self._read(request, instruction, watch)
        seen = self._think(request, instruction)
        if seen is not None:
            watch.lap("depth")
        input_ids, action_ids = self._engine.ids, list[int]()
        if self._fast is None:
            guidance = self._guidance(request)
            width, steps = self._tag.action.dim, request.num_steps
            normalized = self._engine.flow(request.noise, width, steps, guidance, self._solver)
            watch.lap("expert")
        else:
            action_ids, normalized = self._discrete(seen)
            watch.lap("discrete")
        # Before un-normalising, which clips: an infinity would come out as an end of the range.
        if not np.isfinite(normalized).all():
            raise ModelError("the model produced actions that are not finite; nothing was returned")
        last = self._first + request.n_action_steps
        actions = self._tag.action.unnormalize(normalized[self._first : last])
        clock = None
        if seen is not None and self._cache is not None:
            clock = (seen.request.now, self._clock())
            self._cache.commit(seen.request, seen.decision, seen.codes, clock[1])
        watch.lap("post")
        trace = self._trace(prompt, input_ids, action_ids, seen, request, watch.done(), clock)
        return InferenceResult(actions, trace)

    def _stopwatch(self) -> Stopwatch:
        return Stopwatch(self._engine.network.device, self._watched, self.stage_clock)

    def _guidance(self, request: _Checked) -> Guidance | None:
        if request.running is None:
            return None
        running = replace(request.running, prefix=self._tag.action.normalize(request.running.prefix))
        shape, device = (self.horizon, self._config.max_action_dim), self._engine.network.device
        return make_guidance(self._rtc, running, self._first, shape, self._rtc_beta, device)

    def _think(self, checked: _Checked, instruction: str) -> _Seen | None:
        depth = self._config.depth
        if self._depth == "off" or depth is None:
            return None
        request = Request(
            main_image=checked.images[0],
            image_shapes=tuple(image.shape for image in checked.images),
            instruction=instruction,
            norm_tag=self._tag.tag,
            now=self._clock(),
        )
        if self._cache is None:
            decision, known = Decision(np.ones(depth.num_codes, bool), "", np.empty(0)), self._drafted
        else:
            decision, known = self._cache.decide(request), self._cache.codes
        before = None if known is None else known.codes
        if self._draft and before is not None:
            outcome = self._engine.verify_depth(before, decision.refreshed)
        else:
            outcome = self._engine.depth(decision.refreshed, before)
        codes = _merged(outcome, decision.refreshed, known)
        if self._depth == VERIFIED:
            self._drafted = codes
            if before is not None:    # all of them were looked at; those that came out otherwise are news
                decision = replace(decision, refreshed=codes.codes != before)
        return _Seen(request, decision, outcome, codes)

    def _discrete(self, seen: _Seen | None) -> tuple[list[int], np.ndarray]:
        tokens = self._config.action_tokens
        assert tokens is not None and self._fast is not None
        limit = self._engine.room(False, self._tag.horizon)
        generated = self._engine.generate(self._config.eos_token_id, limit)
        all_generated = (seen.outcome.token_ids if seen else []) + generated
        bins = action_bins(all_generated, tokens.start, tokens.end, tokens.first, tokens.count)
        if not bins:
            raise DecodeError("the model generated no action tokens between <action_start> and <action_end>")
        return generated, self._fast.decode(bins, self._tag.horizon, self._tag.action.dim)

    def _trace(
        self,
        prompt: Prompt,
        input_ids: np.ndarray,
        action_ids: list[int],
        seen: _Seen | None,
        request: _Checked,
        timings: dict[str, float],
        clock: tuple[float, float] | None,
    ) -> Trace:
        none = np.empty(0)
        codes = seen.codes if seen else Codes(none.astype(int), none.astype(np.float32), none.astype(int))
        mode = self._depth
        if seen is not None and self._cache is not None:
            mode = "forced" if seen.decision.cause else ADAPTIVE_VERIFIED if self._draft else mode
        return Trace(
            prompt=prompt.text,
            input_ids=input_ids,
            generated_token_ids=np.asarray(
                (seen.outcome.token_ids if seen else []) + action_ids, dtype=np.int64
            ),
            depth_codes=codes.codes,
            refreshed=seen.decision.refreshed if seen else none.astype(bool),
            cell_ages=codes.ages,
            code_probs=codes.probs,
            depth_mode=mode,
            cause=seen.decision.cause if seen else "",
            decoder_steps=self._engine.steps,
            reused_runs=seen.outcome.reused_runs if seen else 0,
            seed=request.seed,
            timings=timings,
            warnings=self._warnings(request),
            clock=clock,
        )

    def _warnings(self, request: _Checked) -> tuple[str, ...]:
        keys, count, warnings = self._tag.camera_keys, len(request.images), []
        if keys and len(keys) != count:
            warnings.append(
                f"{count} images were given; norm tag {self._tag.tag!r} has {len(keys)}: {list(keys)}"
            )
        if request.running is not None and self._fast is not None:
            warnings.append("discrete actions cannot continue the running chunk: prefix and frozen were not used")
        return (*warnings, *self._engine.remarks)

    # --- checks -------------------------------------------------------------------------------------------
    def _checked(
        self,
        images: Sequence[np.ndarray],
        state: np.ndarray,
        num_steps: int | None,
        n_action_steps: int | None,
        noise: np.ndarray | None,
        seed: int | None,
        running: Running | None,
    ) -> _Checked:
        steps = _count("num_steps", num_steps, self._config.flow.num_steps, MAX_NUM_STEPS)
        limit = self._tag.horizon - self._first
        waypoints = _count("n_action_steps", n_action_steps, self._tag.n_action_steps, limit)
        noise, seed = self._noise(noise, seed)
        checked_images, checked_state = check_images(images), self._state(state)
        return _Checked(checked_images, checked_state, steps, waypoints, noise, seed, running)

    def _state(self, state: np.ndarray) -> np.ndarray:
        try:
            values = np.array(state, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"state is not a vector of numbers: {error}") from None
        wanted = self._tag.state.dim
        if values.shape != (wanted,):
            raise InputError(
                f"state has shape {values.shape}, norm tag {self._tag.tag!r} has {wanted} values"
            )
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise InputError(f"state value {bad[0]} is {values[bad[0]]}, expected finite numbers")
        return values

    def _noise(self, noise: np.ndarray | None, seed: int | None) -> tuple[np.ndarray, int | None]:
        shape = (self._tag.horizon, self._config.max_action_dim)
        if self._fast is not None:
            return np.empty(0, np.float32), None    # discrete decoding draws nothing
        if noise is not None:
            values = np.array(noise, dtype=np.float32)
            if values.shape != shape or not np.isfinite(values).all():
                raise InputError(
                    f"noise has shape {values.shape} or is not finite, expected finite values, shape {shape}"
                )
            return values, None
        if seed is None:
            seed = secrets.randbelow(2**63)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
            raise InputError(f"seed is {seed!r}, expected an integer 0 <= seed < 2**63")
        generator = torch.Generator("cpu").manual_seed(int(seed))
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32).numpy()
        return drawn if self._noise_scale == 1 else drawn * np.float32(self._noise_scale), int(seed)


@dataclass(frozen=True)
class _Checked:
    """A request that passed all checks."""

    images: list[np.ndarray]
    state: np.ndarray
    num_steps: int
    n_action_steps: int
    noise: np.ndarray
    seed: int | None
    running: Running | None


@dataclass(frozen=True)
class _Seen:
    """The depth reasoning of one call."""

    request: Request
    decision: Decision
    outcome: DepthOutcome
    codes: Codes


def _merged(outcome: DepthOutcome, refreshed: np.ndarray, known: Codes | None) -> Codes:
    """This call's codes; reused cells keep the probability they were given and grow a call older."""
    if known is None:
        return Codes(outcome.codes, outcome.probs, np.zeros(refreshed.size, np.int64))
    probs = np.where(refreshed, outcome.probs, known.probs).astype(np.float32)
    return Codes(outcome.codes, probs, np.where(refreshed, 0, known.ages + 1))


def _count(name: str, value: Any, default: int, maximum: int) -> int:
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= maximum:
        raise InputError(f"{name} is {value!r}, expected an integer 1..{maximum}")
    return int(value)
