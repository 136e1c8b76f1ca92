# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the YAM share."""

import threading
import time
from types import SimpleNamespace

from arm_controller.driver import DriverError
from yam_driver import motors
from yam_driver.channel import SlcanBus
from yam_driver.double import DoubleArm, Status
from yam_driver.double.adapter import Adapter

RAISED = (0.3, 0.8, 0.9, 0.1, 0.1, 0.1, 3.0)    # away from the rest pose, shafts [rad]


def hold_here(driver) -> None:
    """One setpoint where the arm is: switches the motors on."""
    driver.write(driver.read().positions.clip(driver._lower, driver._upper))


def patient_double(link, *arguments, **options) -> DoubleArm:
    """In bus time. Its motors let go after a second without commands, the most that is accepted."""
    arm = DoubleArm(link, *arguments, real_time=False, **options)
    for motor in arm.motors:
        motor.registers[9] = motor.saved[9] = 20000
    return arm


def complaint(driver) -> str:
    try:
        driver.read()
    except DriverError as error:
        return str(error)
    return ""


def others_hold(double, number, until) -> bool:
    """They are on, and go on being commanded."""
    rest = [motor for motor in double.motors if motor.id != number]
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 14)
    return all(motor.status == Status.ON and motor.command.kp > 0 for motor in rest)


def switch_on_again(driver, until):
    """As an operator does who clears the fault and arms."""
    until(lambda: not complaint(driver))
    driver.recover()
    hold_here(driver)


def wait_for_nothing_that_cannot_come(monkeypatch) -> None:
    """An answer is waited for as long as the driver waits, but where a double of this process has dealt with all that
    it was asked, and all that it said was read: then none can come any more, and the driver's time for it is taken to
    be over. So a patience that a busy machine needs costs nothing where a motor is silent."""
    adapters: dict[str, Adapter] = {}
    over = threading.local()    # time that was not waited for [s]
    line, say = Adapter._line, Adapter._write
    init, send, read, recv = SlcanBus.__init__, SlcanBus.send, SlcanBus._read, motors._Asking.recv

    def dealt_with(self, text):
        line(self, text)
        adapters[str(self.link)] = self
        self.dealt = getattr(self, "dealt", 0) + text.startswith(b"t")

    def said(self, text):
        self.said = getattr(self, "said", 0) + 1
        say(self, text)

    def opened(self, channel, *arguments, **options):
        adapter = adapters.get(str(channel))
        self.asked, self.heard = getattr(adapter, "dealt", 0), getattr(adapter, "said", 0)
        init(self, channel, *arguments, **options)

    def sent(self, message, timeout=None):
        self.asked += 1
        adapter = adapters.get(self.serialPortOrig.port)
        if adapter is not None:
            others = [b for b in getattr(adapter, "buses", ()) if b.serialPortOrig.is_open and b is not self]
            adapter.buses = [*others, self]
        send(self, message, timeout)

    def heard(self, timeout):
        try:
            text = read(self, timeout)
        except ValueError:    # a spoilt one
            self.heard += 1
            raise
        self.heard += text is not None
        return text

    def nothing_can_come(bus) -> bool:
        adapter = adapters.get(bus.serialPortOrig.port) if isinstance(bus, SlcanBus) else None
        if adapter is None or getattr(adapter, "buses", None) != [bus]:
            return False
        return adapter.dealt >= bus.asked and bus.heard >= getattr(adapter, "said", 0)

    def received(self, timeout=None):
        if not timeout:
            return recv(self, timeout=timeout)
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            last = nothing_can_come(self.raw)
            message = recv(self, timeout=0.0 if last else min(left, 0.005))
            if message is not None:
                return message
            if last:
                over.time = getattr(over, "time", 0.0) + max(until - time.monotonic(), 0.0)
                break
        return None

    clock = SimpleNamespace(
        monotonic=lambda: time.monotonic() + getattr(over, "time", 0.0), time_ns=time.time_ns, sleep=time.sleep
    )
    for name, made in (("_line", dealt_with), ("_write", said)):
        monkeypatch.setattr(Adapter, name, made)
    for name, made in (("__init__", opened), ("send", sent), ("_read", heard)):
        monkeypatch.setattr(SlcanBus, name, made)
    monkeypatch.setattr(motors._Asking, "recv", received)
    monkeypatch.setattr(motors, "time", clock)
