# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Strict reading of YAML: every key is expected or refused, and every refusal names the file and the line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .refusal import Refusal


class ContractError(Refusal, ValueError):
    """A contract or system file is wrong; the text says where, what was expected and how to mend it."""


NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")                       # of a node or a namespace in ROS
TOPIC = re.compile(r"(~/|/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
LARGEST = 1e6                                                        # no number of a robot is larger


class _Yaml(yaml.SafeLoader):
    """Scalars as in the core schema of YAML 1.2: `depth: off` and `dt: 1:30` are texts, and so is 010."""


_CORE = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "tag:yaml.org,2002:int": (r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
_Yaml.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _CORE.items():
    _Yaml.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


def parse(text: str) -> Any:
    """One value in YAML. Errors: yaml.YAMLError."""
    return yaml.load(text, Loader=_Yaml)


class Section:
    """One mapping of a YAML file; takes keys one by one and refuses those that nobody took.

    Use as a context manager: at its end every key that was not read is refused.
    """

    def __init__(self, node: yaml.Node, where: str, file: str):
        self.where, self.file, self.line = where, file, node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise ContractError(f"{file}:{self.line}: {where or 'the file'} must be a mapping (key: value)")
        self._nodes: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in self._nodes:
                raise ContractError(
                    f"{file}:{key_node.start_mark.line + 1}: {self._path(key)} is given twice; keep one"
                )
            self._nodes[key] = value_node
        self._taken: set[str] = set()

    def __enter__(self) -> Section:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            for key in self._nodes:
                if key not in self._taken:
                    known = ", ".join(sorted(self._taken))
                    raise self.error(key, f"is not known here; known are: {known}")

    def _path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def error(self, key: str, what: str) -> ContractError:
        """An error that names this file, the line of `key`, and its path."""
        node = self._nodes.get(key)
        line = node.start_mark.line + 1 if node is not None else self.line
        return ContractError(f"{self.file}:{line}: {self._path(key)} {what}")

    def _take(self, key: str) -> yaml.Node | None:
        self._taken.add(key)
        return self._nodes.get(key)

    @property
    def given(self) -> tuple[str, ...]:
        """The keys there are, in the order of the file."""
        return tuple(self._nodes)

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    def raw(self, key: str, default: Any = None) -> Any:
        """Value of a key as plain Python data; `default` where it is absent."""
        node = self._take(key)
        if node is None:
            return default
        try:
            return _plain(node)
        except (yaml.YAMLError, ValueError, RecursionError) as error:    # e.g. a tag that nobody knows
            what = getattr(error, "problem", None) or str(error)
            raise self.error(key, f"cannot be read: {what}") from error

    def _required(self, key: str, expected: str) -> Any:
        if key not in self._nodes:
            raise self.error(key, f"is missing; expected {expected}")
        return self.raw(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A non-empty string; required where no default is given."""
        if default is not None and key not in self:
            self._taken.add(key)
            return default
        value = self._required(key, "a text")
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"must be a non-empty text, not {value!r}")
        return value

    def topic(self, key: str) -> str:
        """A name that ROS permits for a topic or a service."""
        value = self.text(key)
        if not TOPIC.fullmatch(value):
            raise self.error(key, f"must be the name of a topic, not {value!r}")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise self.error(key, f"must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        if default is not None and key not in self:
            self._taken.add(key)
            return default
        value = self._required(key, "true or false")
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {value!r}")
        return value

    def number(
        self, key: str, default: float | None = None, *, above: float | None = None, least: float | None = None,
        most: float | None = None,
    ) -> float:
        """A finite number within its range; required where no default is given."""
        if default is not None and key not in self:
            self._taken.add(key)
            return default
        return self._checked(key, self._required(key, "a number"), above, least, most)

    def optional_number(self, key: str, *, above: float | None = None, most: float | None = None) -> float | None:
        """A finite number, or None where the key is absent or null."""
        value = self.raw(key)
        return None if value is None else self._checked(key, value, above, None, most)

    def _checked(self, key: str, value: Any, above: float | None, least: float | None, most: float | None) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < math.inf:
            raise self.error(key, f"must be a finite number, not {value!r}")
        if abs(value) > LARGEST:
            raise self.error(key, f"is beyond {LARGEST:g}; check its unit")
        if above is not None and value <= above:
            raise self.error(key, f"must be greater than {above:g}, not {value:g}")
        if least is not None and value < least:
            raise self.error(key, f"must be at least {least:g}, not {value:g}")
        if most is not None and value > most:
            raise self.error(key, f"must be at most {most:g}, not {value:g}")
        return float(value)

    def pair(self, key: str, *, size: float) -> tuple[float, float]:
        """Two numbers of at most a size, the first less than the second."""
        value = self._required(key, "[lower, upper]")
        if not isinstance(value, list) or len(value) != 2:
            raise self.error(key, f"must be [lower, upper], not {value!r}")
        lower, upper = (self._checked(key, v, None, -size, size) for v in value)
        if not lower < upper:
            raise self.error(key, f"must have lower < upper, not [{lower:g}, {upper:g}]")
        return lower, upper

    def vector(
        self, key: str, length: int, default: tuple[float, ...] | None = None, *, size: float = LARGEST
    ) -> tuple[float, ...]:
        """So many numbers of at most a size; required where no default is given."""
        if default is not None and key not in self:
            self._taken.add(key)
            return default
        value = self._required(key, f"{length} numbers")
        if not isinstance(value, list) or len(value) != length:
            raise self.error(key, f"must be {length} numbers, not {value!r}")
        return tuple(self._checked(key, v, None, -size, size) for v in value)

    def names(self, key: str, *, empty: bool = False) -> tuple[str, ...]:
        """A list of distinct non-empty texts."""
        value = self._required(key, "a list of names")
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value) or not (value or empty):
            raise self.error(key, f"must be a list of names, not {value!r}")
        if len(set(value)) != len(value):
            raise self.error(key, f"names something twice: {value!r}")
        return tuple(value)

    def section(self, key: str) -> Section:
        node = self._take(key)
        if node is None:
            raise self.error(key, "is missing; expected a mapping")
        return Section(node, self._path(key), self.file)

    def sections(self, key: str, *, ros: bool = False, reserved: tuple[str, ...] = ()) -> Iterator[tuple[str, Section]]:
        """The named sections under a key: (name, section) in the order of the file. At least one.
        ros: the names are those of nodes or namespaces; reserved: names that mean something else."""
        node = self._take(key)
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise self.error(key, "must be a mapping of names to settings, with at least one entry")
        names = [str(k.value) for k, _ in node.value]
        for name, (_, value) in zip(names, node.value, strict=True):
            if names.count(name) > 1:
                raise ContractError(f"{self.file}:{value.start_mark.line + 1}: {self._path(key)}.{name} is given twice")
            if ros and (not NAME.fullmatch(name) or name in reserved):
                unfit = "must be a name for ROS: letters, digits, _"
                what = "is used by the suite itself" if name in reserved else unfit
                raise ContractError(f"{self.file}:{value.start_mark.line + 1}: {self._path(key)}.{name} {what}")
            yield name, Section(value, f"{self._path(key)}.{name}", self.file)


def _plain(node: yaml.Node) -> Any:
    loader = _Yaml("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def read_file(path: Path, expected_format: str) -> Section:
    """Reads a YAML file whose `format` key must be as expected.

    Errors: ContractError for a file that cannot be read, is no YAML, or has another format.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Yaml)
    except OSError as error:
        raise ContractError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError(f"{path}: is not YAML: {error}") from error
    if node is None:
        raise ContractError(f"{path}: is empty; expected format: {expected_format}")
    section = Section(node, "", str(path))
    found = section.text("format")
    if found != expected_format:
        raise section.error("format", f"must be {expected_format}, not {found}")
    return section
