# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The bus behind a serial adapter: what has come is taken whole, in order, and at once."""

import contextlib
import select

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
