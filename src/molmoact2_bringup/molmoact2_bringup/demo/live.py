# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The line that tells how a running demo goes: one that updates on a terminal, plain ones now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
from dataclasses import dataclass, field
from typing import TextIO

from molmoact2_msgs.msg import ControllerStatus, PolicyStatus, ReasoningTrace
from rclpy.node import Node

from molmoact2_contract import Contract
from molmoact2_contract.qos import STATUS, TRACE

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
    """Shows the line, with log lines above it. `write_line` may be called from any thread, also before `start`."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._seen, self._shown = Seen(), ""
        self._node: Node | None = None
        self._subscriptions: list = []

    def start(self, node: Node, contract: Contract, total: float) -> None:
        """Begins to count and to listen. node: spun by its owner. total: length of the run in robot time [s]."""
        self._node, self._total = node, total
        self._began, self._next_plain = node.get_clock().now(), 0.0
        self._chunks_before: int | None = None
        self._subscriptions = [
            node.create_subscription(PolicyStatus, "policy/status", self._on_policy, STATUS),
            node.create_subscription(ReasoningTrace, "policy/reasoning_trace", self._on_trace, TRACE),
        ]
        for arm in contract.arms:
            self._subscriptions.append(
                node.create_subscription(
                    ControllerStatus, f"{arm}/status", lambda message, arm=arm: self._on_arm(arm, message), STATUS
                )
            )

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
        self._seen.states[arm] = STATES.get(message.state, f"state {message.state}") + (" paused" if message.paused else "")

    def tick(self) -> None:
        """Shows how things stand. Call it often; it decides when to write."""
        assert self._node is not None, "start() comes first"
        elapsed = (self._node.get_clock().now() - self._began).nanoseconds / 1e9
        line = live_line(elapsed, self._total, self._seen)
        with self._lock:
            if self._terminal:
                self._shown = line[: max(20, shutil.get_terminal_size().columns - 1)]
                self._stream.write(f"\r\x1b[K{self._shown}")
            elif elapsed >= self._next_plain:
                self._next_plain = elapsed + PLAIN_PERIOD
                self._stream.write(line + "\n")
            else:
                return
            self._stream.flush()

    def write_line(self, line: str) -> None:
        """Prints a line of its own, and the live line below it again."""
        with self._lock:
            self._stream.write(f"\r\x1b[K{line}\n{self._shown}" if self._shown else f"{line}\n")
            self._stream.flush()

    def stop(self) -> None:
        """Ends the line and stops listening. May be called again."""
        with self._lock:
            if self._shown:
                self._stream.write("\n")
                self._stream.flush()
                self._shown = ""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
