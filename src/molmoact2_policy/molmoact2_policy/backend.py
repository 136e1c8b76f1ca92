# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where inference happens: the engine in this process (here), or a server (act_backend.py)."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from molmoact2_contract import Contract
from molmoact2_model import EngineOptions

from .continuity import Prefix
from .smoothing import Smoothing


class BackendError(RuntimeError):
    """The backend cannot be made ready or failed; the text names the thing and the mend."""


class Unanswered(Exception):
    """There is no action for this one observation; the next may be well. kind: a word to count by.

    passing: it may last and yet pass by itself, as a server that is away may come back: no failure of the policy.
    """

    def __init__(self, kind: str, text: str, passing: bool = False):
        super().__init__(text)
        self.kind, self.passing = kind, passing


@dataclass(frozen=True)
class Settings:
    """What to run. All but threads and rtc "off" as in the model library; 0 or empty: its default.

    threads: of the processor, 0: all cores but one. rtc "off": no chunk continues the running one. smoothing: of chunks
    [s], 0: none.
    """

    checkpoint: str
    norm_tag: str
    depth: str = "off"
    action_mode: str = "continuous"
    cache_policy: str = "bounded"
    full_refresh_every: int = 0
    similarity_threshold: float = 0.996
    max_gap: float = 5.0
    fast_tokenizer: str = ""
    base_checkpoint: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    rtc: str = "gradient"
    rtc_beta: float = 5.0
    noise_scale: float = 1.0
    num_steps: int = 0
    n_action_steps: int = 0
    smoothing: float = 0.0
    threads: int = 0
    draft: bool = False
    solver: str = "euler"
    optimizations: str = ""
    language_weights: str = "stored"
    offload: str = "none"


@dataclass(frozen=True)
class Inference:
    """actions: float32 (H, D) in the checkpoint's frame; trace: the library's Trace; flow_steps: 0 where discrete;
    guided: whether the running chunk was continued."""

    actions: np.ndarray
    trace: Any
    flow_steps: int
    guided: bool = False


class Backend(Protocol):
    """One at a time; called from the inference thread only."""

    name: str
    fingerprint: str    # of the checkpoint, once it is loaded

    def load(self) -> None:
        """Makes ready and warms up. Errors: BackendError."""

    def infer(
        self,
        images: Sequence[np.ndarray],
        state: np.ndarray,
        instruction: str,
        seed: int | None,
        prefix: Prefix | None = None,
    ) -> Inference:
        """prefix: the running chunk to continue. Errors: Unanswered, BackendError."""

    def check_instruction(self, instruction: str) -> None:
        """Errors: ValueError for one that cannot be followed, in words."""

    def reset(self, because: str = "reset") -> None:
        """Forgets what was seen; `because` is the cause that the next full depth pass names."""

    def facts(self) -> dict[str, str]:
        """What its results depend on besides their inputs, once it is loaded."""

    def close(self) -> None: ...


def refuse_running(settings: Settings, prefix: Prefix | None) -> None:
    """A controller that joins by rtc takes a chunk for a continuation. Errors: Unanswered where it would be none."""
    if prefix is not None and settings.rtc == "off":
        raise Unanswered(
            "rtc_off",
            "a controller joins chunks by rtc, and the policy's parameter rtc is off: set joining of arm_controller to "
            "splice or ensemble, or rtc of the policy to gradient",
        )


