# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""JSON with numpy arrays, as the package json_numpy writes it: {"__numpy__": base64, "dtype": "<f4", "shape": [..]}.

Written anew because what comes from the network is not trusted: only plain numbers, whose count must be that of the
shape; no pickle, no duplicate keys, no NaN literals, and no document that needs far more memory than its bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

import numpy as np

MARK = "__numpy__"
DTYPES = frozenset(
    np.dtype(order + kind).str
    for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
    for order in "<>"
)
MOST_DIMENSIONS = 4
# A list costs 60 bytes of memory for 2 of text, a number 30 for 2. Room for three pictures of 640 x 480 as lists.
MOST_CONTAINERS = 1_000_000
MOST_VALUES = 4_000_000
MOST_KEYS = 512    # of one object


class WireError(ValueError):
    """What came is not what the protocol says; the text names the thing and what was expected."""


def dumps(value: Any) -> bytes:
    """A JSON document of dicts, lists, text, numbers and numpy arrays. Errors: TypeError, ValueError for others and for
    numbers that JSON has not."""
    return json.dumps(value, default=_entry, allow_nan=False, separators=(",", ":")).encode()


def loads(body: bytes | bytearray) -> Any:
    """What `dumps` or json_numpy wrote. Arrays are read-only. Errors: WireError."""
    containers, values = body.count(b"[") + body.count(b"{"), body.count(b",")
    if containers > MOST_CONTAINERS or values > MOST_VALUES:
        raise WireError(
            f"the document has {containers} lists and objects and {values} commas, more than {MOST_CONTAINERS} and "
            f"{MOST_VALUES}; send arrays as json_numpy does"
        )
    try:
        return json.loads(bytes(body).decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except WireError:
        raise
    except RecursionError:
        raise WireError("the document is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise WireError(f"the document is not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise WireError(f"the document is not JSON: {error}") from None


def _entry(value: Any) -> dict[str, Any]:
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.str in DTYPES:
            data = base64.b64encode(array.tobytes()).decode()
            return {MARK: data, "dtype": array.dtype.str, "shape": list(array.shape)}
        raise TypeError(f"an array of {array.dtype} cannot be sent, only plain numbers")
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


def _no_constant(name: str) -> Any:
    raise WireError(f"{name} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) > MOST_KEYS:
        raise WireError(f"an object has {len(pairs)} keys, at most {MOST_KEYS} are taken")
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise WireError(f"the key {short(name)} comes twice in one object")
        entries[name] = value
    return _array(entries) if MARK in entries else entries


def _array(entry: dict[str, Any]) -> Any:
    if set(entry) != {MARK, "dtype", "shape"}:
        raise WireError(f"an array has the keys {short(sorted(entry))}, expected {MARK}, dtype and shape")
    data, dtype, shape = entry[MARK], entry["dtype"], entry["shape"]
    if not isinstance(data, str) or not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError(f"an array has dtype {short(dtype)}, expected plain numbers such as '|u1' or '<f4'")
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(_is_length(n) for n in shape):
        raise WireError(f"an array has shape {short(shape)}, expected at most {MOST_DIMENSIONS} whole numbers >= 0")
    kind, count = np.dtype(dtype), math.prod(shape)
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"an array's data are not base64: {error}") from None
    if len(raw) != count * kind.itemsize:
        raise WireError(
            f"an array of shape {shape} and dtype {dtype!r} needs {count * kind.itemsize} bytes, {len(raw)} came"
        )
    if not count:
        return np.empty(shape, kind)
    if kind.kind == "b" and max(raw) > 1:
        raise WireError("an array of booleans holds bytes other than 0 and 1")
    array = np.frombuffer(raw, kind).reshape(shape)
    return array if shape else array[()]


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def short(value: Any, most: int = 80) -> str:
    """A value as an error may show it: no more than `most` characters of it."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    if isinstance(value, (list, dict)) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value[:most] if isinstance(value, str) else value)
    return text if len(text) <= most + 8 else text[:most] + "..."
