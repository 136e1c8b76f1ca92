# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""metadata.yaml: what rosbag2 wants to know of a bag before it opens its files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .definitions import Definition

NAME = "metadata.yaml"
VERSION = 9
FOREVER = {"sec": 9223372036, "nsec": 854775807}
NEVER_NS = 2**63 - 1


@dataclass(frozen=True)
class Topic:
    """reliable, latched: what its publishers offer."""

    name: str
    definition: Definition
    reliable: bool = True
    latched: bool = False

    def qos(self) -> list[dict[str, Any]]:
        return [{
            "history": "unknown",
            "depth": 0,
            "reliability": "reliable" if self.reliable else "best_effort",
            "durability": "transient_local" if self.latched else "volatile",
            "deadline": FOREVER,
            "lifespan": FOREVER,
            "liveliness": "automatic",
            "liveliness_lease_duration": FOREVER,
            "avoid_ros_namespace_conventions": False,
        }]

    def qos_text(self) -> str:
        return dump(self.qos())


@dataclass(frozen=True)
class FileFacts:
    """One file: its name in the folder, and its messages: by topic, and from when to when [ns]."""

    name: str
    counts: Mapping[str, int]
    start_ns: int
    end_ns: int

    @property
    def count(self) -> int:
        return sum(self.counts.values())


def metadata_text(
    storage: str, topics: Sequence[Topic], files: Sequence[FileFacts], facts: Mapping[str, str], inner: bool = False
) -> str:
    """inner: without the outermost key, as a file of a storage holds it."""
    filled = [f for f in files if f.count]
    start = min((f.start_ns for f in filled), default=NEVER_NS)
    end = max((f.end_ns for f in filled), default=NEVER_NS)
    information = {
        "version": VERSION,
        "storage_identifier": storage,
        "duration": {"nanoseconds": end - start},
        "starting_time": {"nanoseconds_since_epoch": start},
        "message_count": sum(f.count for f in files),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.definition.typename,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": topic.qos(),
                    "type_description_hash": topic.definition.digest,
                },
                "message_count": sum(f.counts.get(topic.name, 0) for f in files),
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [f.name for f in files],
        "files": [_file(f) for f in files],
        "custom_data": dict(facts) or None,
        "ros_distro": "jazzy",
    }
    return dump(information if inner else {"rosbag2_bagfile_information": information})


def _file(f: FileFacts) -> dict[str, Any]:
    start, end = (f.start_ns, f.end_ns) if f.count else (NEVER_NS, NEVER_NS)
    return {
        "path": f.name,
        "starting_time": {"nanoseconds_since_epoch": start},
        "duration": {"nanoseconds": end - start},
        "message_count": f.count,
    }


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):    # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True    # rosbag2's own reader is not asked to follow references


def dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True)


def put(folder: Path, text: str) -> None:
    """Replaces metadata.yaml whole. Errors: OSError; the old one stays."""
    new = folder / f"{NAME}.new"
    try:
        new.write_text(text, "utf8")
        os.replace(new, folder / NAME)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def read(folder: Path) -> dict[str, Any] | None:
    """What metadata.yaml says; None where there is none that can be read."""
    try:
        information = yaml.load((folder / NAME).read_text("utf8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        information = information["rosbag2_bagfile_information"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None
    return information if isinstance(information, dict) and _well_formed(information) else None


def _well_formed(information: dict[str, Any]) -> bool:
    """Whether what is read of it has the kinds that it should have."""
    names, files = information.get("relative_file_paths"), information.get("files") or []
    return (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        and isinstance(files, list) and all(isinstance(file, dict) for file in files)
        and isinstance(information.get("custom_data") or {}, dict)
    )
