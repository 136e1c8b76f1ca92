# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Inference on an /act server: `molmoact2 serve`, or an existing one by the plain protocol. No torch, no ROS."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from molmoact2_contract import Contract
from molmoact2_model import InputError, fingerprint
from molmoact2_model.results import Trace
from molmoact2_model.serving.cameras import OF_TAG, PRESETS, read_names
from molmoact2_model.serving.client import CHANGED, ActClient, ActError, Answer, Server
from molmoact2_model.serving.extension import FAILED, NAME, REFUSED, TOKEN, Extra, SessionSettings
from molmoact2_model.serving.tokens import Token

from .backend import BackendError, Inference, Settings, Unanswered, refuse_running
from .continuity import Prefix
from .smoothing import Smoothing

ASK_WITHIN = 1.0    # [s]; questions beside inference, which the node's thread waits for
LASTING = (TOKEN, FAILED, CHANGED)    # what no other observation mends
NO_TRACE = "the plain /act protocol has no trace and takes no noise: nobody can see or repeat this inference"
SESSION = ("depth", "action_mode", "cache_policy", "full_refresh_every", "similarity_threshold", "max_gap", "rtc_beta",
           "noise_scale", "draft", "solver")
UNTRIED = ("unwatched", "graphs", "compiled")    # optimisations nobody has seen run on a GPU: for no robot that moves


@dataclass(frozen=True)
class Remote:
    """How to reach a server. timeout, connect_timeout [s]: for a whole answer, for a connection. images: raw, png or
    jpeg. image_keys: their names on a plain server, empty: by norm tag."""

    url: str
    token_file: str = ""
    timeout: float = 10.0
    connect_timeout: float = 2.0
    images: str = "raw"
    jpeg_quality: int = 95
    image_keys: str = ""


