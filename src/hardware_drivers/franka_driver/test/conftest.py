# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools

import pytest
from robot_double import CONTRACT, PANDA_CONTRACT, RobotDouble

from franka_driver.driver import create
from molmoact2_contract import load_contract

# Each double has an address of its own, so that one that ends late disturbs nobody.
_addresses = itertools.count(21)


def patient(path):
    # The double is slow at times on a busy machine; how soon a robot counts as silent is a share of this.
    return dataclasses.replace(load_contract(path), joint_state_timeout=1.0)


@pytest.fixture(scope="session")
def contract():
    return patient(CONTRACT)


@pytest.fixture(scope="session")
def panda_contract():
    return patient(PANDA_CONTRACT)


@pytest.fixture
def start_double():
    """Starts doubles; what a test leaves running is ended."""
    doubles = []

    def start(*options):
        doubles.append(RobotDouble(f"127.0.7.{next(_addresses)}", *options))
        return doubles[-1]

    yield start
    for double in doubles:
        double.close()


@pytest.fixture(scope="session")
def _kept_double():
    """One double serves most tests, since a start of it takes seconds."""
    kept = []
    yield kept
    for double in kept:
        double.close()


@pytest.fixture
def double(_kept_double):
    if not _kept_double or _kept_double[-1].process.poll() is not None:
        _kept_double.append(RobotDouble(f"127.0.7.{next(_addresses)}"))
    _kept_double[-1].say("reset")
    return _kept_double[-1]


@pytest.fixture(scope="session")
def _kept_panda_double():
    double = RobotDouble(f"127.0.7.{next(_addresses)}", "--panda")
    yield double
    double.close()


@pytest.fixture
def panda_double(_kept_panda_double):
    _kept_panda_double.say("reset")
    return _kept_panda_double


@pytest.fixture
def keep_driver():
    """What a test leaves connected is closed."""
    drivers = []

    def keep(driver):
        drivers.append(driver)
        return driver

    yield keep
    for driver in drivers:
        driver.close()


@pytest.fixture
def make_driver(contract, keep_driver):
    """Makes drivers, not connected."""

    def make(host, **options):
        return keep_driver(create(contract, contract.arm("arm"), {"host": host, "realtime": "ignore", **options}))

    return make


@pytest.fixture
def make_panda(panda_contract, keep_driver):
    """Likewise, of a Panda."""

    def make(host, **options):
        options = {"host": host, "robot": "panda", "realtime": "ignore", **options}
        return keep_driver(create(panda_contract, panda_contract.arm("arm"), options))

    return make


@pytest.fixture
def driver(double, make_driver):
    driver = make_driver(double.host)
    driver.connect()
    return driver
