# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from arm_rig import CONTRACT, Rig, served

from molmoact2_contract import load_contract
from so101_driver.port import Port


@pytest.fixture(autouse=True)
def doubles_answer_at_once(monkeypatch):
    send = Port.send

    def send_and_serve(port, frame):
        send(port, frame)
        for double in served:
            double.serve()

    monkeypatch.setattr(Port, "send", send_and_serve)


@pytest.fixture
def contract():
    return load_contract(CONTRACT)


@pytest.fixture
def rig(contract, tmp_path):
    """A double of an arm without dynamics, and a driver for it that is not connected yet."""
    rig = Rig(contract, str(tmp_path / "bus"))
    yield rig
    rig.close()


@pytest.fixture
def armed(rig):
    """The same, connected, and switched on where it is."""
    rig.driver.connect()
    rig.driver.write(rig.driver.read().positions)
    rig.driver.read()    # goals are not answered: what is answered after them has been after them
    return rig
