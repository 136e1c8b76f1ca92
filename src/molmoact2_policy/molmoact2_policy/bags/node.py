# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `recorder`: a BagRecorder with parameters or options, that tells in /diagnostics how it does."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from molmoact2_contract import ContractError, load_contract, load_system
from molmoact2_contract.qos import DIAGNOSTICS
from molmoact2_contract.stop_flag import StopFlag

from .errors import BagError
from .facts import facts_of
from .graph_types import conflicts, types_of
from .options import MB, Options
from .pictures import EXACT
from .recorder import JPEG_QUALITY, MIN_FREE, QUEUE_BYTES, BagRecorder
from .writer import Limits

NAME = "recorder"
PATIENCE = 5.0    # [s] for topics whose type only the graph knows
PERIOD = 1.0      # of /diagnostics [s]
WARN, ERROR = bytes([1]), bytes([2])
PARAMETERS: dict[str, tuple[Any, str]] = {
    "contract": ("", "path or name of the embodiment contract"),
    "simulation": (False, "whether the robot is simulated"),
    "system": ("", "name or path of the system file to keep in the bag; may be empty"),
    "out": ("out/bags", "folder that gets a bag, named by contract and time"),
    "topics": ([""], "what to record; empty: all topics of the robot"),
    "storage": ("mcap", "mcap or sqlite3"),
    "images": (EXACT, "exact, lossless or jpeg"),
    "jpeg_quality": (JPEG_QUALITY, "1 ... 100"),
    "max_size": (1000.0, "of one file [MB]; 0: no limit"),
    "max_seconds": (0.0, "of one file [s]; 0: no limit"),
    "queue": (QUEUE_BYTES / MB, "memory for what waits for the disk [MB]"),
    "min_free": (MIN_FREE / MB, "left free on the disk [MB]"),
}


class RecorderNode(Node):
    """Records from begin() until close(). `failure`: why it stopped before that, in words; empty while it goes on."""

    def __init__(self, options: Options | None = None, **more: Any):
        super().__init__(NAME, **more)
        self.options = options or self._from_parameters()
        self.recorder: BagRecorder | None = None
        self.failure, self.bad_input = "", False
        self._types: dict[str, type] = {}
        self._publisher = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.create_timer(PERIOD, self._watch)

    def begin(self, executor: SingleThreadedExecutor) -> None:
        """executor: spins this node. Errors: BagError."""
        wanted = self.options
        topics: dict[str, type] = wanted.known_topics()
        topics |= types_of(self, wanted.unknown_topics(), PATIENCE, lambda: executor.spin_once(timeout_sec=0.1))
        self._types = {self.resolve_topic_name(topic): kind for topic, kind in topics.items()}
        self.recorder = BagRecorder(
            self, wanted.path, topics, wanted.queue_bytes, wanted.storage, wanted.limits,
            facts_of(wanted.contract, wanted.system), wanted.min_free, wanted.images, wanted.jpeg_quality,
        )

    def close(self) -> None:
        """Completes the bag. Errors: BagError where writing failed."""
        if self.recorder is not None:
            self.recorder.close()

    def _watch(self) -> None:
        recorder = self.recorder
        if recorder is None:
            return
        wrong = conflicts(self, self._types)
        if wrong and not self.failure:
            self.failure, self.bad_input = "; ".join(wrong), True
        if recorder.error is not None and not self.failure:
            self.failure = str(recorder.error)
        self._publisher.publish(self._diagnostics(recorder))

    def _diagnostics(self, recorder: BagRecorder) -> DiagnosticArray:
        dropped = sum(recorder.dropped.values())
        status = DiagnosticStatus(name=NAME, hardware_id="", message="recording", level=DiagnosticStatus.OK)
        if self.failure:
            status.message, status.level = self.failure, ERROR
        elif dropped:
            status.message, status.level = f"the disk is too slow: {dropped} messages were dropped", WARN
        values = {"bag": str(recorder.path), "received": sum(recorder.received.values()), "dropped": dropped}
        values |= {f"dropped of {topic}": count for topic, count in recorder.dropped.items() if count}
        values["free on the disk [MB]"] = shutil.disk_usage(recorder.path).free // MB
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        return message

    def _from_parameters(self) -> Options:
        given: dict[str, Any] = {}
        for name, (default, text) in PARAMETERS.items():
            described = ParameterDescriptor(description=text, read_only=True)
            given[name] = self.declare_parameter(name, default, described).value
        system = load_system(given["system"]) if given["system"] else None
        contract = load_contract(given["contract"]) if given["contract"] else system.contract if system else None
        topics = tuple(topic for topic in given["topics"] if topic)
        return Options(
            new_bag(Path(given["out"]), contract.path.stem if contract else "bag"), contract, system, topics,
            given["storage"], given["images"], given["jpeg_quality"],
            Limits(int(given["max_size"] * MB), given["max_seconds"]), int(given["queue"] * MB),
            int(given["min_free"] * MB),
        )


def new_bag(folder: Path, name: str) -> Path:
    """A path in a folder that names a new bag by the time of the day."""
    return folder / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


class Recording:
    """A RecorderNode with what spins it. Errors on construction: BagError, ContractError, ParameterException."""

    def __init__(self, options: Options | None = None):
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        try:
            self.node = RecorderNode(options)
            self._executor = SingleThreadedExecutor()
            self._executor.add_node(self.node)
            self.node.begin(self._executor)
        except BaseException:
            rclpy.try_shutdown()
            raise

    def spin(self, seconds: float) -> None:
        """Goes on for so long, or until it cannot go on."""
        end = time.monotonic() + seconds
        while not self.node.failure and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> str:
        """Completes the bag and leaves the graph; returns what went wrong, in words."""
        failure = self.node.failure
        try:
            self.node.close()
        except BagError as error:
            failure = str(error)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()
        return failure


def main() -> int:
    stop = StopFlag()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        recording = Recording()
    except (BagError, ContractError, ParameterException) as error:
        print(f"error: {NAME}: {error}", file=sys.stderr)
        return 2
    print(f"recording to {recording.node.options.path}", flush=True)
    try:
        while not stop.is_set() and not recording.node.failure:
            recording.spin(0.2)
    except ExternalShutdownException:
        pass
    bad_input = recording.node.bad_input
    failure = recording.close()
    if failure:
        print(f"error: {NAME}: {failure}", file=sys.stderr)
    return (2 if bad_input else 1) if failure else 0


if __name__ == "__main__":
    sys.exit(main())
