# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from watcher import CONTRACT, Program

import mujoco_driver.render  # noqa: F401  (chooses how to draw, which must be before mujoco is imported)
from molmoact2_contract import load_contract
from mujoco_driver.bus import BusClient
from mujoco_driver.bus_server import BusServer
from mujoco_driver.driver import create
from mujoco_driver.scene import build
from mujoco_driver.world import World, home_of


@pytest.fixture(scope="session")
def contract():
    return load_contract(CONTRACT)


@pytest.fixture(scope="session")
def scene():
    return build("so101_tabletop")


@pytest.fixture
def still_world(scene, contract):
    """A world whose physics goes on only where a test says so."""
    return World(scene, home_of(contract, scene), seed=1)


@pytest.fixture
def world(still_world):
    still_world.start()
    yield still_world
    still_world.close()


@pytest.fixture
def bus(world, tmp_path):
    """A served world; what the server logs is in its list `logged`."""
    logged: list[str] = []
    server = BusServer(world, str(tmp_path / "bus.sock"), logged.append)
    server.logged = logged
    yield server
    server.close()


@pytest.fixture
def client(bus):
    client = BusClient(bus.address, timeout=5.0)
    yield client
    client.close()


@pytest.fixture
def driver(bus, contract):
    driver = create(contract, contract.arm("arm"), {"address": bus.address})
    driver.connect()
    yield driver
    driver.close()


@pytest.fixture
def start():
    """Starts a Program; what a test leaves running is killed."""
    programs: list[Program] = []

    def started(name: str, domain: int, **parameters: str) -> Program:
        programs.append(Program(name, domain, **parameters))
        return programs[-1]

    yield started
    for program in programs:
        if program.process.poll() is None:
            program.kill()