class InProcessBackend:
    """The engine in this process. clock: monotonic [s]; by it the engine knows how long it has not looked."""

    name = "in_process"

    def __init__(self, settings: Settings, contract: Contract, clock: Callable[[], float] = time.monotonic):
        self._settings, self._contract, self._clock = settings, contract, clock
        self._smoothing = Smoothing(settings.smoothing, contract.norm_tag(settings.norm_tag).dt)
        self.fingerprint = ""
        self._policy: Any = None
        self._session: Any = None

    def load(self) -> None:
        settings = self._settings
        from molmoact2_model import ModelError, MolmoAct2Policy, find_checkpoint, fingerprint, set_threads

        # Leaves a core to the setpoints of the arm.
        set_threads(settings.threads or max(1, (os.cpu_count() or 2) - 1))
        options = EngineOptions.of(settings)
        try:
            options.check(settings.depth, settings.action_mode, settings.device)
            self._policy = MolmoAct2Policy.from_pretrained(
                settings.checkpoint,
                device=settings.device,
                dtype=settings.dtype,
                base_checkpoint=settings.base_checkpoint or None,
                optimizations=options.switches(),
                language_weights=options.language_weights,
                offload=options.offload,
            )
            self._session = self._policy.session(
                norm_tag=settings.norm_tag,
                depth=settings.depth,
                action_mode=settings.action_mode,
                cache_policy=settings.cache_policy,
                full_refresh_every=settings.full_refresh_every or None,
                similarity_threshold=settings.similarity_threshold,
                max_gap=settings.max_gap,
                fast_tokenizer=settings.fast_tokenizer or None,
                rtc="gradient" if settings.rtc == "off" else settings.rtc,
                rtc_beta=settings.rtc_beta,
                noise_scale=settings.noise_scale,
                clock=self._clock,
                draft=options.draft,
                solver=options.solver,
            )
            self._warm_up()
            self.fingerprint = fingerprint(find_checkpoint(settings.checkpoint))
        except (ModelError, Unanswered) as error:
            raise BackendError(str(error)) from error

    def _warm_up(self) -> None:
        """Inference on grey frames, so that the first real one is not slow; also finds a wrong number of joints."""
        tag = self._contract.norm_tag(self._settings.norm_tag)
        stats, joints = self._policy.stats.tag(self._settings.norm_tag), len(self._contract.joints)
        for what, values in (("state", stats.state.dim), ("action", stats.action.dim)):
            if joints != values:
                raise BackendError(
                    f"norm tag {tag.name!r} of {self._settings.checkpoint} has {values} {what} values, the contract "
                    f"{self._contract.path.name} has {joints} joints; choose the tag of this robot"
                )
        grey = [np.full((240, 320, 3), 128, np.uint8)] * len(tag.cameras)
        state = np.zeros(joints, np.float32)
        first = self.infer(grey, state, "warm up", None).actions
        if self._settings.action_mode == "continuous" and self._settings.rtc != "off":
            self.infer(grey, state, "warm up", None, Prefix(first, 1, len(first)))
        self._session.reset()

    def infer(
        self,
        images: Sequence[np.ndarray],
        state: np.ndarray,
        instruction: str,
        seed: int | None,
        prefix: Prefix | None = None,
    ) -> Inference:
        from molmoact2_model import DecodeError, InputError, ModelError

        settings = self._settings
        refuse_running(settings, prefix)
        continuous = settings.action_mode == "continuous"
        try:
            result = self._session.infer(
                images=list(images),
                state=state,
                instruction=instruction,
                num_steps=settings.num_steps or None,
                n_action_steps=settings.n_action_steps or None,
                seed=seed if continuous else None,
                prefix=prefix.actions if prefix else None,
                frozen=prefix.frozen if prefix else 0,
                overlap=prefix.overlap if prefix else None,
            )
        except DecodeError as error:
            raise Unanswered("not_decoded", str(error)) from error
        except InputError as error:
            raise Unanswered("input_refused", str(error)) from error
        except ModelError as error:
            raise BackendError(str(error)) from error
        steps = (settings.num_steps or self._policy.config.flow.num_steps) if continuous else 0
        guided = continuous and prefix is not None
        actions = self._smoothing(result.actions, prefix.frozen if prefix and guided else 0)
        return Inference(actions, result.trace, steps, guided)

    def check_instruction(self, instruction: str) -> None:
        self._session.check_instruction(instruction, len(self._contract.norm_tag(self._settings.norm_tag).cameras))

    def reset(self, because: str = "reset") -> None:
        self._session.reset(because)

    def facts(self) -> dict[str, str]:
        from molmoact2_model import machine

        settings = {name: str(value) for name, value in asdict(self._settings).items()}
        computed = machine(self._settings.device, self._settings.language_weights)
        return settings | computed | self._smoothing.facts()

    def close(self) -> None:
        """Frees the memory of the checkpoint."""
        self._policy = self._session = None
        gc.collect()
