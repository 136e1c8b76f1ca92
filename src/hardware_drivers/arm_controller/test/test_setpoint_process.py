# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import pickle
import socket

from arm_controller.controller_state import Fault
from arm_controller.setpoint_process import Core, Request, _take


def test_a_request_that_fails_in_itself_is_a_fault_and_the_loop_goes_on(rig, monkeypatch):
    ours, node = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    monkeypatch.setattr(rig.controller, "accept", lambda *_: 1 / 0)
    node.send(pickle.dumps(Request("chunk", (None,))))
    assert _take(Core(rig.controller), ours)
    assert rig.controller.state.fault == Fault.INTERNAL
    assert "ZeroDivisionError" in rig.controller.state.fault_text
    node.close()
    assert not _take(Core(rig.controller), ours)
    ours.close()
