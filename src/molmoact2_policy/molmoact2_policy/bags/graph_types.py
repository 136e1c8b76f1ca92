# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Types of topics, as the running graph has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

from rclpy.node import Node

from .definitions import typename_of
from .errors import BagError


def types_of(node: Node, topics: Iterable[str], patience: float, spin: Callable[[], None]) -> dict[str, type]:
    """The message class of each topic, by its name as given.

    spin: lets the node see the graph, for a short while. Errors: BagError for a topic that nobody publishes within
    `patience` [s], that has several types, or whose type is not installed.
    """
    wanted = {node.resolve_topic_name(topic): topic for topic in topics}
    deadline = time.monotonic() + patience
    while True:
        seen = {name: types for name, types in node.get_topic_names_and_types() if name in wanted}
        missing = sorted(set(wanted) - set(seen))
        if not missing or time.monotonic() > deadline:
            break
        spin()
    if missing:
        raise BagError(
            f"the type of {', '.join(missing)} is not known: nobody published it within {patience:g} s; start what "
            "publishes it, or check the name"
        )
    return {wanted[name]: _class(name, types) for name, types in seen.items()}


def conflicts(node: Node, topics: Mapping[str, type]) -> list[str]:
    """What is wrong with the types that topics have in the graph, in words. topics: full name -> message class."""
    wrong = []
    for name, types in node.get_topic_names_and_types():
        expected = typename_of(topics[name]) if name in topics else ""
        others = sorted(set(types) - {expected})
        if expected and others:
            wrong.append(f"{name} has the types {', '.join(sorted(types))}; end or remap all but {expected}")
    return wrong


def _class(topic: str, types: list[str]) -> type:
    if len(types) > 1:
        raise BagError(f"{topic} has several types: {', '.join(sorted(types))}; end or remap all but one")
    package, folder, name = types[0].split("/")
    try:
        return getattr(import_module(f"{package}.{folder}"), name)
    except (ImportError, AttributeError) as error:
        raise BagError(f"{topic} has the type {types[0]}, which is not installed; source its workspace") from error
