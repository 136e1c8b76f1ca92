# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Filters and synchronizers for stamped messages: the Python interface of ROS 2 Jazzy's message_filters.

For a ROS 2 that was installed from wheels, which lack the package. What is matched with what, and in which
order, is what Jazzy's Python module does; where this module goes beyond it, the docstring says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rclpy.clock import ROSClock
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.time import Time

__all__ = ["ApproximateTimeSynchronizer", "Cache", "SimpleFilter", "Subscriber", "TimeSynchronizer"]


def _stamp_time(stamp: Any) -> Time:
    """A stamp as rclpy Time; a message's stamp (builtin_interfaces/Time) is ROS time."""
    return stamp if isinstance(stamp, Time) else Time.from_msg(stamp)


def _capture_time(msg: Any, allow_headerless: bool, who: str) -> Time | None:
    """The header's stamp; without one the time now if that is allowed, else None and a warning."""
    stamp = getattr(getattr(msg, "header", None), "stamp", None)
    if stamp is not None:
        return _stamp_time(stamp)
    if allow_headerless:
        return ROSClock().now()
    get_logger(who).warning(
        f"dropped a {type(msg).__name__}: it has no header.stamp. Give it a stamped type, "
        "or set allow_headerless=True to take the time of arrival instead",
        throttle_duration_sec=1.0,
    )
    return None


class SimpleFilter:
    """A source of messages: whoever registers is called for each output."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:
        """Has cb(*messages, *args) called for each output, in order of registration; returns a number."""
        connection = len(self.callbacks)
        self.callbacks[connection] = (cb, args)
        return connection

    def signalMessage(self, *msg: Any) -> None:
        """Hands one output to every registered callback."""
        # A copy, since a callback may register another.
        for cb, args in list(self.callbacks.values()):
            cb(*msg, *args)


class Subscriber(SimpleFilter):
    """A subscription as a filter.

    As in Jazzy, node, message type and topic come by position and everything else by keyword; the keywords
    are those of `Node.create_subscription` (qos_profile, callback_group, event_callbacks, raw, ...). The
    rclpy subscription is `sub`, and its attributes can be read from here.
    """

    def __init__(self, node: Node, msg_type: type, topic: str, /, *, qos_profile: Any = 10, **kwargs: Any) -> None:
        super().__init__()
        self.node = node
        self.topic = topic
        self.sub = node.create_subscription(msg_type, topic, self.callback, qos_profile=qos_profile, **kwargs)

    def callback(self, msg: Any) -> None:
        self.signalMessage(msg)

    def getTopic(self) -> str:
        """The topic as it was given, before remapping."""
        return self.topic

    def __getattr__(self, key: str) -> Any:
        # Reached before `sub` is set too (when the subscription is refused): that must not recurse.
        if key == "sub":
            raise AttributeError(key)
        return getattr(self.sub, key)


class Cache(SimpleFilter):
    """Keeps the last cache_size messages of a filter, in order of arrival, and passes them on.

    Questions are asked in rclpy Time of the messages' clock (ROS time for header stamps), and answered in
    order of arrival, as in Jazzy: a message that arrives late stays where it arrived.
    """

    def __init__(self, f: SimpleFilter, cache_size: int = 1, allow_headerless: bool = False) -> None:
        super().__init__()
        if cache_size < 1:
            raise ValueError(f"cache_size is {cache_size}; a cache holds at least one message")
        self.cache_size = cache_size
        self.allow_headerless = allow_headerless
        self.cache_msgs: list[Any] = []
        self.cache_times: list[Time] = []
        self._lock = threading.RLock()
        self.connectInput(f)

    def connectInput(self, f: SimpleFilter) -> None:
        self.incoming_connection = f.registerCallback(self.add)

    def add(self, msg: Any) -> None:
        time = _capture_time(msg, self.allow_headerless, "message_filters_cache")
        if time is None:
            return
        with self._lock:
            self.cache_msgs.append(msg)
            self.cache_times.append(time)
            del self.cache_msgs[: -self.cache_size], self.cache_times[: -self.cache_size]
        self.signalMessage(msg)

    def _where(self, holds: Callable[[Time], bool]) -> list[Any]:
        with self._lock:
            return [msg for msg, time in zip(self.cache_msgs, self.cache_times, strict=True) if holds(time)]

    def getInterval(self, from_stamp: Time, to_stamp: Time) -> list[Any]:
        """All messages from from_stamp to to_stamp, both included."""
        assert from_stamp <= to_stamp, "an interval begins before it ends"
        return self._where(lambda time: from_stamp <= time <= to_stamp)

    def getSurroundingInterval(self, from_stamp: Time, to_stamp: Time) -> list[Any]:
        """getInterval, widened to the last message at or before it and the first at or after it, if any.

        C++ has it, Jazzy's Python does not.
        """
        assert from_stamp <= to_stamp, "an interval begins before it ends"
        with self._lock:
            begin = max((t for t in self.cache_times if t <= from_stamp), default=from_stamp)
            end = min((t for t in self.cache_times if t >= to_stamp), default=to_stamp)
            return self.getInterval(begin, end)

    def getElemAfterTime(self, stamp: Time) -> Any | None:
        """The first message at or after stamp; None without one."""
        return next(iter(self._where(lambda time: time >= stamp)), None)

    def getElemBeforeTime(self, stamp: Time) -> Any | None:
        """The last message at or before stamp; None without one."""
        return next(reversed(self._where(lambda time: time <= stamp)), None)

    def getLastestTime(self) -> Time | None:
        """The stamp of the message that arrived last; None when empty."""
        with self._lock:
            return self.cache_times[-1] if self.cache_times else None

    def getLatestTime(self) -> Time | None:
        """getLastestTime, spelt as in later distributions; Jazzy's Python has only the other."""
        return self.getLastestTime()

    def getOldestTime(self) -> Time | None:
        """The stamp of the oldest arrival that is still held; None when empty."""
        with self._lock:
            return self.cache_times[0] if self.cache_times else None

    def getLast(self) -> Any | None:
        """The first message held that is at or after getLastestTime(); None when empty."""
        with self._lock:
            newest = self.getLastestTime()
            return None if newest is None else self.getElemAfterTime(newest)


