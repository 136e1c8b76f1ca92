# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The setpoint process is killed while the arm moves: what the servos then do, and how another takes over.

The arm moves in bus time: a hundredth of a second for each reading of it, however busy this machine is.
"""

import dataclasses
import os
import signal
import threading
import time

import numpy as np
import pytest
from arm_rig import PATIENCE

from arm_controller.controller_state import State
from arm_controller.core_client import CoreClient
from arm_controller.setpoint_process import Settings
from so101_driver import protocol
from so101_driver.calibration import MOTORS, Units
from so101_driver.double.arm import double_calibration, make_double
from so101_driver.double.plants import PointPlant
from so101_driver.driver import SO101Driver
from so101_driver.registers import GOAL_POSITION, PRESENT_POSITION

TICK = 0.01      # [s] of bus time
LATE = 30.0      # [s]; nothing here is a matter of speed


class Double:
    """An arm on a port, in a thread of this process. later: bus time that nobody's readings made [s]."""

    def __init__(self, link):
        self.later, self._heard, self._readings = 0.0, 0, 0
        self.port = None
        self.port = make_double(PointPlant(clock=self._now), link, clock=self._now)

    def _now(self):
        heard = self.port.bus.instructions[self._heard :] if self.port else []
        self._heard += len(heard)
        self._readings += sum(code == protocol.SYNC_READ for _, code, _ in heard)
        return self.later + TICK * self._readings

    def _all(self, register):
        with self.port.lock:
            return [register.within(servo.read(0, 128), 0) for servo in self.port.bus.servos]

    @property
    def goals(self):
        return self._all(GOAL_POSITION)

    @property
    def positions(self):
        return self._all(PRESENT_POSITION)

    @property
    def torques(self):
        with self.port.lock:
            return [servo.torque for servo in self.port.bus.servos]


@pytest.fixture
def double(tmp_path):
    double = Double(str(tmp_path / "bus"))
    yield double
    double.port.close()


@pytest.fixture
def make(contract, double):
    """Starts setpoint processes, with a node that says that it is there."""
    patient, ended, cores = dataclasses.replace(contract, joint_state_timeout=LATE), threading.Event(), []
    calibration = double_calibration()

    def made():
        arm = patient.arm("arm")
        driver = SO101Driver(patient, arm, str(double.port.link), calibration, "of the test", timeout=LATE)
        settings = Settings(patient, arm, driver, False, False, (), "splice", "hold")
        cores.append(CoreClient(settings, lambda: None, lambda _: None))
        return cores[-1]

    def beat():
        while not ended.wait(0.1):
            for core in list(cores):
                core.tell("alive")

    threading.Thread(target=beat, daemon=True).start()
    yield made
    ended.set()
    for core in cores:
        core.close()


def until(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def done(core, verb):
    """Asks until it is done, from wherever a busy machine has brought the controller."""
    def asked():
        if core.snapshot.state == State.FAULT:
            core.operate("clear_fault")
        if verb != "arm" and core.snapshot.state == State.DISARMED:
            core.operate("arm")
        return core.operate(verb)[0]

    until(asked)


def test_a_setpoint_process_that_is_killed_in_motion_leaves_an_arm_that_holds_and_another_takes_over(
    contract, make, double
):
    core = make()
    done(core, "arm")
    began = double.goals
    done(core, "park")
    until(lambda: np.abs(np.subtract(double.goals, began)).max() > 20)
    os.kill(core._process.pid, signal.SIGKILL)
    until(lambda: core.ended)
    goals = double.goals
    double.later += 5.0
    assert double.positions == goals == double.goals and all(double.torques)
    rest = Units(double_calibration(), MOTORS).to_counts(contract.values("rest", MOTORS))
    assert np.abs(goals - rest).max() > 20    # it was on its way

    later = make()
    assert later.snapshot.state == State.DISARMED and double.goals == goals
    done(later, "arm")
    until(lambda: later.snapshot.state == State.HOLDING)
    double.later += 5.0
    assert np.abs(np.subtract(double.positions, goals)).max() <= 1 and all(double.torques)