class ActBackend:
    """A server's engine. seeded: whether the user asked for one certain seed. simulation: whether the robot is one.

    What the server computes with (checkpoint, device, type, language weights, offload, threads, FAST tokenizer) is its
    own.
    """

    def __init__(
        self, settings: Settings, contract: Contract, remote: Remote, seeded: bool = False, simulation: bool = False
    ):
        self._settings, self._contract, self._remote, self._seeded = settings, contract, remote, seeded
        self._simulation = simulation
        self._tag = contract.norm_tag(settings.norm_tag)
        self.name, self.fingerprint = remote.url, ""
        self._client: ActClient | None = None
        self._server: Server | None = None
        self._names: tuple[str, ...] = ()
        self._session, self._numbers, self._because = uuid.uuid4().hex, itertools.count(1), ""
        self._waypoints = 0
        self._smoothing = Smoothing(settings.smoothing, self._tag.dt)
        rtc = "gradient" if settings.rtc == "off" else settings.rtc
        self._options = SessionSettings(rtc=rtc, **{name: getattr(settings, name) for name in SESSION})

    # --- configuring --------------------------------------------------------------------------------------------------
    def load(self) -> None:
        remote, settings = self._remote, self._settings
        for name in ("fast_tokenizer", "base_checkpoint", "optimizations", "language_weights", "offload"):
            own = getattr(Settings, name)    # the default
            if getattr(settings, name) != own:
                mend = f"give it to molmoact2 serve, set the parameter to {own!r}"
                raise BackendError(f"{name} is the server's own: {mend}")
        try:
            token = Token.from_file(remote.token_file) if remote.token_file else None
            self._client = ActClient(remote.url, token, remote.connect_timeout, remote.images, remote.jpeg_quality)
            self.name = self._client.address.url
            self._server = self._client.meet(remote.timeout)
            if self._server.offer is None:
                self._check_plain(self._server)
            else:
                self._check_offer(self._server)
            self._warm_up()
        except (ActError, Unanswered, InputError, ValueError) as error:
            raise BackendError(str(error)) from error

    def _check_offer(self, server: Server) -> None:
        offer, settings, joints = server.offer, self._settings, len(self._contract.joints)
        assert offer is not None
        tag = offer.tags.get(settings.norm_tag)
        if tag is None:
            raise BackendError(
                f"norm tag {settings.norm_tag!r} is not in {offer.checkpoint}; it has {sorted(offer.tags)}"
            )
        for what, values in (("state", tag.state_dim), ("action", tag.action_dim)):
            if values != joints:
                raise BackendError(
                    f"norm tag {settings.norm_tag!r} of {offer.checkpoint} has {values} {what} values, the contract "
                    f"{self._contract.path.name} has {joints} joints; choose the tag of this robot"
                )
        for name, value, there in (
            ("depth", settings.depth, offer.depth), ("action_mode", settings.action_mode, offer.action_modes)
        ):
            if value not in there:
                raise BackendError(f"{name} {value!r} is not offered by {self.name}; it offers {', '.join(there)}")
        untried = [name for name in offer.machine.get("optimizations", "").split(",") if name in UNTRIED]
        if untried and not self._simulation:
            raise BackendError(
                f"the server {self.name} runs with the optimisation {untried[0]}, which nobody has seen run on a GPU "
                "yet: it is for simulations and benchmarks, not for a robot that moves; start molmoact2 serve without "
                "it"
            )
        if offer.machine.get("offload", "none") != "none" and not self._simulation:
            raise BackendError(
                f"the server {self.name} runs with offload, which nobody has seen run on a GPU yet: it is for "
                "simulations and benchmarks, not for a robot that moves; start molmoact2 serve without it"
            )
        self._check_checkpoint(offer.checkpoint, offer.fingerprint)
        self.fingerprint = offer.fingerprint
        self._waypoints = settings.n_action_steps or offer.n_action_steps or tag.n_action_steps

    def _check_checkpoint(self, served: str, its_fingerprint: str) -> None:
        """A checkpoint that is named must be the one that is served."""
        wanted = self._settings.checkpoint
        if not wanted or wanted == served:
            return
        if Path(wanted).is_dir() and its_fingerprint and fingerprint(Path(wanted)) == its_fingerprint:
            return
        raise BackendError(
            f"the server {self.name} serves {served or 'a checkpoint that it does not name'}, parameter checkpoint is "
            f"{wanted}; serve that one, or set checkpoint to '' to take what is served"
        )

    def _check_plain(self, server: Server) -> None:
        """What the plain protocol cannot do is refused, all of it at once and with the mend."""
        settings, joints = self._settings, len(self._contract.joints)
        lacks = [
            text
            for there, text in (
                (settings.depth == "off", f"reason depth as asked (depth={settings.depth}): set depth=off"),
                (settings.action_mode == "continuous", "choose how actions are decoded: set action_mode=continuous"),
                (settings.solver == "euler", "choose how the flow is solved: set solver=euler"),
                (settings.noise_scale == 1, "scale the flow's noise: set noise_scale=1"),
                (settings.rtc == "off", "continue a running chunk: set rtc=off, and let arm_controller join by splice"),
                (not self._seeded, "take a seed: set seed=-1"),
            )
            if not there
        ]
        if lacks:
            raise BackendError(
                f"the server {self.name} speaks the plain /act protocol only, without traces; it cannot "
                f"{'; nor '.join(lacks)}; or serve the checkpoint with molmoact2 serve"
            )
        if server.norm_tag not in (None, settings.norm_tag):
            raise BackendError(f"the server {self.name} serves norm tag {server.norm_tag!r}, not {settings.norm_tag!r}")
        if server.state_dim not in (None, joints):
            raise BackendError(
                f"the server {self.name} takes {server.state_dim} state values, the contract "
                f"{self._contract.path.name} has {joints} joints"
            )
        if server.num_cameras not in (None, len(self._tag.cameras)):
            raise BackendError(
                f"the server {self.name} takes {server.num_cameras} images, norm tag {self._tag.name!r} of "
                f"{self._contract.path.name} has cameras {', '.join(self._tag.cameras)}"
            )
        if server.name is not None:
            self._check_checkpoint(server.name, "")
        self._names = self._image_names(server)

    def _image_names(self, server: Server) -> tuple[str, ...]:
        """Of the images on a plain server. The general kind takes a list of them."""
        if self._remote.image_keys:
            names = read_names(self._remote.image_keys)
        elif self._tag.name in OF_TAG:
            names = PRESETS[OF_TAG[self._tag.name]]
        elif server.num_cameras is None:
            return ()
        else:
            raise BackendError(
                f"how the server {self.name} names its images is not known for norm tag {self._tag.name!r}; set "
                f"server_image_keys, to a,b,c or one of {', '.join(PRESETS)}"
            )
        if len(names) != len(self._tag.cameras):
            raise BackendError(
                f"server_image_keys {', '.join(names)}: norm tag {self._tag.name!r} of {self._contract.path.name} has "
                f"{len(self._tag.cameras)} cameras"
            )
        return names

    def _warm_up(self) -> None:
        """Inference on grey frames, which finds out whether all works before a robot waits for it."""
        grey = [np.full((240, 320, 3), 128, np.uint8)] * len(self._tag.cameras)
        state = np.zeros(len(self._contract.joints), np.float32)
        first = self.infer(grey, state, "warm up", 0).actions
        if self._settings.action_mode == "continuous" and self._settings.rtc != "off":
            self.infer(grey, state, "warm up", 0, Prefix(first, 1, len(first)))
        self.reset()

    # --- running ------------------------------------------------------------------------------------------------------
    def infer(
        self,
        images: Sequence[np.ndarray],
        state: np.ndarray,
        instruction: str,
        seed: int | None,
        prefix: Prefix | None = None,
    ) -> Inference:
        assert self._client is not None and self._server is not None
        refuse_running(self._settings, prefix)
        extra = None if self._server.offer is None else self._extra(seed, prefix)
        try:
            answer = self._client.act(
                images, state, instruction, within=self._remote.timeout, names=self._names,
                tag=self._settings.norm_tag if extra else "", num_steps=self._settings.num_steps,
                n_action_steps=self._waypoints or self._settings.n_action_steps, dim=len(self._contract.joints),
                extra=extra,
            )
        except ActError as error:
            if error.lost:    # else the server's depth memory would be a frame ahead of what was seen here
                self._because = self._because or "call_failed"
            if error.kind in LASTING:
                raise BackendError(str(error)) from error
            raise Unanswered(error.kind, str(error), error.passing) from error
        self._because = ""
        actions = self._smoothing(answer.actions, prefix.frozen if prefix and answer.guided else 0)
        return Inference(actions, _trace(answer), answer.flow_steps, answer.guided)

    def _extra(self, seed: int | None, prefix: Prefix | None) -> Extra:
        continuous = self._settings.action_mode == "continuous"
        return Extra(
            request=f"{self._session[:8]}-{next(self._numbers)}",
            session=self._session,
            settings=self._options,
            reset=self._because,
            seed=seed if continuous else None,
            prefix=prefix.actions if prefix else None,
            frozen=prefix.frozen if prefix else 0,
            overlap=prefix.overlap if prefix else None,
        )

    def check_instruction(self, instruction: str) -> None:
        if not instruction.strip():
            raise ValueError("the instruction is blank; say what the robot should do")
        if self._client is None or self._server is None or self._server.offer is None:
            return
        tag, depth = self._settings.norm_tag, self._settings.depth
        try:
            self._client.check_instruction(instruction, tag, len(self._tag.cameras), depth, ASK_WITHIN)
        except ActError as error:
            cannot = "" if error.kind == REFUSED else "the instruction could not be checked, and is not taken: "
            raise ValueError(f"{cannot}{error}") from error

    def reset(self, because: str = "reset") -> None:
        """The next request tells the server, and finds out anew whether it is the one that was met."""
        self._because = because
        if self._client is not None:
            self._client.doubt()

    def facts(self) -> dict[str, str]:
        settings = {name: str(value) for name, value in asdict(self._settings).items()}
        facts = settings | self._smoothing.facts() | {"act": "plain", "act_images": self._remote.images}
        if self._server is None:
            return facts
        offer = self._server.offer
        if offer is None:
            return facts | {"checkpoint": self._server.name or self._settings.checkpoint}
        return facts | dict(offer.machine) | {
            "act": NAME, "checkpoint": offer.checkpoint, "num_steps": str(self._settings.num_steps or offer.num_steps),
            "n_action_steps": str(self._settings.n_action_steps or offer.n_action_steps),
        }

    def close(self) -> None:
        """Ends the session on the server, where that can be told quickly."""
        if self._client is None:
            return
        if self._server is not None and self._server.offer is not None:
            with contextlib.suppress(ActError):    # it forgets what is not used
                self._client.forget(self._session, ASK_WITHIN)
        self._client.close()
        self._client = None


def _trace(answer: Answer) -> Trace:
    """As the server tells it. total: as it is seen from here; transport: what of that the server did not take."""
    if answer.trace is None:
        return _untold(answer.seconds)
    timings, total = answer.trace.timings, max(answer.seconds, answer.trace.timings["total"])
    return replace(answer.trace, timings=timings | {"transport": total - timings["total"], "total": total})


def _untold(seconds: float) -> Trace:
    none = np.empty(0, np.int64)
    return Trace(
        prompt="", input_ids=none, generated_token_ids=none, depth_codes=none, refreshed=none.astype(bool),
        cell_ages=none, code_probs=none.astype(np.float32), depth_mode="off", cause="", decoder_steps=0, reused_runs=0,
        seed=None, timings={"total": seconds}, warnings=(NO_TRACE,),
    )
