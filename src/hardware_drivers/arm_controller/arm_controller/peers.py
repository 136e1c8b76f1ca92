# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The other arms of the robot: what their controllers last said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .controller_state import State

SILENT = 0.5      # [s]; a controller states itself ten times a second


@dataclass
class Peer:
    """One arm's controller. refused: chunks it has refused; steady: when it was last heard [s]."""

    state: State = State.DISARMED
    fault_text: str = ""
    refused: int | None = None
    steady: float = -math.inf


class Peers:
    """The arms that must be well for this one to move."""

    def __init__(self, names: tuple[str, ...]):
        self._peers = {name: Peer() for name in names}

    def hear(self, arm: str, state: State, fault_text: str, refused: int, steady: float) -> bool:
        """Takes a status; returns whether the arm has refused a chunk since the one before. Others are not heeded."""
        peer = self._peers.get(arm)
        if peer is None:
            return False
        refused_more = peer.refused is not None and refused > peer.refused
        self._peers[arm] = Peer(state, fault_text, refused, steady)
        return refused_more

    def error(self, steady: float) -> str:
        """Which arm is not well, and why; empty where all are. steady: steady-clock time [s]."""
        for name, peer in self._peers.items():
            if steady - peer.steady > SILENT:
                return f"the controller of arm {name!r} is silent; start it, or its process has ended"
            if peer.state == State.FAULT:
                return f"arm {name!r} is in fault: {peer.fault_text}"
        return ""
