# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the server does, without HTTP: requests in, answers out, over one engine thread."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..fast import FILES, FastTokenizer
from ..fingerprints import fingerprint as fingerprint_of
from ..policy import MolmoAct2Policy, machine
from ..results import InferenceResult
from ..session import Session
from . import checks
from .cameras import Cameras
from .engine_thread import EngineThread
from .extension import KEY, NAME, Offer, SessionSettings, TagOffer, write_offer
from .fields import MOST_IMAGES, ActRequest, Expected, read_request
from .sessions import Sessions
from .traces import write_trace
from .wire import WireError, loads

WARM_UP = (180, 320, 3)
CHECK_FIELDS = ("norm_tag", "instruction", "num_images", "depth")


@dataclass(frozen=True)
class ServeOptions:
    """What the server does where a request does not say. num_steps, n_action_steps: 0: the checkpoint's, the tag's.
    patience [s]: a request waits no longer for its turn. most_bytes: of a body. image_keys: empty: by norm tag."""

    tag: str
    settings: SessionSettings = SessionSettings()
    num_steps: int = 0
    n_action_steps: int = 0
    image_keys: tuple[str, ...] = ()
    fast_tokenizer: Path | None = None
    patience: float = 30.0
    most_bytes: int = 32 * 2**20


class Service:
    """Thread-safe: the engine and its sessions are touched in the engine's thread alone.

    Errors of the constructor: InputError for options that the checkpoint cannot do, CheckpointError for a FAST
    tokenizer that cannot be read.
    """

    def __init__(self, policy: MolmoAct2Policy, fingerprint: str, options: ServeOptions):
        self._policy, self.options = policy, options
        self.server = uuid.uuid4().hex
        self._fingerprint = fingerprint
        tags = {tag: policy.stats.tag(tag) for tag in policy.norm_tags}
        self._tags = tags
        self.expected = Expected(
            cameras={tag: Cameras(tag, stats.camera_keys, options.image_keys) for tag, stats in tags.items()},
            default_tag=options.tag,
            n_obs_steps=policy.config.n_obs_steps,
            settings=options.settings,
        )
        self._sessions = Sessions(policy, options.tag, options.fast_tokenizer)
        self._fast = _about_tokenizer(options.fast_tokenizer)
        if "discrete" in self._modes:    # a tokenizer that does not fit is refused before anybody asks
            self._sessions.fresh(options.tag, replace(options.settings, action_mode="discrete"))
        self._stateless = {options.tag: self._sessions.fresh(options.tag, options.settings)}
        self._orders = itertools.count()
        self.engine = EngineThread()

    # --- about itself -------------------------------------------------------------------------------------------------
    def about(self) -> dict[str, Any]:
        """The answer to GET /act: the fields of existing servers, names of cameras, and the extension's offer."""
        tag = self._tags[self.options.tag]
        return {
            "status": "ok", "repo_id": self._policy.name, "norm_tag": tag.tag, "device": self._device,
            "dtype": self._dtype, "num_cameras": self._num_cameras(tag.tag), "state_dim": tag.state.dim,
            "image_keys": [list(order) for order in self.expected.cameras[tag.tag].orders], KEY: self._offer(),
        }

    def health(self) -> dict[str, Any]:
        """The answer to GET /health."""
        options, tag = self.options, self._tags[self.options.tag]
        return {
            "status": "ok", "device": self._device, "num_steps": self._steps(None),
            "default_num_steps": self._steps(None), "modes": list(self._modes),
            "n_obs_steps": self._policy.config.n_obs_steps,
            "n_action_steps": options.n_action_steps or tag.n_action_steps,
            "inference_action_mode": options.settings.action_mode,
            "enable_depth_reasoning": options.settings.depth != "off",
            "default_style": self._style, "default_norm_tag": tag.tag, "session_count": self.session_count,
        }

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    @property
    def _device(self) -> str:
        return str(self._policy.network.device)

    @property
    def _dtype(self) -> str:
        return str(self._policy.network.dtype)

    @property
    def _style(self) -> str:
        return "robot_action" if self.options.settings.depth == "off" else "robot_depth_action"

    @property
    def _modes(self) -> tuple[str, ...]:
        """Of decoding actions."""
        config = self._policy.config
        modes = {
            "continuous": config.supports_continuous,
            "discrete": config.supports_discrete and self.options.fast_tokenizer is not None,
        }
        return tuple(name for name, there in modes.items() if there)

    def _num_cameras(self, tag: str) -> int:
        orders = self.expected.cameras[tag].orders
        return len(orders[0]) if orders else 0

    def _offer(self) -> dict[str, Any]:
        config, options = self._policy.config, self.options
        depth = ["off"] if config.depth is None else ["off", "full", "adaptive", "verified"]
        weights = self._policy.network.language_weights
        facts = {
            "device": self._device, "dtype": self._dtype.removeprefix("torch."), **machine(self._device, weights),
            "optimizations": self._policy.optimizations.text(), "language_weights": weights,
            "offload": self._policy.network.offload, **self._fast,
        }
        tags = {
            name: TagOffer(
                tag.state.dim, tag.action.dim, self._num_cameras(name), tag.horizon, tag.n_action_steps,
                (tag.horizon, config.max_action_dim),
            )
            for name, tag in self._tags.items()
        }
        return write_offer(
            Offer(
                self.server, self._policy.name, self._fingerprint, tags, tuple(depth),
                self._modes, options.num_steps, options.n_action_steps, options.most_bytes, facts,
            )
        )

    # --- requests -----------------------------------------------------------------------------------------------------
    def order(self) -> int:
        """A number for a request that arrives now; of two of one session the later is the newer."""
        return next(self._orders)

    def read(self, body: bytes | bytearray) -> ActRequest:
        """Errors: WireError."""
        return read_request(body, self.expected)

    def submit(self, request: ActRequest, order: int, arrived: float) -> Future:
        """The answer, a dict for `wire.dumps`. arrived [s]: on time.monotonic, before its body was read. Errors, in the
        future: NotRun, ModelError."""
        extra = request.extra
        session = extra.session if extra else request.session
        patience = self.options.patience
        within = patience
        if extra is not None and extra.deadline is not None:
            within = min(extra.deadline - (time.monotonic() - arrived), patience)
        return self.engine.submit(
            session if request.keeps else None, order, lambda: self._answer(request, session), within
        )

    def reset(self, body: bytes | bytearray) -> Future:
        """The answer to POST /reset. Errors: WireError; in the future: NotRun."""
        fields = checks.mapping(loads(body), "the body")
        checks.only(fields, ("session_id", "prefix"), "the request")
        name = next((fields[key] for key in ("session_id", "prefix") if isinstance(fields.get(key), str)), "").strip()
        if not name:
            raise WireError("missing required field: 'session_id'")
        prefix = bool(fields.get("prefix"))
        return self.engine.submit(
            None, self.order(), lambda: {"status": "ok", "removed": self._sessions.remove(name, prefix)},
            self.options.patience,
        )

    def check(self, body: bytes | bytearray) -> dict[str, Any]:
        """The answer to POST /check: whether an instruction can be followed. Errors: WireError, InputError."""
        fields = checks.mapping(loads(body), "the body")
        checks.only(fields, CHECK_FIELDS, "the request")
        tag = checks.text(fields.get("norm_tag", self.options.tag), "norm_tag")
        instruction = checks.text(fields.get("instruction"), "instruction")
        count = checks.whole(fields.get("num_images", 1), "num_images", 1, MOST_IMAGES)
        depth = checks.text(fields.get("depth", "off"), "depth")
        # It only builds a prompt; the engine is not touched.
        settings = replace(self.options.settings, depth=depth, draft=False)
        self._sessions.fresh(tag, settings).check_instruction(instruction, count)
        return {"status": "ok"}

    def warm_up(self) -> None:
        """One inference on grey frames. Errors: ModelError."""
        cameras = self._num_cameras(self.options.tag) or 1
        state = np.zeros(self._tags[self.options.tag].state.dim, np.float32)
        images = (np.full(WARM_UP, 128, np.uint8),) * cameras
        request = ActRequest(images, state, "warm up", self.options.tag, None, None, False, False, False, "", None)
        self.engine.submit(None, self.order(), lambda: self._answer(request, ""), 3600.0).result()

    def close(self) -> None:
        self.engine.close()

    # --- the engine's thread ------------------------------------------------------------------------------------------
    def _answer(self, request: ActRequest, name: str) -> dict[str, Any]:
        began = time.perf_counter()
        settings = request.settings or self.options.settings
        if not request.keeps:
            result = self._infer(self._forgetful(request.tag), request, settings)
            return self._form(request, settings, result, began)
        held = self._sessions.named(name, request.tag, settings)
        if request.extra is not None and request.extra.reset:
            held.session.reset(request.extra.reset)
        if not request.single:
            held.queue.clear()
            return self._form(request, settings, self._infer(held.session, request, settings), began)
        calls = 0
        if not held.queue or held.instruction != request.instruction:
            held.queue.clear()
            result = self._infer(held.session, request, settings)
            held.queue.extend(result.actions)
            held.instruction, held.codes, calls = request.instruction, result.trace.depth_codes, 1
        action = held.queue.popleft()
        answer = {
            "style": self._style, "action": action.tolist(), "action_shape": [1, len(action)],
            "latency_ms": round(1000 * (time.perf_counter() - began)), "inference_calls": calls,
        }
        return {**answer, **_depth(held.codes, True)} if held.codes.size else answer

    def _forgetful(self, tag: str) -> Session:
        """The session of those who have none: it remembers nothing from one call to the next."""
        if tag not in self._stateless:
            self._stateless[tag] = self._sessions.fresh(tag, self.options.settings)
        self._stateless[tag].reset()
        return self._stateless[tag]

    def _infer(self, session: Session, request: ActRequest, settings: SessionSettings) -> InferenceResult:
        extra = request.extra
        drawn = extra is not None and settings.action_mode == "continuous"
        return session.infer(
            images=list(request.images),
            state=request.state,
            instruction=request.instruction,
            num_steps=request.num_steps or self.options.num_steps or None,
            n_action_steps=request.n_action_steps or self.options.n_action_steps or None,
            noise=extra.noise if extra and drawn else None,
            seed=extra.seed if extra and drawn else None,
            prefix=extra.prefix if extra else None,
            frozen=extra.frozen if extra else 0,
            overlap=extra.overlap if extra else None,
        )

    def _steps(self, asked: int | None) -> int:
        return asked or self.options.num_steps or self._policy.config.flow.num_steps

    def _form(
        self, request: ActRequest, settings: SessionSettings, result: InferenceResult, began: float
    ) -> dict[str, Any]:
        took, trace = 1000 * (time.perf_counter() - began), result.trace
        if request.general:
            answer: dict[str, Any] = {
                "style": self._style, "actions": result.actions.tolist(), "action_shape": [1, *result.actions.shape],
                "latency_ms": round(took),
            }
            if request.keeps:
                answer["inference_calls"] = 1
            if trace.depth_codes.size:
                answer |= _depth(trace.depth_codes, request.keeps)
            return answer
        answer = {"actions": result.actions, "dt_ms": took}
        if request.extra is not None:
            continuous = settings.action_mode == "continuous"
            answer[KEY] = {
                "name": NAME, "server": self.server, "request": request.extra.request,
                "session": request.extra.session, "guided": continuous and request.extra.prefix is not None,
                "flow_steps": self._steps(request.num_steps) if continuous else 0, "trace": write_trace(trace),
            }
        return answer


def _depth(codes: np.ndarray, keeps: bool) -> Mapping[str, Any]:
    """Depth codes as the general kind of server names them."""
    listed = codes.tolist()
    return {"depth_buffer_codes": listed} if keeps else {"depth_predictions": listed, "depth_shape": [1, len(listed)]}


def _about_tokenizer(folder: Path | None) -> dict[str, str]:
    """Errors: CheckpointError."""
    if folder is None:
        return {}
    FastTokenizer.from_folder(folder)
    return {"fast_tokenizer_digest": fingerprint_of(folder.expanduser(), FILES)}
