# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Values taken out of what came over the wire, each with its type and range. Errors: WireError that names the field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from .wire import MOST_DIMENSIONS, WireError, short

MOST_TEXT = 4096
MOST_FLOATS = 256_000    # of a list: 1000 waypoints of 256 joints
_NUMBERS = (int, float, np.integer, np.floating)


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise WireError(f"{name} is {short(value)}, expected an object")
    return value


def only(fields: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuses fields that nobody knows."""
    unknown = sorted(set(fields) - set(known))
    if unknown:
        names = ", ".join(short(name, 40) for name in unknown[:5])
        raise WireError(f"{where} has unknown fields: {names}; known are {', '.join(sorted(known))}")


def text(value: Any, name: str, most: int = MOST_TEXT) -> str:
    if not isinstance(value, str):
        raise WireError(f"{name} is {short(value)}, expected text")
    if len(value) > most:
        raise WireError(f"{name} has {len(value)} characters, at most {most} are taken")
    try:
        value.encode()    # JSON may hold half of a pair of UTF-16, which is no character
    except UnicodeEncodeError as error:
        raise WireError(f"{name} has {value[error.start]!r} at {error.start}, which is no character") from None
    return value


def word(value: Any, name: str) -> str:
    """A short name that may stand in a log: 1 .. 128 printable characters."""
    found = text(value, name, 128)
    if not found or not found.isprintable():
        raise WireError(f"{name} is {short(found)}, expected 1 .. 128 printable characters")
    return found


def flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise WireError(f"{name} is {short(value)}, expected true or false")
    return value


def whole(value: Any, name: str, least: int = 0, most: int = 2**63 - 1) -> int:
    if isinstance(value, np.integer):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise WireError(f"{name} is {short(value)}, expected a whole number {least} .. {most}")
    return value


def number(value: Any, name: str, least: float = 0.0, most: float = 1e9) -> float:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise WireError(f"{name} is {short(value)}, expected a number {least:g} .. {most:g}")
    return float(value)


def listed(value: list, name: str, most: int) -> np.ndarray:
    """Lists in lists of at most `most` numbers as an array. numpy sees them only once they are known to be numbers: of
    texts it would make an array whose every entry is as wide as the longest."""
    shape, level = [len(value)], value
    while level and (kinds := set(map(type, level))) == {list}:
        lengths = set(map(len, level))
        if len(lengths) != 1:
            raise WireError(f"{name} is a list whose rows differ in length, expected equal ones")
        shape.append(lengths.pop())
        if len(shape) > MOST_DIMENSIONS or math.prod(shape) > most:
            break
        level = list(chain.from_iterable(level))
    if len(shape) > MOST_DIMENSIONS or math.prod(shape) > most:
        raise WireError(f"{name} is a list of shape {shape}, over {MOST_DIMENSIONS} dimensions or {most} numbers")
    if level and not all(issubclass(kind, _NUMBERS) and kind is not bool for kind in kinds):
        raise WireError(f"{name} is a list of something other than numbers")
    return np.asarray(level).reshape(shape)


def floats(value: Any, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Finite numbers as float32, an array or lists. shape: None where any length from 1 is well."""
    if isinstance(value, list):
        value = listed(value, name, MOST_FLOATS)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise WireError(f"{name} is {short(value)}, expected an array of numbers")
    fits = len(shape) == value.ndim and all(
        has == wanted or wanted is None and has > 0 for has, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise WireError(f"{name} has shape {value.shape}, expected ({wanted})")
    with np.errstate(over="ignore"):
        array = np.array(value, dtype=np.float32)
    if not np.isfinite(array).all():
        raise WireError(f"{name} holds values that are not finite numbers")
    return array


def integers(value: Any, name: str, most_length: int) -> np.ndarray:
    """Whole numbers as int64 (N,), an array."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.ndim != 1 or value.size > most_length:
        raise WireError(f"{name} is {short(value)}, expected an array of at most {most_length} whole numbers")
    return value.astype(np.int64)
