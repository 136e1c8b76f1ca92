# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A driver and the double of its arm."""

import time
from pathlib import Path

import numpy as np

from arm_controller.driver import DriverError
from so101_driver.calibration import MOTORS
from so101_driver.double.arm import double_calibration, make_double
from so101_driver.double.plants import PointPlant
from so101_driver.driver import SO101Driver
from so101_driver.registers import BAUD_RATES, GOAL_POSITION, PRESENT_POSITION

CONTRACT = Path(__file__).resolve().parents[4] / "config/embodiments/so101.yaml"
PATIENCE = 300.0   # [s]; only for what never comes


served: list = []    # doubles that answer when something has been sent, in the thread that sent it


class Rig:
    """A double on a link, and a driver for it. The double answers in the thread that asks, so that a busy machine does
    not make its answers late."""

    def __init__(self, contract, link: str, plant=None, clock=time.monotonic, **options):
        self.contract, self.link = contract, link
        self.calibration = double_calibration()
        self.plant = plant or PointPlant(clock=clock)
        self.port = make_double(self.plant, link, threaded=False, clock=clock)
        served.append(self.port)
        self.bus = self.port.bus
        self.driver = self.new_driver(**options)

    def new_driver(self, calibration=None, **options) -> SO101Driver:
        arm = self.contract.arm("arm")
        options = {"baud": BAUD_RATES[0], **options}
        return SO101Driver(self.contract, arm, self.link, calibration or self.calibration, "of the test", **options)

    def close(self) -> None:
        self.driver.close()
        served.remove(self.port)
        self.port.close()

    def spoil(self, command: str) -> None:
        self.port.spoil(command)

    @property
    def goals(self) -> list[int]:
        with self.port.lock:
            return [servo.value(GOAL_POSITION) for servo in self.bus.servos]

    @property
    def torques(self) -> list[bool]:
        with self.port.lock:
            return [servo.torque for servo in self.bus.servos]

    def present(self, motor: str) -> int:
        """Its counts, as the servo gives them."""
        with self.port.lock:
            return PRESENT_POSITION.within(self.bus.servo(MOTORS.index(motor) + 1).read(56, 15), 56)

    def go(self, positions: np.ndarray, near: float = 0.01) -> np.ndarray:
        """Sends a setpoint until the arm is there; returns where it is."""
        def there() -> bool:
            self.driver.write(positions)
            return bool(np.abs(self.driver.read().positions - positions).max() < near)

        until(there)
        return self.driver.read().positions


def until(holds, says=lambda: "") -> None:
    """Asks again until something holds, and fails where it never does. says: how it stands, for the failure."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"it never came; {says()}"


def refusal(call) -> str:
    """The text of the DriverError that a call raises; empty where it raises none."""
    try:
        call()
    except DriverError as error:
        return str(error)
    return ""


def fault(driver) -> str:
    """The text of the fault that readings come to."""
    texts: list[str] = []

    def failed() -> bool:
        texts.append(refusal(driver.read))
        return bool(texts[-1])

    until(failed)
    return texts[-1]
