# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""From the clocks that cameras stamp with to ROS time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class HostClocks:
    """ROS time, and the host's steady and system clocks as they stand to it at this moment.

    The relation is read anew for each stamp, so that a jump of ROS time is in the next stamp and not spread over many.
    """

    def __init__(
        self,
        ros_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
        system_ns: Callable[[], int] = time.time_ns,
    ):
        self.ros_ns, self.steady_ns, self.system_ns = ros_ns, steady_ns, system_ns

    def from_steady(self, steady_ns: int) -> int:
        """A moment of the steady clock (CLOCK_MONOTONIC) in ROS time [ns]."""
        return self.ros_ns() - (self.steady_ns() - steady_ns)

    def from_system(self, system_ns: int) -> int:
        """A moment of the system clock in ROS time [ns]."""
        return self.ros_ns() - (self.system_ns() - system_ns)


class DeviceClock:
    """Maps the clock of a device to the host's steady clock by what arrives.

    A frame arrives later than it was captured, by a delay that varies but has a least value. So the offset between the
    clocks is taken from the frame of the last WINDOW that was delayed least: jitter of arrival is not in the stamps, no
    stamp lies in the future, and a drift of 50 ppm amounts to half a millisecond. The least delay itself (transfer, and
    what the device needs before it sends) is not seen and stays in the stamps.
    """

    WINDOW_NS = 10_000_000_000
    BUCKET_NS = 1_000_000_000     # the window moves on in steps of this

    def __init__(self) -> None:
        self._least: deque[tuple[int, int]] = deque()    # (begin of the bucket, least offset in it)
        self._last_ns: int | None = None

    def to_steady(self, device_ns: int, arrival_ns: int) -> int:
        """Capture on the steady clock of a frame stamped device_ns that arrived at arrival_ns (steady) [ns]."""
        offset = arrival_ns - device_ns
        if self._last_ns is not None and device_ns < self._last_ns:
            # It began to count anew: reset, a recording's begin, or a counter of 32 bits that was full. An offset that
            # grew otherwise is that of a late frame, which must not be taken for a new one.
            self._least.clear()
        self._last_ns = device_ns
        while self._least and arrival_ns - self._least[0][0] > self.WINDOW_NS:
            self._least.popleft()
        if self._least and arrival_ns - self._least[-1][0] < self.BUCKET_NS:
            begin, least = self._least[-1]
            self._least[-1] = (begin, min(least, offset))
        else:
            self._least.append((arrival_ns, offset))
        return device_ns + self._offset()

    def _offset(self) -> int:
        return min(least for _, least in self._least)
