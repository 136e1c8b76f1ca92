# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What `molmoact2 serve` speaks beyond the plain `/act` protocol, under the key "molmoact2" of requests and answers.

A client finds it in the answer to `GET /act`. A client that does not know it sends and gets the plain protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ..engine_options import EULER
from . import checks
from .wire import WireError, short

KEY = "molmoact2"
NAME = "molmoact2_act.v1"
# Codes of errors, beside their text: what went wrong, for a program.
REFUSED, NOT_DECODED, FAILED = "input_refused", "not_decoded", "failed"
TOKEN, TOO_LARGE, SUPERSEDED, BUSY, LATE, STOPPING = "token", "too_large", "superseded", "busy", "late", "stopping"
MOST_WAYPOINTS = 1000
MOST_DIMENSIONS = 256


@dataclass(frozen=True)
class SessionSettings:
    """How a session of the engine is opened: the options of MolmoAct2Policy.session that a client may choose."""

    depth: str = "off"
    action_mode: str = "continuous"
    cache_policy: str = "bounded"
    full_refresh_every: int = 0
    similarity_threshold: float = 0.996
    max_gap: float = 5.0
    rtc: str = "gradient"
    rtc_beta: float = 5.0
    noise_scale: float = 1.0
    draft: bool = False
    solver: str = EULER

    def options(self) -> dict[str, Any]:
        """The keyword arguments of MolmoAct2Policy.session."""
        return asdict(self) | {"full_refresh_every": self.full_refresh_every or None}


def read_settings(value: Any, default: SessionSettings) -> SessionSettings:
    """default: what is not named; of it a draft, a solver and a noise scale that the modes asked for have no use for
    are left out.

    Errors: WireError.
    """
    entry = checks.mapping(value, f"{KEY}.settings")
    kinds = {field.name: type(getattr(default, field.name)) for field in fields(SessionSettings)}
    checks.only(entry, kinds, f"{KEY}.settings")
    found: dict[str, Any] = {}
    for name, given in entry.items():
        where = f"{KEY}.settings.{name}"
        if kinds[name] is str:
            found[name] = checks.word(given, where)
        elif kinds[name] is bool:
            found[name] = checks.flag(given, where)
        elif kinds[name] is int:
            found[name] = checks.whole(given, where, 0, 1_000_000)
        else:
            found[name] = checks.number(given, where)
    settings = SessionSettings(**asdict(default) | found)
    if "draft" not in found and settings.depth != "adaptive":
        settings = replace(settings, draft=False)
    if "solver" not in found and settings.action_mode == "discrete":
        settings = replace(settings, solver=EULER)
    if "noise_scale" not in found and settings.action_mode == "discrete":
        settings = replace(settings, noise_scale=1.0)
    return settings


@dataclass(frozen=True)
class Extra:
    """The extension's part of a request.

    request: names it; the answer repeats it. session: whose memory it uses. reset: cause of a new episode before it,
    empty where the episode goes on. deadline [s]: from its arrival; None: the server's own. noise float32
    (horizon, max_action_dim), prefix float32 (K, D), frozen, overlap: as in Session.infer.
    """

    request: str
    session: str
    settings: SessionSettings
    reset: str = ""
    deadline: float | None = None
    seed: int | None = None
    noise: np.ndarray | None = None
    prefix: np.ndarray | None = None
    frozen: int = 0
    overlap: int | None = None


REQUEST_FIELDS = ("name", "request", "session", "settings", "reset", "deadline", "seed", "noise", "prefix", "frozen",
                  "overlap")


def write_extra(extra: Extra) -> dict[str, Any]:
    values = {name: getattr(extra, name) for name in REQUEST_FIELDS if name not in ("name", "settings")}
    return {"name": NAME, "settings": asdict(extra.settings), **{k: v for k, v in values.items() if v is not None}}


