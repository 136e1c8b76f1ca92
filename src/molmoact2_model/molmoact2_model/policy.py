# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The public API: a policy is a loaded checkpoint, a session is one robot (or one stream of episodes) that
asks it for actions. All values are in the checkpoint's own frame and units; converting them to a robot's is
the caller's work.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import torch
from tokenizers import Tokenizer

from .checkpoint import DTYPES, Network, fill_network
from .config import ModelConfig
from .engine import Engine
from .engine_options import EULER, LIBRARY, NO_OFFLOAD, STORED, EngineOptions, check_kept, check_noise_scale
from .errors import InputError
from .fast import FastTokenizer
from .fused_network import Fused
from .guidance import MODES, check_beta
from .images import ImageConfig, load_image_config
from .lerobot_checkpoint import open_checkpoint
from .normalization import NormStats
from .optimizations import ARITHMETIC, SHARED, Optimizations
from .processing import PromptBuilder, check_vocabulary, load_tokenizer
from .results import InferenceResult, Trace
from .session import Session
from .think import SIMILARITY_THRESHOLD, Bounds, check_threshold, make_policy

__all__ = ["InferenceResult", "MolmoAct2Policy", "Session", "Trace"]

DEPTH_MODES = ("off", "full", "adaptive", "verified")
ACTION_MODES = ("continuous", "discrete")
CACHE_POLICIES = ("bounded", "reference")


