# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The line that tells how a running demo goes: one that updates on a terminal, plain ones now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TextIO

from rclpy.node import Node

from molmoact2_contract import Contract
from molmoact2_contract.qos import STATUS, TRACE
from molmoact2_msgs.msg import ControllerStatus, PolicyStatus, ReasoningTrace

PLAIN_PERIOD = 5.0    # seconds between two lines where the output is no terminal
STATES = {
    ControllerStatus.DISARMED: "disarmed",
    ControllerStatus.HOLDING: "holding",
    ControllerStatus.FOLLOWING: "following",
    ControllerStatus.STOPPING: "stopping",
    ControllerStatus.FAULT: "FAULT",
}


@dataclass
class Seen:
    """What the line tells, as far as it was seen: None and empty before the first message."""

    chunks: int = 0
    latency_p50: float | None = None                       # [s]
    refreshed: tuple[int, int] | None = None               # cells generated anew in the last inference, of how many
    states: dict[str, str] = field(default_factory=dict)   # by arm
    withheld: str = ""                                     # why no chunk flows


def live_line(elapsed: float, total: float, seen: Seen) -> str:
    """One line of progress. elapsed, total: robot time [s]."""
    done = min(max(elapsed / total, 0.0), 1.0)
    bar = "█" * round(12 * done) + "░" * (12 - round(12 * done))
    latency = "–" if seen.latency_p50 is None else f"{seen.latency_p50:.2f} s"
    refreshed = "–" if seen.refreshed is None else f"{seen.refreshed[0]}/{seen.refreshed[1]}"
    states = seen.states.values() if len(seen.states) == 1 else (f"{a} {s}" for a, s in sorted(seen.states.items()))
    parts = [
        f"{bar} {elapsed:4.1f}/{total:.0f} s",
        f"chunks {seen.chunks}",
        f"latency p50 {latency}",
        f"refreshed {refreshed}",
        f"controller {', '.join(states) or 'silent'}",
    ]
    if seen.withheld:
        parts.append(f"chunks withheld: {seen.withheld}")
    return "  ".join(parts)


class LiveLine:
    """Shows the line while a run goes on. node: spun by its owner. total: length of the run in robot time [s]."""

    def __init__(self, node: Node, contract: Contract, total: float, stream: TextIO | None = None):
        self._node, self._total = node, total
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._seen = Seen()
        self._chunks_before: int | None = None
        self._began, self._next_plain = node.get_clock().now(), 0.0
        self._ended = False
        node.create_subscription(PolicyStatus, "policy/status", self._on_policy, STATUS)
        node.create_subscription(ReasoningTrace, "policy/reasoning_trace", self._on_trace, TRACE)
        for arm in contract.arms:
            node.create_subscription(ControllerStatus, f"{arm}/status", partial(self._on_arm, arm), STATUS)

    def _on_policy(self, message: PolicyStatus) -> None:
        if self._chunks_before is None or message.chunks < self._chunks_before:
            self._chunks_before = message.chunks
        self._seen.chunks = message.chunks - self._chunks_before
        self._seen.withheld = message.withheld
        if message.latency_p50 > 0:
            self._seen.latency_p50 = message.latency_p50

    def _on_trace(self, message: ReasoningTrace) -> None:
        if message.refreshed:
            self._seen.refreshed = (sum(message.refreshed), len(message.refreshed))

    def _on_arm(self, arm: str, message: ControllerStatus) -> None:
        state = STATES.get(message.state, f"state {message.state}")
        self._seen.states[arm] = f"{state} (paused)" if message.paused else state

    def update(self) -> None:
        """Shows how things stand. Call it often; outside a terminal it writes a line only every few seconds."""
        elapsed = (self._node.get_clock().now() - self._began).nanoseconds / 1e9
        line = live_line(elapsed, self._total, self._seen)
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line[: max(20, shutil.get_terminal_size().columns - 1)]}")
        elif elapsed >= self._next_plain:
            self._next_plain = elapsed + PLAIN_PERIOD
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def end(self) -> None:
        """Ends the line. May be called again. The subscriptions end with the node: rclpy's executor falls over one that
        is destroyed beside it, from another thread."""
        if self._terminal and not self._ended:
            self._stream.write("\n")
            self._stream.flush()
        self._ended = True
