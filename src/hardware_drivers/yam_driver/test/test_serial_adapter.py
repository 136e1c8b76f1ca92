# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The bus behind a serial adapter: what has come is taken whole, in order, and at once."""

import contextlib
import select
import threading
import time
from types import SimpleNamespace

import can
import pytest

from yam_driver.channel import open_bus, parse_channel
from yam_driver.double import Adapter

FRAMES = [(0x11, bytes([number] * 8)) for number in range(5)]


@pytest.fixture
def adapter(tmp_path):
    adapter = Adapter(tmp_path / "can", lambda frame: ())
    yield adapter
    adapter.close()


@pytest.fixture
def bus(adapter):
    bus = open_bus(parse_channel(f"slcan:{adapter.link}"))
    while bus.recv(timeout=0.1) is not None:
        pass
    yield bus
    with contextlib.suppress(can.CanError, OSError):    # of a port that has gone
        bus.shutdown()


def test_an_adapter_that_is_replugged_just_before_it_reads_goes_on_and_can_be_closed(tmp_path, monkeypatch):
    adapter = Adapter(tmp_path / "replugged", lambda frame: ())
    replugged = threading.Event()

    def ready(reading, writing, failing, *timeout):
        found = select.select(reading, writing, failing, *timeout)
        if timeout or replugged.is_set() or len(reading) == 1:
            return found
        adapter.unplug()    # between the word that there is something to read and the reading
        adapter.plug()
        replugged.set()
        return reading[1:], [], []

    monkeypatch.setattr("yam_driver.double.adapter.select", SimpleNamespace(select=ready))
    deadline = time.monotonic() + 60
    while not replugged.wait(0.05):    # what wakes it may have been taken before it looks in the new way
        assert time.monotonic() < deadline
        adapter.unplug()
        adapter.plug()
    closing = threading.Thread(target=adapter.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()


def test_frames_that_came_together_are_taken_one_by_one(adapter, bus):
    for frame in FRAMES:
        adapter.say(frame)
    found = [bus.recv(timeout=5.0) for _ in FRAMES]
    assert [(message.arbitration_id, bytes(message.data)) for message in found] == FRAMES
    assert bus.recv(timeout=0) is None


def test_what_has_come_is_taken_by_one_who_looks_too_late(adapter, bus):
    adapter.say(FRAMES[3])
    assert select.select([bus.serialPortOrig.fileno()], [], [], 5.0)[0]
    assert bus.recv(timeout=0).data == FRAMES[3][1]


def test_a_line_that_is_no_frame_costs_no_other(adapter, bus):
    adapter.say(FRAMES[0])
    adapter._write(b"t01Z8zz\xff\r")
    adapter.say(FRAMES[1])
    assert bus.recv(timeout=5.0).data == FRAMES[0][1]
    assert bus.recv(timeout=5.0).data == FRAMES[1][1] and bus.bad_lines == 1


def test_half_a_line_is_no_frame_until_the_rest_has_come(adapter, bus):
    adapter._write(b"t0118010203")
    assert bus.recv(timeout=0.05) is None
    adapter._write(b"0405060708\r")
    assert bus.recv(timeout=5.0).data == bytes(range(1, 9))


def test_a_port_that_goes_is_an_error_and_no_silence(adapter, bus):
    adapter.unplug()
    with pytest.raises((can.CanError, OSError)):
        for _ in range(50):
            bus.recv(timeout=0.1)
