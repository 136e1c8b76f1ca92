# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Names, definitions and hashes of message types, as a bag carries them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from .errors import BagError


@dataclass(frozen=True)
class Definition:
    """text: of the type and all that it uses, as rosbag2 writes them (ros2msg); digest: ROS's own hash of the type."""

    typename: str
    text: str
    digest: str


def typename_of(kind: type) -> str:
    package, folder, *_ = kind.__module__.split(".")
    return f"{package}/{folder}/{kind.__name__}"


def definitions_of(typenames: Collection[str]) -> dict[str, Definition]:
    """The definition of each type. Errors: BagError for a type that is not found, or that uses one that is not."""
    store = typestore_of(set(typenames))
    definitions = {}
    for name in typenames:
        try:
            text, _ = store.generate_msgdef(name, ros_version=2)
            definitions[name] = Definition(name, text, store.hash_rihs01(name))
        except (TypesysError, KeyError) as error:
            raise BagError(f"the definition of {name} is not whole: {error}") from error
    return definitions


def typestore_of(typenames: set[str]) -> Typestore:
    """rosbags' definitions of Jazzy's own messages, and those of other packages from their installed .msg files."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for package in sorted({name.split("/")[0] for name in typenames if name not in store.fielddefs}):
        try:
            folder = Path(get_package_share_directory(package)) / "msg"
        except (PackageNotFoundError, ValueError) as error:
            raise BagError(f"package {package!r} is not installed; source the workspace that has it") from error
        definitions = {}
        for file in sorted(folder.glob("*.msg")):
            definitions.update(get_types_from_msg(file.read_text(), f"{package}/msg/{file.stem}"))
        store.register(definitions)
    missing = sorted(name for name in typenames if name not in store.fielddefs)
    if missing:
        raise BagError(f"no definition found of {', '.join(missing)}; is its package built from .msg files?")
    return store
