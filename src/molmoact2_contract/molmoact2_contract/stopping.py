# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What an arm physically does when it is stopped or left alone, in words for whoever stands beside it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .reading import Section


@dataclass(frozen=True)
class Stopping:
    """One sentence each, about the real arm. Nothing is decided by them: they are to be shown.

    disarm: an operator disarms it. fault: it is in FAULT, its joints are still read. lost_state: they are not read any
    more. process_death: the process that drives it is killed, or its computer dies. close: that process ends in order.
    """

    disarm: str
    fault: str
    lost_state: str
    process_death: str
    close: str

    def __str__(self) -> str:
        """All of it in one line, each sentence after what it is about."""
        return " ".join(f"{_words(field.name)}: {getattr(self, field.name)}." for field in fields(self))


def _words(name: str) -> str:
    return "FAULT" if name == "fault" else name.replace("_", " ").capitalize()


def read_stopping(arm: Section) -> Stopping | None:
    """None where the contract does not say it. Errors: ContractError."""
    if "stopping" not in arm:
        return None
    with arm.section("stopping") as section:
        return Stopping(**{field.name: _sentence(section, field.name) for field in fields(Stopping)})


def _sentence(section: Section, key: str) -> str:
    """In one line, without the full stop at its end."""
    return " ".join(section.text(key).split()).rstrip(".")
