# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A recorder beside a running system, in a process of its own, and whether what was heard is in its bag."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from molmoact2_contract import Contract
from molmoact2_policy.bags.bag import Bag, BagError, stamp_ns
from molmoact2_policy.bags.facts import facts_of
from molmoact2_policy.bags.recorder import BagRecorder
from molmoact2_policy.bags.topics import topics_of
from molmoact2_policy.report.run import resolved

NODE = "faults_recorder"
BEGIN_WITHIN, END_WITHIN = 60.0, 30.0    # [s]
LAST_WORDS = 0.5                         # [s] in which what is still under way arrives
SUPERSEDED = 0.05                        # of the states, of which the newest counts and older ones may be left out


class Recording:
    """Records every topic of a robot but its images while the context is open. Errors: BagError.

    Begin it before the system: what was sent before the middleware had brought the two together is in no bag. It has a
    process of its own, which ends with the one that began it, its bag complete.
    """

    def __init__(self, contract: Contract, path: Path):
        self.path = path
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_record, args=(contract, path, other), name=NODE, daemon=True)
        self._process.start()
        other.close()

    def __enter__(self) -> Recording:
        """Waits until it records."""
        error = self._hear(BEGIN_WITHIN, "did not begin")
        if error:
            self._process.kill()
            raise BagError(f"bag {self.path}: {error}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Completes the bag."""
        with contextlib.suppress(OSError):    # where it has ended, what it said of that comes now
            self._pipe.send("end")
        failure = self._hear(END_WITHIN, "did not end")
        self._process.join(0.0 if failure else END_WITHIN)
        self._process.kill()
        if failure and error is None:
            raise BagError(f"bag {self.path}: {failure}")

    def _hear(self, patience: float, what: str) -> str:
        """What the process says: empty where it does as it should."""
        try:
            return str(self._pipe.recv()) if self._pipe.poll(patience) else f"its recorder {what} in {patience:g} s"
        except EOFError:
            self._process.join(1.0)
            return f"its recorder ended with exit code {self._process.exitcode}"


def _record(contract: Contract, path: Path, pipe: Connection) -> None:
    """The process: says when it records, and ends when it is told to or nobody is left to tell it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)    # a terminal's Ctrl-C reaches it too; its parent ends it
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(NODE)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    topics = {name: kind for name, kind in topics_of(contract).items() if kind not in (Image, CompressedImage)}
    try:
        with BagRecorder(node, path, topics, facts=facts_of(contract, None)):
            pipe.send("")
            while not pipe.poll():
                executor.spin_once(timeout_sec=0.1)
            end = node.get_clock().now().nanoseconds + LAST_WORDS * 1e9
            while node.get_clock().now().nanoseconds < end:
                executor.spin_once(timeout_sec=0.1)
        pipe.send("")
    except BagError as error:
        pipe.send(str(error))
    except OSError:
        pass    # whoever began it is gone, and the bag is complete
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def lost(path: Path, heard: Mapping[str, Sequence[int]], states: Collection[str] = ()) -> tuple[str, str]:
    """Whether all that was heard is in a bag: in words what it holds, and what it lacks (empty where nothing).

    heard: for each topic the stamps of the messages' headers [ns], each as often as it was heard. states: those topics
    that keep the newest message only, of which a share of SUPERSEDED may be missing.
    """
    try:
        with Bag(path) as bag:
            counts, dropped = bag.counts, bag.dropped
            wanted = {resolved(topic): Counter(stamps) for topic, stamps in heard.items()}
            for topic, _, message, _ in bag.messages(wanted):
                wanted[topic][stamp_ns(message.header.stamp)] -= 1
    except BagError as error:
        return "nothing", str(error)
    missing = {topic: sum(n for n in stamps.values() if n > 0) for topic, stamps in wanted.items()}
    for topic in states:
        if missing[resolved(topic)] <= SUPERSEDED * len(heard[topic]):
            missing[resolved(topic)] = 0
    seen = ", ".join(f"{counts.get(topic, 0)} of {topic}" for topic in wanted)
    wrong = [f"{n} messages of {topic} are missing" for topic, n in missing.items() if n]
    if dropped is None:
        wrong.append("the bag does not say what its recorder dropped")
    wrong += [f"{n} messages of {topic} were dropped" for topic, n in (dropped or {}).items() if n]
    return seen, "; ".join(wrong)
