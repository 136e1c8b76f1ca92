# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import socket

import pytest
from servo_rig import CONTRACT, Rig

from arm_controller.setpoint_process import PACKET
from molmoact2_contract import load_contract


@pytest.fixture
def contract():
    return load_contract(CONTRACT)


@pytest.fixture
def rig(contract):
    """An armed arm that holds at home."""
    rig = Rig(contract)
    rig.arm_and_wait()
    return rig


@pytest.fixture
def make_rig(contract):
    return lambda **options: Rig(contract, **options)


@pytest.fixture
def wire():
    """The loop's end and the node's."""
    ours, node = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    for end in (ours, node):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET)
    yield ours, node
    ours.close()
    node.close()
