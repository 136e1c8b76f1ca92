# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The sessions of a server: each client's depth cache and action queue, over one engine."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..policy import MolmoAct2Policy
from ..session import Session
from .extension import SessionSettings

MOST_SESSIONS = 32


@dataclass
class Held:
    """A session by name. queue: actions (D,) of its last chunk that were not yet handed out one by one; codes: depth
    codes of that chunk."""

    session: Session
    tag: str
    settings: SessionSettings
    instruction: str = ""
    queue: deque[np.ndarray] = field(default_factory=deque)
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


class Sessions:
    """Used in the engine's thread alone. The one that has not been used for longest gives way to a new one."""

    def __init__(self, policy: MolmoAct2Policy, tag: str, fast_tokenizer: Path | None):
        self._policy, self._fast = policy, fast_tokenizer
        mode = "continuous" if policy.config.supports_continuous else "discrete"
        # The engine that all share: they are used in one thread, and what they are shown is seen once.
        fast = fast_tokenizer if mode == "discrete" else None
        self._first = policy.session(norm_tag=tag, action_mode=mode, fast_tokenizer=fast)
        self._held: OrderedDict[str, Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def named(self, name: str, tag: str, settings: SessionSettings) -> Held:
        """The session of a name; opened anew where there is none, or where its tag or settings are others now.

        Errors: InputError for what the checkpoint cannot do; the session of that name stays as it was.
        """
        held = self._held.get(name)
        if held is None or (held.tag, held.settings) != (tag, settings):
            held = Held(self.fresh(tag, settings), tag, settings)
        self._held[name] = held
        self._held.move_to_end(name)
        while len(self._held) > MOST_SESSIONS:
            self._held.popitem(last=False)
        return held

    def fresh(self, tag: str, settings: SessionSettings) -> Session:
        """A session that remembers nothing. Errors: InputError."""
        fast = self._fast if settings.action_mode == "discrete" else None
        return self._policy.session(norm_tag=tag, fast_tokenizer=fast, beside=self._first, **settings.options())

    def remove(self, name: str, with_prefix: bool) -> list[str]:
        """Forgets a session, or it and all whose names begin with NAME and a colon; their names."""
        gone = [key for key in self._held if key == name or with_prefix and key.startswith(f"{name}:")]
        for key in gone:
            del self._held[key]
        return gone
