# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Records topics of a running graph into a rosbag2 bag, message definitions included."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from .bag import DROPPED
from .bounded_queue import BoundedQueue
from .definitions import definitions_of, typename_of
from .errors import BagError
from .facts import facts_of_policy
from .keeper import Keeper
from .metadata import Topic
from .pictures import COMPRESSED, EXACT, IMAGE, SUFFIX, Pictures
from .topics import profile_for, relaxed
from .writer import UNLIMITED, BagWriter, Limits
from .writer_thread import Message, WriterThread, check_space

POLICY = "molmoact2_msgs/msg/PolicyStatus"
QUEUE_BYTES = 128 * 2**20    # about ten seconds of three 640x480 cameras at 15 Hz
JPEG_QUALITY = 90
MIN_FREE = 256 * 2**20       # bytes kept free on the disk


class BagRecorder:
    """Writes what is published on some topics to a new bag until closed.

    Messages are taken as they come from the wire and handed to a writer thread, so that the node's executor never waits
    for the disk; what does not fit the bounded queue is dropped and counted (`dropped`, also kept in the bag).
    Timestamps are receive times. Close it in any case (or use it as a context manager): that completes the bag. Where
    this process is killed, the keeper completes it.

    node: spun by its owner. path: the bag's folder, which must not exist. topics: name -> message class. facts: kept in
    the bag besides messages, by name. min_free: bytes of the disk that are left free. images: exact, lossless or jpeg
    (see Pictures). Errors: BagError where the path exists, cannot be written or is full, or a type has no definition to
    be found.
    """

    def __init__(
        self,
        node: Node,
        path: Path,
        topics: Mapping[str, type],
        queue_bytes: int = QUEUE_BYTES,
        storage: str = "mcap",
        limits: Limits = UNLIMITED,
        facts: Mapping[str, str] | None = None,
        min_free: int = MIN_FREE,
        images: str = EXACT,
        jpeg_quality: int = JPEG_QUALITY,
    ):
        self.path = Path(path)
        self._node = node
        self._subscriptions: dict[str, Subscription] = {}
        resolved = {node.resolve_topic_name(topic): kind for topic, kind in topics.items()}
        names = {topic: typename_of(kind) for topic, kind in resolved.items()}
        self._pictures = Pictures(images, jpeg_quality, {t for t, n in names.items() if n == IMAGE}, self._as_it_came)
        self._policy = node.resolve_topic_name("policy/status") if POLICY in names.values() else ""
        definitions = definitions_of({*names.values(), COMPRESSED})
        _check_begin(self.path, min_free)
        self._queue = BoundedQueue(queue_bytes, resolved)
        drops = {DROPPED + topic: "0" for topic in resolved}
        self.writer = BagWriter(self.path, storage, limits, {**(facts or {}), **self._pictures.facts, **drops})
        self._profiles = {topic: profile_for(node, topic, kind) for topic, kind in resolved.items()}
        self._topics = {}
        for topic, profile in self._profiles.items():
            latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            self._topics[topic] = Topic(topic, definitions[names[topic]], latched=latched)
            if topic in self._pictures.topics:
                self.writer.add_topic(Topic(topic + SUFFIX, definitions[COMPRESSED]))
            else:
                self.writer.add_topic(self._topics[topic])
        self._keeper = Keeper(self.path)
        self._thread = WriterThread(self._queue, self.writer, self._change, min_free)
        self._closed = False
        atexit.register(self.close)
        for topic, kind in resolved.items():
            self._subscribe(topic, kind, self._profiles[topic])

    def __enter__(self) -> BagRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.close()
        except BagError as failure:
            if error is None:
                raise
            self._node.get_logger().error(str(failure))    # what already went wrong is the more important of the two

    @property
    def received(self) -> dict[str, int]:
        """Messages that came, by topic, the dropped ones among them."""
        return self._queue.received

    @property
    def bytes_received(self) -> int:
        return self._queue.bytes_received

    @property
    def dropped(self) -> dict[str, int]:
        return self._queue.dropped

    @property
    def error(self) -> Exception | None:
        """Why writing has stopped; None while it goes on."""
        return self._thread.error

    def _subscribe(self, topic: str, kind: type, profile: QoSProfile) -> None:
        clock = self._node.get_clock()

        def take(data: bytes, info: Any) -> None:
            # The middleware's own time of reception does not depend on how busy this process is.
            simulated = getattr(clock, "ros_time_is_active", False)
            self._queue.put(topic, clock.now().nanoseconds if simulated else info["received_timestamp"], data)

        def relax(_: Any) -> None:
            old = self._subscriptions.pop(topic, None)
            if old is None:
                return
            self._node.get_logger().info(f"{topic}: its publisher promises less than asked for; recorded as it comes")
            self._subscribe(topic, kind, relaxed(profile))
            self._node.destroy_subscription(old)

        asks_more = profile.reliability == ReliabilityPolicy.RELIABLE
        events = SubscriptionEventCallbacks(incompatible_qos=relax) if asks_more else None
        callback: Callable[..., None] = take    # rclpy's annotation leaves out the form with message info
        self._subscriptions[topic] = self._node.create_subscription(
            kind, topic, callback, profile, raw=True, event_callbacks=events
        )

    # --- writer thread ------------------------------------------------------------------------------------------------
    def _change(self, topic: str, receive_ns: int, data: bytes) -> Message:
        if topic == self._policy:
            self.writer.put_facts(facts_of_policy(data))
        topic, data = self._pictures.change(topic, data)
        return topic, receive_ns, data

    def _as_it_came(self, topic: str) -> None:
        self.writer.add_topic(self._topics[topic])
        self._node.get_logger().warning(f"{topic}: not every image can be compressed; such ones are kept as they come")

    # ------------------------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Writes what is queued and completes the bag. May be called again.

        Errors: BagError where writing failed; what was written before is in the bag, which can be read.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._thread.close()
        self._keeper.dismiss()
        if self.error is not None:
            raise BagError(
                f"bag {self.path}: writing stopped ({self.error}); what was written until then can be read"
            ) from self.error


def _check_begin(path: Path, min_free: int) -> None:
    """Errors: BagError where the disk that is to hold the bag has no space for one."""
    folder = next((f for f in path.resolve().parents if f.is_dir()), Path("/"))
    try:
        check_space(folder, min_free)
    except OSError as error:
        raise BagError(f"bag {path} cannot be created: {error}") from error
