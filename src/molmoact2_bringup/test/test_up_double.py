# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 up NAME --double`: for each robot the real driver moves a double of its device."""

import os
import signal

import pytest
from live_system import Up

from molmoact2_contract import load_system

DOMAINS = {"yam_bimanual": 113, "yam_single": 114, "franka_droid": 116}


@pytest.mark.parametrize("name", ["so101", "so100", "yam_bimanual", "yam_single", "franka_droid"])
def test_for_each_robot_there_is_a_system_of_its_double_with_the_same_contract_driver_and_arms(name):
    real, double = load_system(name), load_system(f"{name}_double")
    assert not real.simulation and double.simulation and double.contract.path == real.contract.path

    def drivers(system):
        return {p.parameters["arm"]: p.parameters["driver"] for p in system.processes if "driver" in p.parameters}

    assert drivers(double) == drivers(real)


# Two YAM drivers at 250 Hz, their doubles, a world and its cameras need more than two cores in real time.
MANY = pytest.mark.skipif((os.cpu_count() or 1) < 4, reason="two arms with their doubles need four cores")


def each_system():
    return [pytest.param(name, marks=MANY) if "bimanual" in name else name for name in DOMAINS]


@pytest.mark.parametrize("name", each_system())
def test_chunks_come_in_the_arms_follow_them_and_ctrl_c_ends_everything_cleanly(name):
    system = Up(DOMAINS[name], name, "--double")
    try:
        for process in load_system(f"{name}_double").processes:
            if "driver" in process.parameters:
                system.wait_for(rf"\[{process.name}\].*following: following chunk")
        system.process.send_signal(signal.SIGINT)
        assert system.end() == 0, "\n".join(system.lines)
    finally:
        system.process.kill()
