# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What makes a demo a failure although it came to its end."""

import threading
from types import SimpleNamespace

from molmoact2_bringup.demo_command import shortcomings
from molmoact2_bringup.processes import Exit


def running(stopped=False, unclean=()):
    stopping = threading.Event()
    if stopped:
        stopping.set()
    return SimpleNamespace(stopping=stopping, unclean=list(unclean))


def figures(accepted=30, faults=(), time_covered=30.2):
    arm = {"chunks": {"accepted": accepted, "refused": 2}, "faults": list(faults)}
    return {"time_covered": time_covered, "controllers": {"arm": arm}}


def test_a_whole_run_has_no_shortcomings():
    assert shortcomings(figures(), running(), 30.0) == []


def test_an_arm_that_accepted_nothing_did_not_work():
    assert shortcomings(figures(accepted=0), running(), 30.0) == ["arm 'arm' accepted no chunk"]


def test_a_fault_a_stop_and_an_unclean_end_are_each_named():
    fault = {"time": 3.0, "fault": "driver", "text": "the bus is silent"}
    failures = shortcomings(
        figures(faults=[fault], time_covered=3.0), running(True, [Exit("world", -9)]), 30.0
    )
    assert failures == [
        "on stopping, process 'world' was killed by SIGKILL",
        "stopped after 3 of 30 s",
        "arm 'arm' faulted: the bus is silent",
    ]
