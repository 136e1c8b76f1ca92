# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a recorded policy was configured with, and what a replay of it shall be configured with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from molmoact2_contract import Contract, NormTag, load_contract

from ..backend import Settings
from ..bags.bag import Bag, BagError
from ..report.run import POLICY
from .places import CHECKPOINTS, CONTRACTS, checkpoint_place, contract_place, place

STATUS_TYPE = "molmoact2_msgs/msg/PolicyStatus"
READ: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float, "bool": lambda text: text == "True"}
KINDS = {field.name: READ[str(field.type)] for field in fields(Settings)}
# Bags from before these settings: what they would have said.
BEFORE = {"draft": "False", "solver": "euler", "optimizations": "", "language_weights": "stored", "smoothing": "0.0",
          "noise_scale": "1.0", "offload": "none"}
MACHINE = ("torch", "processor", "threads")
# What decides neither codes nor actions: names, and where the same thing lies.
NAMES_ONLY = ("checkpoint", "contract", "device", "offload")
# What a policy on a server (act_backend.py) says of itself, and what then cannot be promised.
OF_SERVERS = {
    ("act", "plain"): "the server spoke the plain /act protocol: its noise and its trace are not known",
    ("act_images", "jpeg"): "the images went to the server as JPEG, and were recorded as they were",
}


@dataclass(frozen=True)
class Configured:
    """Settings of a policy by name, from a receive time [ns] on."""

    since_ns: int
    facts: Mapping[str, str]

    def differing(self, other: Mapping[str, str]) -> list[str]:
        """Names of the settings that differ."""
        return [name for name in self.facts if self.facts[name] != other.get(name)]


def read_configured(bag: Bag) -> list[Configured]:
    """How the policy was configured, each time anew where that changed. Empty where the bag does not say."""
    found: list[Configured] = []
    if "setting_names" not in bag.fields(STATUS_TYPE):
        return found
    for _, _, status, receive_ns in bag.messages({POLICY}):
        facts = dict(zip(status.setting_names, status.setting_values, strict=True))
        if facts and (not found or found[-1].facts != facts):
            found.append(Configured(receive_ns, facts))
    return found


@dataclass(frozen=True)
class Wanted:
    """What to run: settings, robot, and which of the recorded settings were changed on purpose, with both values."""

    settings: Settings
    contract: Contract
    tag: NormTag
    changed: Mapping[str, tuple[str, str]]


def choose(bag: Bag, recorded: Configured | None, given: Mapping[str, Any], scratch: Path) -> Wanted:
    """The recorded settings with those given instead of them.

    given: by the names of Settings and `contract`; None: as recorded. scratch: a folder for the recorded contract where
    that is not here. Errors: BagError or ContractError that says which option to give.
    """
    facts = {**BEFORE, **recorded.facts} if recorded else {}
    changed = {
        name: (facts.get(name, ""), str(value))
        for name, value in given.items()
        if value is not None and facts.get(name) != str(value)
    }
    values = facts | {name: str(value) for name, value in given.items() if value is not None}
    # What the modes that are asked for have no use for is left out, unless it is asked for, too.
    if given.get("draft") is None and values.get("depth") != "adaptive":
        values["draft"] = BEFORE["draft"]
    for name in ("solver", "noise_scale"):
        if given.get(name) is None and values.get("action_mode") == "discrete":
            values[name] = BEFORE[name]
    if not values.get("device", "cpu").startswith("cuda"):
        values["offload"] = BEFORE["offload"]
    for name in ("contract", "checkpoint", "norm_tag"):
        if not values.get(name):
            option = name.replace("_", "-")
            raise BagError(f"bag {bag.path} does not say which {name} its policy ran; name it with --{option}")
    if given.get("contract"):
        contract = load_contract(place(values["contract"], CONTRACTS, ".yaml", "contract"))
    else:
        contract = load_contract(contract_place(bag, values["contract"], scratch))
    tag = contract.norm_tag(values["norm_tag"])
    if given.get("checkpoint"):
        values["checkpoint"] = place(values["checkpoint"], CHECKPOINTS, "", "checkpoint")
    else:
        values["checkpoint"] = checkpoint_place(bag, values["checkpoint"])
    if values.get("fast_tokenizer"):
        values["fast_tokenizer"] = place(values["fast_tokenizer"], CHECKPOINTS, "", "fast_tokenizer")
    settings = Settings(**{name: kind(values[name]) for name, kind in KINDS.items() if name in values})
    return Wanted(settings, contract, tag, changed)


def unpromised(recorded: Configured | None, wanted: Wanted, facts: Mapping[str, str]) -> list[str]:
    """Why codes and actions need not be equal to the recorded ones; empty where they must be.

    facts: of the backend that replays.
    """
    if recorded is None:
        return ["the bag does not say with which settings its policy ran"]
    reasons = [text for (name, value), text in OF_SERVERS.items() if recorded.facts.get(name) == value]
    if "compiled" in recorded.facts.get("optimizations", "").split(","):
        reasons.append("the expert was compiled (optimisation compiled): its last digits are the compiler's")
    reasons += [f"{name} was {old or 'not known'} and is {new}" for name, (old, new) in wanted.changed.items()]
    for name in facts:
        if name in NAMES_ONLY or name in wanted.changed:
            continue
        was = recorded.facts.get(name, BEFORE.get(name))
        if facts[name] != was:
            reasons.append(f"{name} was {was or 'not known'} and is {facts[name]}")
    return reasons
