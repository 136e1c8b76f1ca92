# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Feetech's own SDK, as another master, on the double: its frames are the device's, not only ours."""

import pytest
from arm_rig import until

from so101_driver.calibration import MOTORS
from so101_driver.double.arm import make_double
from so101_driver.double.plants import PointPlant
from so101_driver.registers import OVERLOAD

sdk = pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed")
DONE = 0


@pytest.fixture
def double(tmp_path):
    port = make_double(PointPlant(), str(tmp_path / "bus"))
    yield port
    port.close()
    assert port.error is None


@pytest.fixture
def master(double):
    """The SDK's port and packet handler. It gives an answer 34 ms and never asks again, so the tests do."""
    port = sdk.PortHandler(str(double.link))
    assert port.openPort() and port.setBaudRate(1_000_000)
    yield port, sdk.PacketHandler(0)
    port.closePort()


def asked(call, good=lambda result: result[-2] == DONE):
    """The result of a call of the SDK, once its answer came in time."""
    results = []

    def answered():
        results.append(call())
        return good(results[-1])

    until(answered)
    return results[-1]


def fresh(port):
    """The SDK leaves late answers in the input, where they answer the next question."""
    port.ser.reset_input_buffer()
    return port


def test_the_sdk_finds_six_sts3215(master):
    port, packets = master
    for servo in range(1, len(MOTORS) + 1):
        model, result, error = asked(lambda servo=servo: packets.ping(fresh(port), servo))
        assert (model, result, error) == (777, DONE, 0)


def test_the_sdk_moves_a_servo_and_reads_it_there(double, master):
    port, packets = master
    asked(lambda: packets.write1ByteTxRx(fresh(port), 1, 40, 1))
    asked(lambda: packets.write2ByteTxRx(fresh(port), 1, 42, 2300))
    until(lambda: packets.read2ByteTxRx(fresh(port), 1, 56)[:2] == (2300, DONE))


def test_the_sdks_sync_read_and_sync_write_are_understood(double, master):
    port, packets = master
    read = sdk.GroupSyncRead(port, packets, 56, 2)
    write = sdk.GroupSyncWrite(port, packets, 42, 2)
    for servo in range(1, 7):
        read.addParam(servo)
        write.addParam(servo, [sdk.SCS_LOBYTE(2000 + servo), sdk.SCS_HIBYTE(2000 + servo)])
        asked(lambda servo=servo: packets.write1ByteTxRx(fresh(port), servo, 40, 1))
    assert write.txPacket() == DONE

    def there():
        result = read.txRxPacket() if fresh(port) else None
        return result == DONE and [read.getData(s, 56, 2) for s in range(1, 7)] == [2001, 2002, 2003, 2004, 2005, 2006]

    until(there)


def test_the_sdk_sees_an_overload_as_the_servo_reports_it(double, master):
    port, packets = master
    double.spoil("overload 2")
    _, _, error = asked(lambda: packets.read2ByteTxRx(fresh(port), 2, 56))
    assert error == OVERLOAD and "Overload" in packets.getRxPacketError(error)


def test_the_sdk_gets_no_answer_from_a_servo_that_is_silent(double, master):
    port, packets = master
    double.spoil("silent 3")
    assert packets.ping(fresh(port), 3)[1] == sdk.COMM_RX_TIMEOUT
