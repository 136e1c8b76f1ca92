# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Records topics of a running graph into a rosbag2 bag (MCAP), message definitions included."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from molmoact2_contract import Contract
from molmoact2_contract.qos import CHUNK, DIAGNOSTICS, SENSOR_PUBLISH, STATUS, SUCCESS_TESTS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace, SuccessTest

from .bag import DROPPED, BagError

QUEUE_BYTES = 128 * 2**20    # about ten seconds of three 640x480 cameras at 15 Hz
DEPTH = 100                  # messages that the middleware keeps while the executor is busy
LARGE_DEPTH = 20             # the same for images

PROFILES: dict[type, QoSProfile] = {
    ActionChunk: CHUNK,
    ReasoningTrace: TRACE,
    ControllerStatus: STATUS,
    PolicyStatus: STATUS,
    SuccessTest: SUCCESS_TESTS,
    DiagnosticArray: DIAGNOSTICS,
}


def topics_of(contract: Contract) -> dict[str, type]:
    """The topics of a robot's running system and their types: cameras, joints, policy, controllers, tests of success,
    diagnostics."""
    topics: dict[str, type] = {}
    for camera in contract.cameras.values():
        topics[camera.topic] = CompressedImage if camera.transport == "compressed" else Image
        topics[camera.info_topic] = CameraInfo
    topics["joint_states"] = JointState
    for arm in contract.arms:
        topics[f"{arm}/status"] = ControllerStatus
    topics["policy/action_chunk"] = ActionChunk
    topics["policy/reasoning_trace"] = ReasoningTrace
    topics["policy/status"] = PolicyStatus
    topics["success_tests"] = SuccessTest
    topics["/diagnostics"] = DiagnosticArray
    return topics


class BagRecorder:
    """Writes what is published on some topics to a new bag until closed.

    Messages are taken as they come from the wire and handed to a writer thread, so that the node's executor never waits
    for the disk; what does not fit the bounded queue is dropped and counted (`dropped`, also kept in the bag).
    Timestamps are receive times. Close it in any case (or use it as a context manager): that completes the bag.

    node: spun by its owner. path: the bag's folder, which must not exist. topics: name -> message class.
    Errors: BagError where the path exists or a type has no definition to be found.
    """

    def __init__(self, node: Node, path: Path, topics: dict[str, type], queue_bytes: int = QUEUE_BYTES):
        self.path = Path(path)
        self.error: Exception | None = None    # why writing failed
        self._node, self._queue_bytes = node, queue_bytes
        self._queue: deque[tuple[str, int, bytes]] = deque()
        self._queued, self._closing = 0, False
        self._wake = threading.Condition()
        self._subscriptions: dict[str, Subscription] = {}
        self._connections: dict[str, Connection] = {}
        typestore = typestore_of({typename_of(t) for t in topics.values()})
        self._writer = open_writer(self.path)
        resolved = {node.resolve_topic_name(topic): kind for topic, kind in topics.items()}
        for topic, kind in resolved.items():
            self._connections[topic] = self._writer.add_connection(topic, typename_of(kind), typestore=typestore)
        self.dropped = dict.fromkeys(resolved, 0)
        self.received = dict.fromkeys(resolved, 0)
        self._thread = threading.Thread(target=self._write, name="bag-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        for topic, kind in resolved.items():
            self._subscribe(topic, kind, _profile(kind))

    def __enter__(self) -> BagRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.close()
        except BagError as failure:
            if error is None:
                raise
            self._node.get_logger().error(str(failure))    # what already went wrong is the more important of the two

    def _subscribe(self, topic: str, kind: type, profile: QoSProfile) -> None:
        clock = self._node.get_clock()

        def take(data: bytes, info: Any) -> None:
            # The middleware's own time of reception does not depend on how busy this process is.
            simulated = getattr(clock, "ros_time_is_active", False)
            self._put(topic, clock.now().nanoseconds if simulated else info["received_timestamp"], data)

        def relax(_: Any) -> None:
            old = self._subscriptions.pop(topic, None)
            if old is None:
                return
            self._node.get_logger().info(f"{topic}: its publisher promises less than asked for; recorded as it comes")
            self._subscribe(topic, kind, _relaxed(profile))
            self._node.destroy_subscription(old)

        asks_more = profile.reliability == ReliabilityPolicy.RELIABLE
        events = SubscriptionEventCallbacks(incompatible_qos=relax) if asks_more else None
        callback: Callable[..., None] = take    # rclpy's annotation leaves out the form with message info
        self._subscriptions[topic] = self._node.create_subscription(
            kind, topic, callback, profile, raw=True, event_callbacks=events
        )

    def _put(self, topic: str, receive_ns: int, data: bytes) -> None:
        with self._wake:
            if self._closing:
                return
            self.received[topic] += 1
            if self.error is not None or self._queued + len(data) > self._queue_bytes:
                self.dropped[topic] += 1
                return
            self._queue.append((topic, receive_ns, data))
            self._queued += len(data)
            self._wake.notify()

    def _write(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                topic, receive_ns, data = self._queue.popleft()
                self._queued -= len(data)
            try:
                if self.error is None:
                    self._writer.write(self._connections[topic], receive_ns, data)
                    continue
            except Exception as error:    # any failure of the storage: count what is lost, and say it on closing
                self.error = error
            with self._wake:
                self.dropped[topic] += 1

    def close(self) -> None:
        """Writes what is queued and completes the bag. May be called again.

        Errors: BagError where writing failed; what was written before is kept where the storage allows it.
        """
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        atexit.unregister(self.close)
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._thread.join()
        for topic, count in self.dropped.items():
            self._writer.set_custom_data(DROPPED + topic, str(count))
        try:
            self._writer.close()
        except Exception as error:
            self._writer.abort()
            self.error = self.error or error
        if self.error is not None:
            raise BagError(f"bag {self.path}: writing failed ({self.error}); it is incomplete") from self.error


def open_writer(path: Path) -> Writer:
    if path.exists():
        raise BagError(f"bag {path} exists already; remove it or choose another path")
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    try:
        writer.open()
    except OSError as error:
        raise BagError(f"bag {path} cannot be created: {error}") from error
    return writer


def _profile(kind: type) -> QoSProfile:
    """The profile of the traffic's class, with a history deep enough to lose nothing while the executor is busy."""
    base = PROFILES.get(kind, SENSOR_PUBLISH)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=LARGE_DEPTH if kind in (Image, CompressedImage) else DEPTH,
        reliability=base.reliability,
        durability=base.durability,
    )


def _relaxed(profile: QoSProfile) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=profile.depth,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def typename_of(kind: type) -> str:
    package, folder, *_ = kind.__module__.split(".")
    return f"{package}/{folder}/{kind.__name__}"


def typestore_of(typenames: set[str]) -> Typestore:
    """rosbags' definitions of Jazzy's own messages, and those of other packages from their installed .msg files."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for package in sorted({name.split("/")[0] for name in typenames if name not in store.fielddefs}):
        try:
            folder = Path(get_package_share_directory(package)) / "msg"
        except PackageNotFoundError as error:
            raise BagError(f"package {package!r} is not installed; source the workspace that has it") from error
        definitions = {}
        for file in sorted(folder.glob("*.msg")):
            definitions.update(get_types_from_msg(file.read_text(), f"{package}/msg/{file.stem}"))
        store.register(definitions)
    missing = sorted(name for name in typenames if name not in store.fielddefs)
    if missing:
        raise BagError(f"no definition found of {', '.join(missing)}; is its package built from .msg files?")
    return store
