# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The grabber's threads before a source that does what each test says. What it says and delivers comes in queues."""

import queue
import threading

import pytest
from scripted_source import ScriptedSource

from camera_driver.grabber import Grabber
from camera_driver.source import CameraError
from camera_driver.watch import FIRST_FRAME, StreamWatch


class Rig:
    def __init__(self, frozen_after: float = 0.0):
        self.source = ScriptedSource()
        self.now = 100.0
        self.said: queue.Queue[str] = queue.Queue()
        self.got: queue.Queue = queue.Queue()
        self.gate = threading.Event()    # deliver() waits for it
        self.gate.set()
        watch = StreamWatch(30.0, 0.5, frozen_after)
        self.grabber = Grabber(
            self.source, watch, self.deliver, self.said.put, backoff=(0.01,), clock=lambda: self.now
        )

    def deliver(self, frame) -> None:
        self.got.put(frame)
        self.gate.wait(30)

    def start(self):
        frame = self.source.give()
        assert self.grabber.start() is frame and self.got.get(timeout=30) is frame

    def next(self, where: queue.Queue):
        return where.get(timeout=30)


@pytest.fixture
def rig():
    rigs = []

    def make(**options) -> Rig:
        rigs.append(Rig(**options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.gate.set()
        rig.grabber.close()


def test_every_frame_is_delivered_while_the_receiver_is_quick_enough(rig):
    rig = rig()
    rig.start()
    for _ in range(5):
        frame = rig.source.give()
        assert rig.next(rig.got) is frame
    assert rig.grabber.counts.dropped == 0 and rig.grabber.trouble == ""


def test_a_slow_receiver_gets_the_newest_frame_and_what_it_missed_is_counted(rig):
    rig = rig()
    rig.gate.clear()
    rig.start()
    for _ in range(9):
        newest = rig.source.give()
    while not rig.source.frames.empty() or rig.grabber._newest is not newest:
        threading.Event().wait(0.005)
    rig.gate.set()
    assert rig.next(rig.got) is newest
    assert rig.grabber.counts.dropped == 8


def test_a_camera_that_cannot_be_opened_at_the_start_is_refused_and_not_tried_again(rig):
    rig = rig()
    rig.source.refusals = ["it is in use by obs (process 7)"]
    with pytest.raises(CameraError, match="in use by obs"):
        rig.grabber.start()
    assert rig.source.opened == 0 and rig.source.closed == 1


def test_a_camera_that_opens_but_shows_nothing_is_refused_at_the_start(rig):
    rig = rig()
    reads = rig.source.read

    def read():
        rig.now += FIRST_FRAME
        return reads()

    rig.source.read = read
    with pytest.raises(CameraError, match="scripted camera gives no frame, 10.0 s after it was opened"):
        rig.grabber.start()


def test_a_stall_is_named_and_the_camera_is_opened_again_and_its_return_is_said(rig):
    rig = rig()
    rig.start()
    rig.now += 0.6
    assert rig.next(rig.said) == "scripted camera stalls: no frame for 0.6 s; opening it again"
    assert "stalls" in rig.grabber.trouble
    frame = rig.source.give()
    assert rig.next(rig.said) == "scripted camera is back"
    assert rig.next(rig.got) is frame
    assert rig.grabber.trouble == "" and rig.source.opened >= 2 and rig.grabber.counts.reopened == 1


def test_a_camera_that_is_pulled_out_is_tried_until_it_is_back_and_each_reason_is_said_once(rig):
    rig = rig()
    rig.start()
    rig.source.refusals = ["camera wrist is not there"] * 5
    rig.source.frames.put(CameraError("scripted camera is lost"))
    assert rig.next(rig.said) == "scripted camera is lost; opening it again"
    assert rig.next(rig.said) == "camera wrist is not there; opening it again"
    frame = rig.source.give()
    assert rig.next(rig.said) == "scripted camera is back"
    assert rig.next(rig.got) is frame
    assert rig.source.refusals == []


def test_a_frozen_camera_is_named_and_nothing_of_it_is_delivered_until_it_changes(rig):
    rig = rig(frozen_after=1.0)
    rig.start()
    for _ in range(4):
        rig.now += 0.4
        rig.source.give(77)
        if rig.now < 101.5:
            rig.next(rig.got)
    assert "is frozen: the same bytes for 1.2 s" in rig.next(rig.said)
    before = rig.source.opened
    while rig.source.opened == before:    # opened again
        threading.Event().wait(0.005)
    for _ in range(3):
        rig.source.give(77)
    while not rig.source.frames.empty():
        threading.Event().wait(0.005)
    assert rig.got.empty() and "is frozen" in rig.grabber.trouble
    rig.now += 1.1
    rig.source.give(77)
    while rig.source.opened == before + 1:    # it showed the same for another second
        threading.Event().wait(0.005)
    assert rig.got.empty() and rig.said.empty()
    frame = rig.source.give(78)
    assert rig.next(rig.got) is frame
    assert rig.next(rig.said) == "scripted camera is back"


def test_a_read_that_hangs_is_named_while_it_hangs(rig):
    rig = rig()
    rig.start()
    hang, hanging = threading.Event(), threading.Event()

    def read():
        hanging.set()
        hang.wait(30)

    rig.source.read = read
    assert hanging.wait(30)
    rig.now += 3.0
    assert rig.grabber.trouble == "scripted camera stalls: no frame for 3.0 s"
    hang.set()


def test_a_receiver_that_hangs_is_named_and_the_camera_is_not_blamed(rig):
    rig = rig()
    rig.gate.clear()
    rig.start()
    rig.now += 1.5
    rig.source.give()
    while not rig.source.frames.empty() or rig.grabber._newest is None:
        threading.Event().wait(0.005)
    assert "is well, but its image was not taken for 1.5 s" in rig.grabber.trouble
    rig.gate.set()
    rig.next(rig.got)
    while rig.grabber.trouble:
        threading.Event().wait(0.005)


def test_a_frame_that_is_not_newer_is_left_out_unless_ros_time_was_set_back(rig):
    rig = rig()
    rig.start()
    rig.source.give()
    newest = rig.next(rig.got).stamp_ns
    for offset in (0, -10_000_000, -5_000_000_000):
        rig.source.give(stamp_ns=newest + offset)
    assert rig.next(rig.got).stamp_ns == newest - 5_000_000_000
    # How many of the others were seen before they were replaced is chance.
    assert rig.grabber.counts.stale + rig.grabber.counts.dropped == 2


def test_a_defect_of_the_receiver_ends_the_grabber_with_its_reason(rig):
    rig = rig()
    rig.grabber._deliver = lambda frame: 1 / 0
    rig.source.give()
    rig.grabber.start()
    rig.grabber._ended.wait(30)
    assert isinstance(rig.grabber.failure, ZeroDivisionError)


def test_it_ends_at_once_and_gives_the_camera_back(rig):
    rig = rig()
    rig.start()
    rig.grabber.close()
    assert rig.source.closed == 1
    assert not any(thread.is_alive() for thread in rig.grabber._threads)
