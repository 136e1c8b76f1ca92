# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps a camera open and hands its newest frame on, in threads of its own."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .source import CameraError, Frame, Source
from .watch import FIRST_FRAME, StreamWatch

BACKOFF = (0.2, 0.5, 1.0, 2.0)    # between attempts to open it again [s]
PUBLISH_WITHIN = 1.0              # deliver() that takes longer is said [s]
JUMP_NS = 1_000_000_000           # a stamp that is older by more is not a late frame: ROS time was set back


def _wording(text: str) -> str:
    """A text without its numbers: how long it lasts by now makes no new trouble of one that was said."""
    return re.sub(r"[0-9.]+", "", text)


@dataclass
class Counts:
    """delivered: handed on; dropped: a newer one came before that; stale: not newer than one handed on; reopened: times
    it came back."""

    delivered: int = 0
    dropped: int = 0
    stale: int = 0
    reopened: int = 0


class Grabber:
    """Reads a source without rest in one thread, so that nothing queues up before it, and hands the newest frame to
    `deliver` in another. A source that stalls, freezes or is lost is said by `say`, closed, and opened until it is
    back.

    clock: steady [s]. After close() it is not started again.
    """

    def __init__(
        self,
        source: Source,
        watch: StreamWatch,
        deliver: Callable[[Frame], None],
        say: Callable[[str], None],
        backoff: tuple[float, ...] = BACKOFF,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.counts = Counts()
        self.failure: Exception | None = None    # of a defect here or in deliver: the threads have ended
        self._source, self._watch, self._deliver, self._say = source, watch, deliver, say
        self._backoff, self._clock = backoff, clock
        self._lock = threading.Condition()
        self._newest: Frame | None = None
        self._trouble = ""
        self._handing_since: float | None = None    # deliver() was called and has not returned
        self._worked = False
        self._first_frame: Frame | None = None    # until start() returns it
        self._first = threading.Event()    # the first frame, or the reason why there is none
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(run,), name=run.__name__, daemon=True)
            for run in (self._read, self._hand_on)
        ]

    def start(self, timeout: float = 2 * FIRST_FRAME) -> Frame:
        """Opens the source and returns its first frame. Errors: CameraError, and then nothing is left open."""
        for thread in self._threads:
            thread.start()
        in_time = self._first.wait(timeout)
        if self._first_frame is not None:
            frame, self._first_frame = self._first_frame, None
            return frame
        text = self.trouble or f"{self._source.name} does not answer"
        self.close()
        if self.failure is not None:
            raise self.failure
        waited = "" if in_time else f"; it gave no frame within {timeout:g} s: unplug it and plug it in"
        raise CameraError(text + waited)

    @property
    def trouble(self) -> str:
        """What is wrong with the camera now, naming it; empty while it is well. Also where reading it hangs."""
        with self._lock:
            if self._trouble or not self._worked:
                return self._trouble
            now, since = self._clock(), self._handing_since
            text = self._watch.trouble(now)
            if not text and since is not None and now - since > PUBLISH_WITHIN:
                text = f"is well, but its image was not taken for {now - since:.1f} s: see the network"
            return f"{self._source.name} {text}" if text else ""

    def rate(self) -> tuple[float, bool]:
        """Frames that come per second, and whether these are fewer than asked for."""
        with self._lock:
            now = self._clock()
            return self._watch.measured_rate(now), self._watch.slow(now)

    def close(self) -> None:
        self._ended.set()
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(timeout=3.0)

    # ------------------------------------------------------------------------------------------------------------------
    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            self.failure = error
            self._ended.set()
            self._first.set()

    def _read(self) -> None:
        attempt = 0
        while not self._ended.is_set():
            before = self.counts.delivered
            try:
                self._source.open()
                with self._lock:
                    self._watch.opened(self._clock())
                self._stream()
            except CameraError as error:
                self._troubled(str(error))
            finally:
                self._source.close()
            attempt = 0 if self.counts.delivered > before else attempt + 1
            self._ended.wait(self._backoff[min(attempt, len(self._backoff) - 1)])

    def _stream(self) -> None:
        """Until the grabber ends or there is trouble. Errors: CameraError."""
        while not self._ended.is_set():
            frame = self._source.read()
            with self._lock:
                now = self._clock()
                if frame is not None:
                    self._watch.frame(now, frame.colour)
                trouble = self._watch.trouble(now)
                if self._watch.frozen:
                    frame = None
                if frame is not None and not trouble:
                    self._take(frame)
            if trouble:
                raise CameraError(f"{self._source.name} {trouble}")
            if frame is not None:
                self._well(frame)

    def _take(self, frame: Frame) -> None:
        if self._newest is not None:
            self.counts.dropped += 1
        self._newest = frame
        self._lock.notify_all()

    def _troubled(self, text: str) -> None:
        if not self._worked:
            # Set up wrongly: said by start(), not tried again.
            self._trouble = text
            self._ended.set()
            self._first.set()
            return
        with self._lock:
            new = _wording(self._trouble) != _wording(text)
            self._trouble = text
        if new:
            self._say(f"{text}; opening it again")

    def _well(self, frame: Frame) -> None:
        with self._lock:
            back, self._trouble = bool(self._trouble), ""
        if back:
            self.counts.reopened += 1
            self._say(f"{self._source.name} is back")
        if not self._worked:
            self._worked, self._first_frame = True, frame
            self._first.set()

    def _hand_on(self) -> None:
        last_ns = 0
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._newest is not None or self._ended.is_set())
                frame, self._newest = self._newest, None
            if self._ended.is_set():
                return
            assert frame is not None
            if last_ns - JUMP_NS < frame.stamp_ns <= last_ns:
                self.counts.stale += 1
                continue
            last_ns = frame.stamp_ns
            self._handing_since = self._clock()
            self._deliver(frame)
            self._handing_since = None
            self.counts.delivered += 1
