# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a rosbag2 bag with the message definitions that it carries itself; no ROS is needed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from . import metadata
from .definitions import typestore_of
from .errors import BagError
from .merging import merged
from .pictures import IMAGE, LOSSY, Unpacker
from .sources import Source, open_file
from .writer import AFTERWARDS, COMPLETE, MISSING, NO, SUFFIXES

PREFIX = "molmoact2_"                       # of the names of what a recorder keeps besides messages
DROPPED = "molmoact2_recorder_dropped"      # of those that say what it dropped, followed by the topic
SUFFIX_TEXT = ", ".join(SUFFIXES.values())
LINE = "=" * 80 + "\nIDL: "


class Names(dict[int, str]):
    """Names of the values of an enumeration; a value that has none names itself."""

    def __missing__(self, value: int) -> str:
        return f"unknown value {value}"


class Bag:
    """One bag, open for reading: its folder, or one of its files. Use as a context manager.

    Messages are deserialised by the definitions in the bag, whose hashes must fit. What cannot be read is left out and
    said in `problems`, in words; empty for a sound bag, complete once all messages were read. Images that the recorder
    compressed are given back as images, on their own topics. Errors: BagError where nothing can be read.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.problems: list[str] = []
        self._stack = ExitStack()
        self._sources: list[Source] = []

    def __enter__(self) -> Bag:
        if not self.path.exists():
            raise BagError(f"bag {self.path} does not exist; check the path")
        information = metadata.read(self.path) if self.path.is_dir() else None
        unread = []
        for file in self._files(information):
            try:
                source = open_file(file, self.problems)
            except BagError as error:
                unread.append(str(error))
                continue
            self._stack.callback(source.close)
            self._sources.append(source)
        if not self._sources:
            raise BagError(f"bag {self.path} cannot be read: {'; '.join(unread)}")
        self.problems += [f"{text}; its messages are missing" for text in unread]
        self._read_facts(information or {})
        self._read_definitions()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()

    @property
    def types(self) -> dict[str, str]:
        """Type name of each topic; of images that were compressed for the bag, the image's own."""
        return {self._shown(topic): IMAGE if topic in self._unpacker.topics else t for topic, t in self._types.items()}

    @property
    def _types(self) -> dict[str, str]:
        return {topic: typename for source in self._sources for topic, typename in source.types.items()}

    def _shown(self, topic: str) -> str:
        return self._unpacker.topics.get(topic, topic)

    @property
    def counts(self) -> dict[str, int]:
        """Messages of each topic that was recorded, also of those on which none came."""
        counts: dict[str, int] = {}
        for source in self._sources:
            for topic, count in source.counts.items():
                counts[self._shown(topic)] = counts.get(self._shown(topic), 0) + count
        return counts

    @property
    def facts(self) -> dict[str, str]:
        """What the recorder kept besides messages: system_file, contract_file, checkpoint, versions and others."""
        facts = {k: v for k, v in self._facts.items() if k.startswith(PREFIX) and not k.startswith(DROPPED)}
        return {key.removeprefix(PREFIX): value for key, value in facts.items()}

    @property
    def lossy(self) -> bool:
        """Whether images are not what they were."""
        return self._facts.get(LOSSY) == "yes"

    @property
    def dropped(self) -> dict[str, int] | None:
        """Messages that the recorder had to drop, by topic; None where the bag does not say."""
        drops = {k.removeprefix(DROPPED): int(v) for k, v in self._facts.items() if k.startswith(DROPPED)}
        return drops or None

    @property
    def lacks(self) -> list[str]:
        """All that is known to be missing, in words: the problems, and what the recorder dropped."""
        drops = {topic: count for topic, count in (self.dropped or {}).items() if count}
        return self.problems + [f"the recorder dropped {count} messages of {topic}" for topic, count in drops.items()]

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Receive times of the first and the last message [ns]; None for a bag without messages."""
        filled = [source for source in self._sources if any(source.counts.values())]
        if not filled:
            return None
        return min(s.start_ns for s in filled), max(s.end_ns for s in filled)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, str, Any, int]]:
        """(topic, type name, message, receive time [ns]) in the order of receive times.

        topics: only these, where given. Errors: BagError for damage found on the way.
        """
        types, shown = self._types, self._shown
        known = {topic for topic, name in types.items() if name in self._known}
        wanted = {topic for topic in known if topics is None or shown(topic) in topics}
        sources = [(source.start_ns, self._raw(source, wanted)) for source in self._sources]
        for topic, receive_ns, data in merged(sources, lambda message: message[1]):
            try:
                message: Any = self.typestore.deserialize_cdr(data, types[topic])
                typename = types[topic]
                if topic in self._unpacker.topics:
                    message, typename = self._unpacker.unpack(message), IMAGE
            except Exception as error:    # whatever a damaged message leads the deserialiser to
                raise BagError(f"bag {self.path} is damaged: a message of {topic} cannot be read: {error!r}") from error
            yield shown(topic), typename, message, receive_ns

    def names(self, typename: str, field_type: str, prefix: str = "") -> Names:
        """Names of the constants of a message type, by value: those of one field type whose name has the prefix.

        The prefix is cut off and the rest is lower case. Empty where the bag does not hold that type.
        """
        if typename not in self.typestore.fielddefs:
            return Names()
        constants, _ = self.typestore.fielddefs[typename]
        return Names(
            (int(value), name.removeprefix(prefix).lower())
            for name, kind, value in constants
            if kind == field_type and name.startswith(prefix)
        )

    def fields(self, typename: str) -> tuple[str, ...]:
        """Names of the fields of a message type; empty where the bag does not hold that type."""
        if typename not in self.typestore.fielddefs:
            return ()
        return tuple(name for name, _ in self.typestore.fielddefs[typename][1])

    # --- opening ------------------------------------------------------------------------------------------------------
    def _files(self, information: dict[str, Any] | None) -> list[Path]:
        if not self.path.is_dir():
            if self.path.suffix not in SUFFIXES.values():
                raise BagError(f"bag {self.path} cannot be read: it is no folder and ends with none of {SUFFIX_TEXT}")
            return [self.path]
        files = storage_files(self.path)
        if information is None:
            if not files:
                raise BagError(
                    f"bag {self.path} cannot be read: neither metadata.yaml nor a file of a bag is there"
                )
            self.problems.append("metadata.yaml is missing or cannot be read; the files were found by their names")
            return files
        said = [self.path / Path(str(name)).name for name in information.get("relative_file_paths") or []]
        self.problems += [f"{f.name} is missing, which metadata.yaml names" for f in said if not f.exists()]
        if information.get("compression_mode") not in (None, "", "none"):
            raise BagError(f"bag {self.path} is compressed by rosbag2; unpack it first with `ros2 bag convert`")
        unsaid = [f for f in files if f not in said]
        if unsaid:
            self.problems.append(f"metadata.yaml does not name {', '.join(f.name for f in unsaid)}, which is read too")
        found = [f for f in said if f.exists()] + unsaid
        if not found:
            raise BagError(f"bag {self.path} cannot be read: {'; '.join(self.problems) or 'it names no files'}")
        return found

    def _read_facts(self, information: dict[str, Any]) -> None:
        self._facts: dict[str, str] = {}
        for source in self._sources:
            self._facts.update(source.facts)
        self._facts.update({str(k): str(v) for k, v in (information.get("custom_data") or {}).items()})
        if MISSING in self._facts:
            self.problems.append(f"it was repaired before: {self._facts[MISSING]}")
        self._unpacker = Unpacker(self._facts)
        if self._facts.get(COMPLETE) == NO and self.path.is_dir():
            self.problems.append(
                "it is being written, or its recorder was killed: what came in its last second or two may be missing; "
                "`molmoact2 record --repair` completes it"
            )
        elif self._facts.get(COMPLETE) == AFTERWARDS:
            self.problems.append("completed after its recorder was killed: its last second or two may be missing")

    def _read_definitions(self) -> None:
        """The types whose definitions are known and fit; of the others it is said which messages are left out."""
        self.typestore: Typestore = get_typestore(Stores.EMPTY)
        self._known: set[str] = set()
        types = self._types
        counts = {t: sum(source.counts.get(t, 0) for source in self._sources) for t in types}
        for typename in sorted(set(types.values())):
            problem = self._define(typename)
            if not problem:
                self._known.add(typename)
                continue
            left_out = [f"{counts[t]} messages of {t}" for t, name in types.items() if name == typename and counts[t]]
            self.problems.append(f"{problem}; left out: {', '.join(left_out) or 'nothing, no such message is there'}")

    def _define(self, typename: str) -> str:
        """Takes up the definition of a type; returns what is wrong with it."""
        form, text = next((s.definitions[typename] for s in self._sources if typename in s.definitions), ("", ""))
        digest = next((s.digests[typename] for s in self._sources if typename in s.digests), "")
        try:
            if text:
                self.typestore.register(_parsed(typename, form, text))
            elif typename:
                store = typestore_of({typename})
                self.typestore.register({typename: store.fielddefs[typename], **store.fielddefs})
                self.problems.append(f"there is no definition of {typename} in the bag; the installed one is used")
            actual = self.typestore.hash_rihs01(typename)
        except BagError:
            return f"there is no definition of {typename} in the bag, and none is installed"
        except Exception as error:    # whatever a damaged definition leads the parser to
            return f"the definition of {typename!r} cannot be used: {error}"
        fits = digest in ("", actual)
        return "" if fits else f"the definition of {typename} does not have the hash that the bag names"

    def _raw(self, source: Source, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        found = dict.fromkeys((topic for topic in source.counts if topic in topics), 0)
        try:
            for message in source.messages(topics):
                found[message[0]] += 1
                yield message
        except Exception as error:    # whatever damage leads rosbags, SQLite or a decompressor to
            raise BagError(
                f"bag {self.path} is damaged: {source.path.name}: {error}; `molmoact2 record --repair` leaves it out"
            ) from error
        for topic, count in found.items():
            what = f"{count} messages of {topic} were found, {source.counts[topic]} should be there"
            problem = f"{source.path.name}: {what}"
            if count != source.counts[topic] and problem not in self.problems:
                self.problems.append(problem)


def _parsed(typename: str, form: str, text: str) -> Any:
    if form == "ros2msg":
        return get_types_from_msg(text, typename)
    types: dict[str, Any] = {}
    for part in text.split(LINE)[1:] or [text]:
        types.update(get_types_from_idl(part.split("\n", 1)[1] if LINE in text else part))
    return types


def storage_files(folder: Path) -> list[Path]:
    """The files of a bag in their order, by name."""

    def order(file: Path) -> tuple[int, str]:
        number = file.stem.rpartition("_")[2]
        return (int(number) if number.isdigit() else -1), file.name

    return sorted((f for f in folder.iterdir() if f.suffix in SUFFIXES.values()), key=order)


def read_bag(path: Path) -> Iterator[tuple[str, str, Any, int]]:
    """(topic, type name, message, receive time [ns]) of every message of a bag. Errors: BagError."""
    with Bag(path) as bag:
        yield from bag.messages()


def stamp_ns(stamp: Any) -> int:
    """A builtin_interfaces/Time as nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
