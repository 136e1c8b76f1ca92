# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""In the place of the policy's part of the check on a computer that has no policy: a robot's own. No ROS here."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from .heard import Heard
from .line import Line, skipped

NEEDED = ("molmoact2_policy", "molmoact2_model")


def absent() -> str:
    """The package that the policy's part needs and this computer has not; empty where it has all."""
    return next((name for name in NEEDED if find_spec(name) is None), "")


def elsewhere_line(package: str) -> Line:
    """The one line for all that are not made."""
    return skipped(
        "policy", f"the lines of checkpoint, memory, inference and latency are made on the computer with the policy: "
        f"{package} is not on this one",
    )


class NoPolicy:
    """As a PolicyCheck that has nothing to say: elsewhere_line has said it."""

    def load(self) -> None:
        pass

    def ask(self, heard: Heard | None, stopped: Callable[[], bool] = lambda: False) -> None:
        pass

    def close(self) -> None:
        pass
