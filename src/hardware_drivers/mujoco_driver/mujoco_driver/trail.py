# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a double remembers for whoever watches it: where its arm was, and what it was told.

The first on the clock of its physics, the other on the steady clock: a computer that stands still for a moment changes
no speed of the arm by that, and none of its setpoints. No ROS here.
"""

from __future__ import annotations

from collections import deque
from typing import Any

SEEN_EVERY = 0.01    # [s] of the double's clock
KEPT = 2000          # rows of each kind, until they are taken


class Trail:
    """Rows of `seen` and `told`: "time" [s], and the rest as the double's answer to "ask" has it."""

    def __init__(self) -> None:
        self._seen: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._told: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._due = 0.0

    def is_due(self, time: float) -> bool:
        """Whether it is time to look at the arm again."""
        return time >= self._due

    def see(self, time: float, **where: Any) -> None:
        self._seen.append({"time": time, **where})
        self._due = time + SEEN_EVERY

    def tell(self, time: float, **goals: Any) -> None:
        self._told.append({"time": time, **goals})

    def take(self) -> dict[str, list[dict[str, Any]]]:
        """What came since this was last called, oldest first."""
        taken = {"seen": list(self._seen), "told": list(self._told)}
        self._seen.clear()
        self._told.clear()
        return taken
