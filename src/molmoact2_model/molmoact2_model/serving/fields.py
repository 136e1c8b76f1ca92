# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The body of `POST /act`: what the two kinds of existing servers take, and the extension.

Two kinds, because there are two: one per embodiment (named images, actions as an array, `dt_ms`), and a general one
(`images`, sessions, actions as lists). The answer has the form of the kind that the request's fields belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import checks
from .cameras import Cameras
from .extension import KEY, Extra, SessionSettings, read_extra
from .pictures import read_pictures
from .wire import WireError, loads

MOST_IMAGES = 8
MOST_STATE = 256
MOST_STEPS = 100    # of the flow: what a request may cost
INSTRUCTION = ("instruction", "task", "prompt", "question")
TAG = ("tag", "norm_tag")
# Fields that only the general kind has.
GENERAL = ("images", "image", "image1", "encoded", "states", *INSTRUCTION[1:], "n_obs_steps", "action_chunk",
           "single_action", "session_id", *TAG)
# Sent by some clients, and without effect: as on the servers these were made for.
WITHOUT_EFFECT = ("timestamp", "enable_cuda_graph", "normalization_tag")
TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Expected:
    """What this server knows of requests: cameras by norm tag, the tag where none is named, and defaults."""

    cameras: Mapping[str, Cameras]
    default_tag: str
    n_obs_steps: int
    settings: SessionSettings


@dataclass(frozen=True)
class ActRequest:
    """A request whose fields have been checked, except against the checkpoint.

    images: uint8 (H, W, 3) in the model's order; state: float32 (D,), the checkpoint's frame. general: whether its
    answer has the form of the general kind. keeps: it goes on where its session was, as the general kind's
    action_chunk and single_action do. extra: the extension's part.
    """

    images: tuple[np.ndarray, ...]
    state: np.ndarray
    instruction: str
    tag: str
    num_steps: int | None
    n_action_steps: int | None
    general: bool
    keeps: bool
    single: bool
    session: str
    extra: Extra | None

    @property
    def settings(self) -> SessionSettings | None:
        return self.extra.settings if self.extra else None


def read_request(body: bytes | bytearray, expected: Expected) -> ActRequest:
    """Errors: WireError."""
    outer = checks.mapping(loads(body), "the body")
    fields = dict(outer)
    if "encoded" in fields:
        inner = checks.mapping(loads(checks.text(fields.pop("encoded"), "encoded", len(body)).encode()), "encoded")
        if "encoded" in inner:
            raise WireError("encoded holds encoded again")
        fields = {**inner, **fields}
    tag = _first_text(fields, TAG).strip() or expected.default_tag
    if tag not in expected.cameras:
        raise WireError(f"norm_tag {tag!r} is not in this checkpoint; it has {', '.join(sorted(expected.cameras))}")
    cameras = expected.cameras[tag]
    known = {*GENERAL, *INSTRUCTION, *TAG, *WITHOUT_EFFECT, "state", "num_steps", "n_action_steps", KEY}
    checks.only(fields, known | cameras.names, "the request")
    n_obs_steps = _optional(fields, "n_obs_steps", 1, 1000)
    if n_obs_steps not in (None, expected.n_obs_steps):
        raise WireError(f"n_obs_steps is {n_obs_steps}, the checkpoint takes {expected.n_obs_steps}")
    single, chunk = _true(fields.get("single_action")), _true(fields.get("action_chunk"))
    extra = read_extra(fields[KEY], expected.settings) if KEY in fields else None
    names = cameras.order(fields)
    return ActRequest(
        images=_images(fields, names),
        state=_state(fields),
        instruction=_first_text(fields, INSTRUCTION),
        tag=tag,
        num_steps=_optional(fields, "num_steps", 1, MOST_STEPS),
        n_action_steps=_optional(fields, "n_action_steps", 1, 1000),
        general=extra is None and any(name in outer for name in GENERAL if name not in names),
        keeps=extra is not None or single or chunk,
        single=single and not chunk and extra is None,
        session=checks.word(_first_text(fields, ("session_id",)) or "default", "session_id"),
        extra=extra,
    )


def _images(fields: Mapping[str, Any], names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    given = fields.get("images")
    if given is not None:
        if names:
            raise WireError(f"images and also {', '.join(names)} came; send one of the two")
        values = list(given) if isinstance(given, list) else [given]
        if not 0 < len(values) <= MOST_IMAGES:
            raise WireError(f"images holds {len(values)}, expected 1 .. {MOST_IMAGES}")
        return read_pictures({f"images[{index}]": value for index, value in enumerate(values)})
    if names:
        return read_pictures({name: fields[name] for name in names})
    for name in ("image", "image1"):
        if fields.get(name) is not None:
            return read_pictures({name: fields[name]})
    raise WireError("missing required field: no image came; send images, or the cameras by name (GET /act lists them)")


def _state(fields: Mapping[str, Any]) -> np.ndarray:
    value = fields.get("state") if fields.get("state") is not None else fields.get("states")
    if value is None:
        raise WireError("missing required field: 'state'")
    wide = isinstance(value, np.ndarray) and value.ndim == 2 or isinstance(value, list) and value[:1] and isinstance(
        value[0], list
    )
    state = checks.floats(value, "state", (1, None) if wide else (None,)).ravel()
    if state.size > MOST_STATE:
        raise WireError(f"state has {state.size} values, over {MOST_STATE}")
    return state


def _first_text(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        found = "" if fields.get(name) is None else checks.text(fields[name], name)
        if found:
            return found
    return ""


def _optional(fields: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    return None if fields.get(name) is None else checks.whole(fields[name], name, least, most)


def _true(value: Any) -> bool:
    if value is None or isinstance(value, (bool, str, int)):
        return str(value).strip().lower() in TRUE
    raise WireError("single_action or action_chunk is neither true nor false")
