# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where contract and checkpoint of a recording lie here, and whether they are what they were then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from molmoact2_contract import ContractError, find_resource, share_folders

from ..bags.bag import Bag, BagError

CONTRACTS, CHECKPOINTS = "config/embodiments", "checkpoints"


def contract_place(bag: Bag, named: str, scratch: Path) -> Path:
    """The recorded contract: the file of that name, or where that has changed since or is not here, its text from the
    bag, written into the folder `scratch`. Errors: ContractError."""
    text = bag.facts.get("contract_file", "")
    try:
        here = Path(place(named, CONTRACTS, ".yaml", "contract"))
        if not text or here.read_text("utf8") == text:
            return here
    except (ContractError, UnicodeDecodeError):
        if not text:
            raise
    recorded = scratch / f"{Path(named).stem}.yaml"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        recorded.write_text(text, "utf8")
    except OSError as error:
        raise BagError(f"the contract of bag {bag.path} cannot be written to {recorded}: {error}") from error
    return recorded


def checkpoint_place(bag: Bag, named: str) -> str:
    """The recorded checkpoint: where it was, by its name, or else the one of the suite's own with its fingerprint.

    Errors: ContractError where none is here, or none that has the recorded fingerprint.
    """
    wanted = bag.facts.get("checkpoint_fingerprint", "")
    if not wanted:
        return place(named, CHECKPOINTS, "", "checkpoint")
    found = ""
    for candidate in _candidates(named):
        found = candidate
        if _fingerprint(candidate) == wanted:
            return candidate
    if found:
        raise ContractError(
            f"checkpoint {named} is not here as it was recorded: no checkpoint has the fingerprint {wanted[:16]}…; say "
            "where it is with --checkpoint, or name another one to replay with"
        )
    return place(named, CHECKPOINTS, "", "checkpoint")    # says what there is


def _candidates(named: str) -> Iterator[str]:
    with suppress(ContractError):
        yield place(named, CHECKPOINTS, "", "checkpoint")
    for folder in share_folders():
        yield from (str(path) for path in sorted((folder / CHECKPOINTS).glob("*")) if path.is_dir())


def _fingerprint(candidate: str) -> str:
    """Empty where it cannot be read."""
    from molmoact2_model import CheckpointError, find_checkpoint, fingerprint

    try:
        return fingerprint(find_checkpoint(candidate))
    except CheckpointError:
        return ""


def place(value: str, folder: str, suffix: str, name: str) -> str:
    """Where a file of the recording lies here: as it was named, or by its last part among the suite's own.

    What has the form owner/name may be a Hub id. Errors: ContractError.
    """
    for candidate in (value, Path(value).name.removesuffix(suffix)):
        try:
            return str(find_resource(folder, candidate, suffix))
        except ContractError:
            continue
    if name == "checkpoint" and value.count("/") == 1 and not value.startswith((".", "/")):
        return value
    option = name.replace("_", "-")
    raise ContractError(f"{name} {value} is not here; say where it is with --{option}")
