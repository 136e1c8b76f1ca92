# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How drivers are timed: the wrapper around one, and a short run of a double's system."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from arm_controller.driver import ArmDriver, ArmState, DriverError, Reading
from molmoact2_bringup.bench.buses import BusCost, bus_costs, family, spread
from molmoact2_bringup.bench.cameras import CameraCost, camera_cost
from molmoact2_bringup.bench.report import of_drivers
from molmoact2_bringup.bench.timed_driver import TimedDriver, create
from molmoact2_contract import load_system

DOMAIN = 115


class Arm(ArmDriver):
    """Remembers what it was asked for. cycle_times: as of a driver whose bus has a loop of its own."""

    real, close_within, falls = False, 4.5, True

    def __init__(self):
        self.asked, self.cycle_times = [], [0.002, 0.003]

    def connect(self):
        self.asked.append("connect")

    def read(self):
        self.asked.append("read")
        return ArmState(np.zeros(6), 1)

    def write(self, positions):
        self.asked.append("write")

    def stop(self):
        self.asked.append("stop")

    def held(self):
        return np.full(6, 0.5)

    def guide(self):
        self.asked.append("guide")

    def recover(self):
        self.asked.append("recover")

    def health(self):
        return (Reading("temperature", 30.0, "degC"),)

    def close(self):
        self.asked.append("close")


def test_a_timed_driver_does_what_the_driver_does_and_leaves_the_time_of_each_cycle(tmp_path):
    arm = Arm()
    timed = TimedDriver(arm, tmp_path / "arm.npz")
    timed.connect()
    for _ in range(3):
        assert timed.read().stamp_ns == 1
        timed.write(np.zeros(6))
    for call in (timed.stop, timed.guide, timed.recover):
        call()
    assert timed.health() == arm.health() and (timed.held() == arm.held()).all()
    assert (timed.real, timed.close_within, timed.falls) == (False, 4.5, True)
    timed.close()
    assert arm.asked == ["connect", *["read", "write"] * 3, "stop", "guide", "recover", "close"]
    with np.load(tmp_path / "arm.npz") as times:
        assert times["calls"].shape == (3,) and (times["calls"] > 0).all()
        assert times["bus"].tolist() == arm.cycle_times


def test_a_refusal_of_the_driver_comes_through():
    class Refusing(Arm):
        def read(self):
            raise DriverError("the bus is silent")

    with pytest.raises(DriverError, match="the bus is silent"):
        TimedDriver(Refusing(), None).read()


def test_without_the_benchs_own_options_it_is_refused():
    contract = load_system("so101_double").contract
    with pytest.raises(DriverError, match="timed_driver"):
        create(contract, contract.arm("arm"), {"port": "double"})


def test_the_spread_of_times_is_their_median_and_99th_percentile():
    assert spread(np.arange(1, 101) / 1000) == pytest.approx((0.0505, 0.09901))


def test_processes_that_another_has_started_belong_to_its_family():
    # The child keeps none of the pipes, so that the parent's end is not waited for until the child's.
    code = (
        "import subprocess as s, sys;"
        "print(s.Popen(['sleep', '60'], stdin=s.DEVNULL, stdout=s.DEVNULL).pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    try:
        assert family(parent.pid) == [parent.pid, child]
    finally:
        parent.communicate("")
        subprocess.run(["kill", str(child)], check=True)


def test_each_driver_has_its_row_with_cycle_rate_and_share_of_a_core():
    arm = BusCost(
        "yam_single_double", "arm", "yam", (0.001, 0.002), (0.003, 0.0045), 99.96, 100.0, 0.01, 0.2, 0.5, ("too hot",)
    )
    other = replace(arm, driver_name="so101", turns=None, faults=())
    text = of_drivers([arm, other], CameraCost("uvc", 0.07, 29.9, 30.0))
    assert "| arm | yam | 1.00 | 2.00 | 3.00 | 4.50 | 100.0 of 100 | 1.00% | 20% | 50% | too hot |" in text
    assert "| so101 | 1.00 | 2.00 | – | – | 100.0 of 100 | 1.00% | 20% | 50% | none |" in text
    assert "| uvc | 29.9 of 30 | 7% |" in text


@pytest.mark.long
def test_a_running_camera_gives_its_rate_and_its_share(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    cost = camera_cost(tmp_path, 1.0)
    assert (cost.kind, cost.wanted) == ("uvc", 30.0) and cost.rate > 0 and cost.share > 0


@pytest.mark.long
def test_a_running_double_gives_the_time_of_its_cycles_its_rate_and_its_shares(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    (cost,) = bus_costs(["yam_single_double"], tmp_path, 2.0, lambda: None)
    assert (cost.system, cost.arm, cost.driver_name, cost.wanted) == ("yam_single_double", "arm", "yam", 100.0)
    assert 0 < cost.calls[0] <= cost.calls[1] and cost.turns is not None and 0 < cost.turns[0] <= cost.turns[1]
    assert cost.rate > 0 and cost.driver > 0 and cost.double > 0 and 0 <= cost.late <= 1
