# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import pickle
import socket
import time

from arm_controller.controller_state import Fault
from arm_controller.setpoint_process import NODE_SILENT, Core, Request, _take


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


def test_an_arm_whose_node_is_silent_comes_to_rest_since_nobody_could_stop_it(rig, monkeypatch):
    rig.accept(rig.chunk(rig.sway()))
    core, started = Core(rig.controller), time.monotonic()
    core.watch_node()
    assert rig.state == "FOLLOWING"
    monkeypatch.setattr(time, "monotonic", lambda: started + NODE_SILENT + 1.0)
    core.watch_node()
    assert rig.state == "STOPPING"
    assert "node has been silent" in rig.controller.reason