def read_extra(value: Any, default: SessionSettings) -> Extra:
    """Errors: WireError."""
    entry = checks.mapping(value, KEY)
    if entry.get("name") != NAME:
        raise WireError(f"{KEY}.name is {short(entry.get('name'))}, this server speaks {NAME}")
    checks.only(entry, REQUEST_FIELDS, KEY)

    def optional(name: str, read: Any, *limits: Any) -> Any:
        return None if entry.get(name) is None else read(entry[name], f"{KEY}.{name}", *limits)

    return Extra(
        request=checks.word(entry.get("request"), f"{KEY}.request"),
        session=checks.word(entry.get("session"), f"{KEY}.session"),
        settings=read_settings(entry.get("settings", {}), default),
        reset=optional("reset", checks.text, 64) or "",
        deadline=optional("deadline", checks.number, 0.0, 3600.0),
        seed=optional("seed", checks.whole),
        noise=optional("noise", checks.floats, (None, None)),
        prefix=optional("prefix", checks.floats, (None, None)),
        frozen=optional("frozen", checks.whole, 0, MOST_WAYPOINTS) or 0,
        overlap=optional("overlap", checks.whole, 0, MOST_WAYPOINTS),
    )


@dataclass(frozen=True)
class TagOffer:
    """A norm tag: length of its vectors, cameras (0: any number), waypoints, and the shape of the flow's noise."""

    state_dim: int
    action_dim: int
    num_cameras: int
    horizon: int
    n_action_steps: int
    noise_shape: tuple[int, int]


@dataclass(frozen=True)
class Offer:
    """The extension's part of the answer to `GET /act`.

    server: names this process of it. num_steps, n_action_steps: what it takes where a request names none; 0: the
    checkpoint's, the tag's. machine: what the last bits of its results depend on besides their inputs.
    """

    server: str
    checkpoint: str
    fingerprint: str
    tags: Mapping[str, TagOffer]
    depth: tuple[str, ...]
    action_modes: tuple[str, ...]
    num_steps: int
    n_action_steps: int
    most_bytes: int
    machine: Mapping[str, str]


def write_offer(offer: Offer) -> dict[str, Any]:
    return {"name": NAME, **asdict(offer)}


def read_offer(value: Any) -> Offer:
    """Errors: WireError. Fields that a later server adds are passed over."""
    entry = checks.mapping(value, KEY)
    if entry.get("name") != NAME:
        raise WireError(f"{KEY}.name is {short(entry.get('name'))}, this client speaks {NAME}")
    tags = checks.mapping(entry.get("tags"), f"{KEY}.tags")
    machine = checks.mapping(entry.get("machine"), f"{KEY}.machine")
    return Offer(
        server=checks.word(entry.get("server"), f"{KEY}.server"),
        checkpoint=checks.text(entry.get("checkpoint"), f"{KEY}.checkpoint"),
        fingerprint=checks.text(entry.get("fingerprint"), f"{KEY}.fingerprint"),
        tags={checks.word(name, f"{KEY}.tags"): _read_tag(tag, name) for name, tag in tags.items()},
        depth=_words(entry.get("depth"), f"{KEY}.depth"),
        action_modes=_words(entry.get("action_modes"), f"{KEY}.action_modes"),
        num_steps=checks.whole(entry.get("num_steps"), f"{KEY}.num_steps", 0, 1000),
        n_action_steps=checks.whole(entry.get("n_action_steps"), f"{KEY}.n_action_steps", 0, MOST_WAYPOINTS),
        most_bytes=checks.whole(entry.get("most_bytes"), f"{KEY}.most_bytes"),
        machine={checks.word(k, f"{KEY}.machine"): checks.text(v, f"{KEY}.machine.{k}") for k, v in machine.items()},
    )


def _read_tag(value: Any, name: str) -> TagOffer:
    entry = checks.mapping(value, f"{KEY}.tags.{name}")

    def count(field: str, least: int, most: int) -> int:
        return checks.whole(entry.get(field), f"{KEY}.tags.{name}.{field}", least, most)

    shape = entry.get("noise_shape")
    if not isinstance(shape, list) or len(shape) != 2:
        raise WireError(f"{KEY}.tags.{name}.noise_shape is {short(shape)}, expected two numbers")
    rows, columns = (checks.whole(n, f"{KEY}.tags.{name}.noise_shape", 0, MOST_WAYPOINTS) for n in shape)
    return TagOffer(
        state_dim=count("state_dim", 1, MOST_DIMENSIONS),
        action_dim=count("action_dim", 1, MOST_DIMENSIONS),
        num_cameras=count("num_cameras", 0, 64),
        horizon=count("horizon", 1, MOST_WAYPOINTS),
        n_action_steps=count("n_action_steps", 1, MOST_WAYPOINTS),
        noise_shape=(rows, columns),
    )


def _words(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > 64:
        raise WireError(f"{name} is {short(value)}, expected a list of words")
    return tuple(checks.word(item, name) for item in value)