class TimeSynchronizer(SimpleFilter):
    """Puts out one message of each input when all their stamps are equal, to the nanosecond.

    Up to queue_size messages wait in each input; the one with the oldest stamp makes room. Two messages of an
    input with one stamp are one: the later stays. A set comes out when its last message arrives.
    """

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int) -> None:
        super().__init__()
        if queue_size < 1:
            raise ValueError(f"queue_size is {queue_size}; without a place to wait no message can be matched")
        self.queue_size = queue_size
        # A callback may feed one of the inputs again.
        self.lock = threading.RLock()
        self.connectInput(fs)

    def connectInput(self, fs: Sequence[SimpleFilter]) -> None:
        self.queues: list[dict[int, Any]] = [{} for _ in fs]
        self.input_connections = [
            f.registerCallback(self.add, queue, index)
            for index, (f, queue) in enumerate(zip(fs, self.queues, strict=True))
        ]

    def add(self, msg: Any, my_queue: dict[int, Any], my_queue_index: int | None = None) -> None:
        with self.lock:
            stamp = _stamp_time(msg.header.stamp).nanoseconds
            self._store(my_queue, stamp, msg)
            # Sets leave as soon as they are complete, so no other stamp can be.
            if all(stamp in queue for queue in self.queues):
                self._put_out([stamp] * len(self.queues))

    def _store(self, queue: dict[int, Any], stamp: int, msg: Any) -> None:
        queue[stamp] = msg
        while len(queue) > self.queue_size:
            del queue[min(queue)]

    def _put_out(self, stamps: Iterable[int]) -> None:
        """Takes a set out of the queues, then passes it on: none is used twice, even if a callback fails."""
        self.signalMessage(*[queue.pop(stamp) for queue, stamp in zip(self.queues, stamps, strict=True)])


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Puts out one message of each input when all their stamps lie within less than slop seconds.

    Each arrival looks for a set with itself in it. The other inputs are asked in order, each for its message
    closest to the arrival; if those do not lie within slop of each other, the last input's next closest is
    tried, and so on. A set may therefore be older than one that came before it: who needs the newest must
    compare stamps.
    """

    def __init__(
        self, fs: Sequence[SimpleFilter], queue_size: int, slop: float, allow_headerless: bool = False
    ) -> None:
        self.slop = Duration(seconds=slop)
        self.allow_headerless = allow_headerless
        super().__init__(fs, queue_size)

    def add(self, msg: Any, my_queue: dict[int, Any], my_queue_index: int | None = None) -> None:
        time = _capture_time(msg, self.allow_headerless, "message_filters_approx")
        if time is None:
            return
        arrival = time.nanoseconds
        with self.lock:
            self._store(my_queue, arrival, msg)
            # The arrival itself goes when it is older than everything in a full queue.
            if arrival not in my_queue:
                return
            others = [self._by_distance(queue, arrival) for queue in self.queues if queue is not my_queue]
            chosen = _first_within(others, arrival, arrival, self.slop.nanoseconds)
            if chosen is not None:
                rest = iter(chosen)
                self._put_out([arrival if queue is my_queue else next(rest) for queue in self.queues])

    def _by_distance(self, queue: dict[int, Any], stamp: int) -> list[int]:
        """The stamps in a queue within slop of stamp, closest first."""
        near = [other for other in queue if abs(other - stamp) <= self.slop.nanoseconds]
        return sorted(near, key=lambda other: abs(other - stamp))


def _first_within(candidates: list[list[int]], low: int, high: int, slop: int) -> list[int] | None:
    """One stamp of each list: the first choice that, with low and high, spans less than slop."""
    if high - low >= slop:
        return None
    if not candidates:
        return []
    for stamp in candidates[0]:
        rest = _first_within(candidates[1:], min(low, stamp), max(high, stamp), slop)
        if rest is not None:
            return [stamp, *rest]
    return None
