# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 eval --mode live`: attempts through the running graph, judged by the world's own state."""

import json
import time

import numpy as np
import pytest

from molmoact2_bringup.evaluation.truth import Truth
from molmoact2_contract import find_resource, load_contract
from molmoact2_model.cli import main
from mujoco_driver.bus import BusClient
from mujoco_driver.bus_server import BusServer
from mujoco_driver.demos.expert import Expert
from mujoco_driver.scene import build
from mujoco_driver.tabletop import RATE, Tabletop
from mujoco_driver.world import World, home_of

DOMAIN = 106


@pytest.fixture
def world(tmp_path):
    contract, scene = load_contract("so101"), build("so101_tabletop")
    world = World(scene, home_of(contract, scene), seed=3)
    bus = BusServer(world, str(tmp_path / "bus"), print)
    world.start()
    yield world, str(tmp_path / "bus")
    bus.close()
    world.close()


def table_of() -> Tabletop:
    contract, scene = load_contract("so101"), build("so101_tabletop")
    home = home_of(contract, scene)
    return Tabletop(scene, np.array([home[joint] for joint in scene.joints]))


def test_the_judge_of_a_running_world_sees_what_an_arm_does_there(world):
    """An expert that plans from what the judge sees touches the green cube."""
    truth, arm = Truth(world[1], table_of()), BusClient(world[1], 2.0)
    truth.begin("touch", "green")
    planner = table_of()
    planner.reset(3)
    began, path = time.monotonic(), Expert(planner).plan("touch", "green", 120)
    while not truth.decided.wait(1 / RATE):
        goal = path[min(int((time.monotonic() - began) * RATE), len(path) - 1)]
        arm.write(list(enumerate(np.clip(goal, *planner.limits.T))))
    assert truth.success and truth.reason == ""
    assert len(truth.film) == pytest.approx(truth.steps / 3, abs=2)
    truth.close()
    arm.close()


def test_an_arm_that_does_nothing_fails_at_the_limit_and_a_world_that_goes_away_is_named(world):
    truth = Truth(world[1], table_of())
    truth.begin("touch", "red")
    assert truth.decided.wait(20)
    assert not truth.success and truth.reason.startswith(("came no nearer", "went to the wrong"))
    assert truth.steps / RATE == pytest.approx(4.0, abs=0.3)
    truth.close()


def test_attempts_through_the_graph_are_reset_judged_and_compared_with_the_fast_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    out = tmp_path / "out"
    command = ["eval", "so101_sim", "--mode", "both", "--task", "touch", "--scenes", "90001:90003", "--latency", "0.4"]
    command += ["--cameras", "shift"]
    assert main([*command, "--depth", "off", "--out", str(out)]) == 0, (out / "log.txt").read_text()[-3000:]
    told = json.loads((out / "summary.json").read_text())
    fast, live = told["conditions"]
    assert (fast["mode"], live["mode"], live["n"]) == ("fast", "live", 2)
    assert live["latency_p50"] is None or live["latency_p50"] > 0.39    # none: nothing was sent
    assert fast["latency_p50"] == pytest.approx(0.4, abs=0.02)
    assert len(told["modes"]) == 1 and told["modes"][0]["live"][1] == 2
    assert (out / "report.html").read_text().count("<video") == 4
    log = (out / "log.txt").read_text()
    assert log.count("task begins: 'touch the") == 2 and log.count("ended (canceled)") == 2


def test_a_system_on_a_real_arm_is_not_evaluated(tmp_path, capsys):
    real = tmp_path / "real.yaml"
    text = find_resource("config/systems", "so101_sim", ".yaml").read_text()
    real.write_text(text.replace("simulation: true", "simulation: false"))
    assert main(["eval", str(real), "--mode", "live", "--out", str(tmp_path / "out")]) == 2
    assert "runs simulations only" in capsys.readouterr().err and not (tmp_path / "out").exists()
