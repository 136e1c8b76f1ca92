# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The other arms of the robot: what their controllers last said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .controller_state import State

SILENT = 0.5      # [s]; a controller states itself ten times a second
IDLE = (State.DISARMED, State.STOPPING)


@dataclass(frozen=True)
class PeerStatus:
    """What one arm's controller says. refused: chunks it has refused, refused_id: the last of them; waits: it follows
    nothing until an operator resumes it."""

    state: State = State.DISARMED
    fault_text: str = ""
    refused: int | None = None
    refused_id: int = 0
    waits: bool = False


class Peers:
    """The arms that must be well, and take the same chunks, for this one to follow any. What its operator asks of it
    does not depend on them. Times: steady clock [s]."""

    def __init__(self, names: tuple[str, ...]):
        self._peers = dict.fromkeys(names, PeerStatus())
        self._heard = dict.fromkeys(names, -math.inf)

    def hear(self, arm: str, status: PeerStatus, steady: float) -> str:
        """Takes a status; returns why this arm must not go on following its chunk. Others are not heeded."""
        before = self._peers.get(arm)
        if before is None:
            return ""
        self._peers[arm], self._heard[arm] = status, steady
        if before.refused is not None and (status.refused or 0) > before.refused:
            return f"arm {arm!r} refused a chunk; both stop"
        return self.idle()

    def idle(self) -> str:
        """Which arm follows nothing now because of an operator or of itself; empty where none."""
        for name, peer in self._peers.items():
            if peer.state in IDLE:
                return f"arm {name!r} is {peer.state.name.lower()}; both stop"
            if peer.waits:
                return f"arm {name!r} waits for an operator; call {name}/resume"
        return ""

    def against(self, chunk_id: int, steady: float) -> str:
        """Why a chunk must not be followed; empty where every arm is well and none is against it."""
        unwell = self.error(steady)
        if unwell:
            return unwell
        for name, peer in self._peers.items():
            if peer.refused and peer.refused_id == chunk_id:
                return f"arm {name!r} refused it"
        return self.idle()

    def error(self, steady: float) -> str:
        """Which arm is not well, and why; empty where all are."""
        for name, peer in self._peers.items():
            if steady - self._heard[name] > SILENT:
                return f"the controller of arm {name!r} is silent; start it, or its process has ended"
            if peer.state == State.FAULT:
                return f"arm {name!r} is in fault: {peer.fault_text}"
        return ""