class MolmoAct2Policy:
    """A loaded checkpoint. Sessions share its weights."""

    def __init__(
        self,
        network: Network,
        images: ImageConfig,
        stats: NormStats,
        tokenizer: Tokenizer,
        name: str,
        optimizations: Optimizations = SHARED,
    ) -> None:
        """optimizations: of its sessions. The fused ones are for a network that is the policy's own."""
        self.optimizations, self._fused = optimizations, Fused()
        self._fusing = threading.Lock()
        self.network = network
        self.images = images
        self.stats = stats
        self.tokenizer = tokenizer
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        base_checkpoint: str | Path | None = None,
        optimizations: Optimizations | None = None,
        language_weights: str = STORED,
        offload: str = NO_OFFLOAD,
    ) -> MolmoAct2Policy:
        """Loads a checkpoint in the released layout, or one that LeRobot saved, from a folder or from a Hub id
        (`owner/name[@revision]`).

        device: a torch device ("cpu", "cuda", "cuda:1"); dtype: "float32", "bfloat16" or "float16".
        base_checkpoint: of LeRobot's, the checkpoint it began from, where that lies elsewhere than it says.
        optimizations: what its sessions do for speed (None: all that are on by default). language_weights: of the
        language model's blocks, "stored", or "int8" or "nf4" in less memory, which moves codes and actions
        (docs/performance.md). offload: "language" leaves these blocks in main memory, for a small GPU. Runs no code
        from the checkpoint. CheckpointError says what is missing or does not fit; InputError names a device, type or
        library that is not there, and optimizations that would do nothing or cannot be together.
        """
        torch_device, torch_dtype = find_device(device), _dtype(dtype)
        wanted = Optimizations() if optimizations is None else optimizations
        options = EngineOptions(optimizations=wanted.text(), language_weights=language_weights, offload=offload)
        options.check_device(device)
        source = open_checkpoint(path_or_hub_id, base_checkpoint)
        images = load_image_config(source.files, source.config.vision)
        tokenizer = load_tokenizer(source.files)
        check_vocabulary(source.config, tokenizer)
        with ExitStack() as stack:
            network = fill_network(
                source.weights(stack), source.config, torch_device, torch_dtype, language_weights, offload
            )
        return cls(network, images, source.stats, tokenizer, str(path_or_hub_id), wanted)

    @property
    def config(self) -> ModelConfig:
        return self.network.config

    @property
    def norm_tags(self) -> tuple[str, ...]:
        return self.stats.tags

    def session(
        self,
        *,
        norm_tag: str,
        depth: str = "off",
        action_mode: str = "continuous",
        cache_policy: str = "bounded",
        full_refresh_every: int | None = None,
        similarity_threshold: float = SIMILARITY_THRESHOLD,
        fast_tokenizer: str | Path | None = None,
        max_gap: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        rtc: str = "gradient",
        rtc_beta: float = 5.0,
        noise_scale: float = 1.0,
        draft: bool = False,
        beside: Session | None = None,
        solver: str = EULER,
        optimizations: Optimizations | None = None,
    ) -> Session:
        """Opens a session; InputError (or CheckpointError) for what this checkpoint cannot do.

        norm_tag: the embodiment, one of `norm_tags`. depth: "off", "full" (every code anew at each call), "verified"
        (the same codes, with the last call's as a draft: Engine.verify_depth) or "adaptive" (only cells that changed).
        draft: "adaptive" too generates by draft and verify. cache_policy: of adaptive depth, "bounded"
        (think.BoundedPolicy) or "reference" (the reference rule alone). similarity_threshold: a cell that is
        less alike than that to the last call's is generated anew. full_refresh_every: with "bounded", a full
        pass at least every that many calls.
        fast_tokenizer: folder, for "discrete". max_gap [s]: with "bounded", a longer pause between calls
        forces a full pass. clock: monotonic seconds. rtc: how a call with a `prefix` continues it, "gradient" or
        "replace" (guidance.py); rtc_beta: the largest guidance factor of "gradient". noise_scale: of the noise that
        calls draw, 1 as released, down to NOISE_SCALES[0]: the less, the nearer chunks lie to the middle of those that
        the model might do. beside: a session of this policy that is used in the same thread; what both are shown is
        then seen and prefilled once. solver: of the flow, "euler" as released, or "midpoint" or "heun", which ask the
        expert twice a step (flow.py). optimizations: others than the policy's, where there is no session beside; they
        are taken on any device, so that on a processor the steps of a GPU can be tested.
        """
        if rtc not in MODES:
            raise InputError(f"rtc is {rtc!r}, expected one of {list(MODES)}")
        self._check_modes(depth, action_mode, cache_policy, full_refresh_every, max_gap)
        EngineOptions(draft, solver).check_session(depth, action_mode)
        check_noise_scale(noise_scale, action_mode)
        check_threshold(similarity_threshold)
        tag = self.stats.tag(norm_tag)
        if self.config.n_obs_steps - 1 + tag.n_action_steps > tag.horizon:
            raise InputError(
                f"tag {norm_tag!r}: {tag.n_action_steps} actions after {self.config.n_obs_steps} observation "
                f"steps do not fit its horizon of {tag.horizon}"
            )
        fast = None
        if action_mode == "discrete":
            fast = self._fast(fast_tokenizer)
        prompts = PromptBuilder(self.config, self.images, self.tokenizer, tag)
        bounds = Bounds(max_gap=max_gap, full_refresh_every=full_refresh_every)
        wanted = self.optimizations if optimizations is None else optimizations
        check_kept(wanted, self.network.language_weights, self.network.offload)
        engine = self._engine(wanted) if beside is None else beside.engine
        beta = check_beta(rtc_beta)
        cache = None
        if depth == "adaptive" and self.config.depth is not None:
            cache = make_policy(cache_policy, self.config.depth.grid[0], bounds, similarity_threshold)
        watched = not wanted.unwatched
        return Session(engine, prompts, tag, depth, draft, fast, cache, clock, rtc, beta, solver, watched, noise_scale)

    def _engine(self, wanted: Optimizations) -> Engine:
        with self._fusing:    # weights are rearranged once, whoever opens sessions at the same time
            engine = Engine(self.network, self.images, wanted, self._fused)
            self._fused = engine.fused
        return engine

    def _check_modes(
        self, depth: str, action_mode: str, cache_policy: str, full_refresh_every: int | None, max_gap: float
    ) -> None:
        for name, value, allowed in (
            ("depth", depth, DEPTH_MODES),
            ("action_mode", action_mode, ACTION_MODES),
            ("cache_policy", cache_policy, CACHE_POLICIES),
        ):
            if value not in allowed:
                raise InputError(f"{name} is {value!r}, expected one of {list(allowed)}")
        if depth != "off" and self.config.depth is None:
            raise InputError(
                f"depth={depth!r} was asked of a checkpoint without depth reasoning (config.json: "
                "enable_depth_reasoning is false); use depth='off' or a Think checkpoint"
            )
        if depth == "adaptive" and self.config.depth is not None and not self.config.depth.is_square:
            raise InputError(
                f"adaptive depth needs a square grid, the checkpoint has {self.config.depth.num_codes} codes"
            )
        if action_mode == "continuous" and not self.config.supports_continuous:
            why = f"action_mode is {self.config.trained_mode!r}" if self.config.expert else "add_action_expert is false"
            raise InputError(
                f"this checkpoint has no continuous actions (config.json: {why}); use action_mode='discrete'"
            )
        if action_mode == "discrete" and not self.config.supports_discrete:
            why = f"action_mode is {self.config.trained_mode!r}" if self.config.action_tokens else "no action token ids"
            raise InputError(
                f"this checkpoint has no discrete actions (config.json: {why}); use action_mode='continuous'"
            )
        if full_refresh_every is not None:
            if (
                isinstance(full_refresh_every, bool)
                or not isinstance(full_refresh_every, int)
                or full_refresh_every < 1
            ):
                raise InputError(
                    f"full_refresh_every is {full_refresh_every!r}, expected None or an integer >= 1"
                )
            if cache_policy == "reference":
                raise InputError(
                    "full_refresh_every needs cache_policy='bounded'; the reference rule has no such limit"
                )
        if not max_gap > 0:
            raise InputError(f"max_gap is {max_gap!r}, expected seconds > 0")

    def _fast(self, folder: str | Path | None) -> FastTokenizer:
        if folder is None:
            raise InputError("action_mode='discrete' needs fast_tokenizer, the folder of a FAST tokenizer")
        fast, actions = FastTokenizer.from_folder(folder), self.config.action_tokens
        assert actions is not None
        if fast.vocab_size > actions.count:
            raise InputError(
                f"the FAST tokenizer has {fast.vocab_size} tokens, the checkpoint {actions.count} for actions"
            )
        return fast


def set_threads(count: int) -> None:
    """How many processor threads the engine uses, in this process."""
    torch.set_num_threads(count)


def machine(device: str, language_weights: str = STORED) -> dict[str, str]:
    """What the last bits of a result depend on besides its inputs: torch, processor, the engine and its threads, and
    what keeps language weights in few bits."""
    if torch.device(device).type == "cuda":
        processor = torch.cuda.get_device_name(torch.device(device))
    else:
        processor = f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"
    threads = str(torch.get_num_threads())
    found = {"torch": torch.__version__, "processor": processor, "threads": threads, "engine": ARITHMETIC}
    return found if language_weights == STORED else found | {LIBRARY: version(LIBRARY)}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def find_device(name: str) -> torch.device:
    """Errors: InputError for one that is not here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is not a torch device such as 'cpu' or 'cuda'") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} was asked for, but torch {torch.__version__} sees no CUDA device")
    return device


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise InputError(f"dtype is {name!r}, expected one of {list(DTYPES)}")
    return DTYPES[name]
