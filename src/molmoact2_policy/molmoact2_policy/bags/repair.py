# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Completing a bag whose recorder did not: `molmoact2 record --repair`, and the keeper beside each recorder."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from . import mcap_scan, metadata, sqlite_file
from .bag import SUFFIX_TEXT, storage_files
from .definitions import Definition
from .errors import BagError
from .mcap_scan import Scanner
from .metadata import FileFacts, Topic
from .writer import AFTERWARDS, BALLAST_NAME, COMPLETE, MISSING, NO, STORAGES, SUFFIXES

Facts = dict[str, str]


def repair(path: Path) -> list[str]:
    """Makes a bag whole that was cut off: its files in place, metadata.yaml anew. Returns what was done, in words.

    Nothing is done to a bag that is whole. What is damaged beyond that is left out and said. Errors: BagError.
    """
    if not path.is_dir():
        raise BagError(f"bag {path} is no folder; name the folder of the bag")
    files = storage_files(path)
    if not files:
        raise BagError(f"bag {path} holds no file of a bag ({SUFFIX_TEXT}); there is nothing to repair")
    storages = {storage for storage, suffix in SUFFIXES.items() if any(f.suffix == suffix for f in files)}
    if len(storages) > 1:
        raise BagError(f"bag {path} holds files of several storages; keep those of one")
    done: list[str] = []
    lost: list[str] = []
    topics: dict[str, Topic] = {}
    known: list[FileFacts] = []
    said = _custom_data(path)
    facts = dict(said)
    for file in files:
        look = _mcap if file.suffix == SUFFIXES["mcap"] else _sqlite3
        try:
            known.append(look(file, topics, facts, done, lost))
        except BagError as error:
            lost.append(f"left out: {error}")
    if not known:
        raise BagError(f"bag {path}: none of its files can be read: {'; '.join(lost)}")
    if lost:
        facts[MISSING] = "; ".join(lost)
    done += [text for text in lost if text not in said.get(MISSING, "")]
    if facts.get(COMPLETE) == NO:
        facts[COMPLETE] = AFTERWARDS
        if said.get(COMPLETE) != AFTERWARDS:
            done.append("its recorder did not complete it, which is noted now")
    if done or not _agrees(path, known):
        try:
            metadata.put(path, metadata.metadata_text(storages.pop(), list(topics.values()), known, facts))
        except OSError as error:
            raise BagError(f"bag {path}: {metadata.NAME} cannot be written: {error}") from error
        done.append(f"{metadata.NAME} was written anew")
    for leftover in (path / BALLAST_NAME, path / f"{metadata.NAME}.new"):
        leftover.unlink(missing_ok=True)
    return done


def _mcap(file: Path, topics: dict[str, Topic], facts: Facts, done: list[str], lost: list[str]) -> FileFacts:
    scan = Scanner(file).run()
    lost += scan.problems
    if not scan.closed or scan.problems:
        mcap_scan.complete(scan)
        done += [] if scan.problems else [f"{file.name} was given its end"]
    facts.update(scan.facts)
    counts: dict[str, int] = {}
    for number, channel in scan.channels.items():
        counts[channel.topic] = counts.get(channel.topic, 0) + scan.counts.get(number, 0)
        schema = scan.schemas.get(channel.schema)
        if schema is not None and channel.topic not in topics:
            definition = Definition(schema.name, schema.text, channel.metadata.get("topic_type_hash", ""))
            topics[channel.topic] = _topic(channel.topic, definition, channel.metadata.get("offered_qos_profiles", ""))
    return FileFacts(file.name, counts, scan.start_ns, scan.end_ns)


def _sqlite3(file: Path, topics: dict[str, Topic], facts: Facts, done: list[str], lost: list[str]) -> FileFacts:
    if sqlite_file.recover(file):
        done.append(f"{file.name} was brought to its last commit")
    counts: dict[str, int] = {}
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT name, type, offered_qos_profiles, type_description_hash, "
                "(SELECT count(*) FROM messages WHERE topic_id = topics.id) FROM topics"
            )
            for name, typename, qos, digest, count in rows:
                counts[name] = count
                topics.setdefault(name, _topic(name, Definition(typename, "", digest), qos))
            start, end = database.execute("SELECT min(timestamp), max(timestamp) FROM messages").fetchone()
    except Exception as error:    # SQLite's own, or what damaged text leads to
        raise BagError(f"{file.name} is damaged: {error}") from error
    facts.update(sqlite_file.facts_of(file))
    return FileFacts(file.name, counts, start or 0, end or 0)


def _topic(name: str, definition: Definition, qos: str) -> Topic:
    return Topic(name, definition, "best_effort" not in qos, "transient_local" in qos)


def _custom_data(path: Path) -> dict[str, str]:
    information = metadata.read(path) or {}
    return dict(information.get("custom_data") or {})


def _agrees(path: Path, files: list[FileFacts]) -> bool:
    """Whether metadata.yaml says of the files what is so."""
    information = metadata.read(path)
    if information is None:
        return False
    said = {f.get("path"): f.get("message_count") for f in information.get("files") or []}
    return said == {f.name: f.count for f in files} and information.get("storage_identifier") in STORAGES
