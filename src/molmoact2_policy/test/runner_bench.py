# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A running Runner with the real engine, fed message by message."""

import itertools
import queue
import threading
import time

from tiny_robot import CONTRACT, SECOND, TAG, compressed, image, joint_state, picture

from molmoact2_policy.matcher import MessageSet
from molmoact2_policy.runner import Runner

NOW = 1000 * SECOND
PATIENCE = 30.0    # seconds; only a failing test waits that long


class Feed:
    """Message sets put in by the test."""

    def __init__(self):
        self._sets = queue.SimpleQueue()

    def wait(self, timeout):
        try:
            return self._sets.get(timeout=timeout)
        except queue.Empty:
            return None

    def explain(self, now_ns):
        return f"nothing was fed until {now_ns / SECOND:g} s"

    @property
    def is_empty(self):
        return self._sets.empty()

    def put(self, stamp_ns=NOW, top=None, joints=None):
        top = picture(stamp_ns % 1000) if top is None else top
        messages = (image(top, stamp_ns), compressed(picture(7), stamp_ns))
        self._sets.put(MessageSet(messages, (joints or joint_state(stamp_ns),)))


class Gated:
    """The real backend behind a gate, so that a test can act while an inference is under way."""

    name = "gated"

    def __init__(self, backend):
        self._backend, self.resets, self.failure = backend, 0, None
        self.started, self.gate = queue.SimpleQueue(), threading.Event()
        self.gate.set()

    def infer(self, *arguments):
        self.started.put(time.monotonic())
        assert self.gate.wait(PATIENCE)
        if self.failure:
            raise self.failure
        return self._backend.infer(*arguments)

    def check_instruction(self, instruction):
        self._backend.check_instruction(instruction)

    def reset(self):
        self.resets += 1
        self._backend.reset()


class Bench:
    """A running Runner; `now` is the ROS clock [ns]."""

    def __init__(self, backend, check_frozen=True, min_period=0.0, seed=5, least_latency=0.0):
        self.backend, self.feed, self.now = Gated(backend), Feed(), NOW
        self.outcomes, self.failures = queue.SimpleQueue(), queue.SimpleQueue()
        self.runner = Runner(
            CONTRACT,
            TAG,
            self.backend,
            check_frozen=check_frozen,
            joint_topic="joint_states",
            min_period=min_period,
            seed=seed,
            chunk_ids=itertools.count(1),
            ros_now=lambda: self.now,
            deliver=self.outcomes.put,
            failed=self.failures.put,
            least_latency=least_latency,
        )
        self.runner.reset()
        self.runner.set_instruction("pick up the cube")
        self.runner.start(self.feed)

    def put(self, **what):
        """Feeds an observation captured now."""
        self.feed.put(**{"stamp_ns": self.now, **what})

    def outcome(self):
        return self.outcomes.get(timeout=PATIENCE)

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.005)
