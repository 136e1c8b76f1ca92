# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import time
from pathlib import Path

import pytest
from yam_rig import hold_here, patient_double, wait_for_nothing_that_cannot_come

from molmoact2_contract import load_contract
from yam_driver.double.arm import GRIPPER_LIMITS
from yam_driver.driver import create

CONTRACT = Path(__file__).parents[4] / "config" / "embodiments" / "yam_bimanual.yaml"


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a machine that is busy with other things an answer may come late; nothing here is a matter of speed."""
    for name, value in {"motors.REPLY": 1.0, "checks.PATIENCE": 5.0, "loop.ANSWER": 60.0, "loop.OLD": 60.0,
                        "troubles.SHOWN": 2.0, "loop.PERIOD": 1 / 50, "channel.ADAPTER": 2.0,
                        "exchange.HURRIED": 1.0}.items():
        monkeypatch.setattr(f"yam_driver.{name}", value)
    wait_for_nothing_that_cannot_come(monkeypatch)


@pytest.fixture(scope="session")
def contract():
    return load_contract(CONTRACT)


@pytest.fixture
def double(tmp_path):
    """An arm of motors without weight, at the rest pose with its gripper half open."""
    arm = patient_double(tmp_path / "can", start=(0, 0, 0, 0, 0, 0, 3.25))
    yield arm
    arm.close()


@pytest.fixture
def make(contract, monkeypatch):
    """Makes drivers of the left arm; those that a test leaves open are closed, and sink no longer than that takes."""
    drivers = []

    def made(double, **options):
        given = {"channel": f"slcan:{double.adapter.link}", "gripper_limits": GRIPPER_LIMITS} | options
        drivers.append(create(contract, contract.arm("left"), {k: v for k, v in given.items() if v is not None}))
        return drivers[-1]

    yield made
    monkeypatch.setattr("yam_driver.loop.SINK", 0.05)
    for driver in drivers:
        driver.close()


@pytest.fixture
def driver(double, make):
    driver = make(double)
    driver.connect()
    return driver


@pytest.fixture
def until():
    """Waits for what must come; the limit is patience, not a promise."""

    def waited(condition, patience=120.0):
        give_up = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < give_up, "it did not come"
            time.sleep(0.005)

    return waited


@pytest.fixture
def on(driver):
    """A driver whose motors are on and hold."""
    hold_here(driver)
    return driver
