# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

from molmoact2_contract import load_contract

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")

from mujoco_driver.bus import BusServer  # noqa: E402
from mujoco_driver.scene import build  # noqa: E402
from mujoco_driver.world import World  # noqa: E402

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="session")
def contract():
    return load_contract(ROOT / "config/embodiments/so101.yaml")


@pytest.fixture(scope="session")
def scene():
    return build("so101_tabletop")


@pytest.fixture
def world(scene, contract):
    home = {j: contract.joints[j].home for j in scene.joints if j != "gripper"}
    world = World(scene, home, seed=1)
    world.start()
    yield world
    world.close()


@pytest.fixture
def bus(world, tmp_path):
    """The address of a served world; what the server logs is in its list `logged`."""
    logged: list[str] = []
    server = BusServer(world, str(tmp_path / "bus.sock"), logged.append)
    server.logged = logged
    yield server
    server.close()
