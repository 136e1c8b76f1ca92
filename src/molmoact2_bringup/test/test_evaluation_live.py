# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 eval --mode live`: attempts through the running graph, judged by the world's own state."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters

from molmoact2_bringup.evaluation import live
from molmoact2_bringup.evaluation.attempts import Attempt, Condition
from molmoact2_bringup.evaluation.live import VERBS, LiveBench
from molmoact2_bringup.evaluation.simulated import SimulatedScene
from molmoact2_bringup.evaluation.truth import Truth
from molmoact2_bringup.lifecycle import BringUpError
from molmoact2_contract import find_resource, load_contract, load_system
from molmoact2_contract.cli import main
from molmoact2_msgs.msg import ControllerStatus
from mujoco_driver.bus import BusClient
from mujoco_driver.bus_server import BusServer
from mujoco_driver.demos.expert import Expert
from mujoco_driver.scene import build
from mujoco_driver.tabletop import RATE, Tabletop
from mujoco_driver.world import World, home_of

DOMAIN, OTHER_DOMAIN = 106, 158
SCENES, COUNT = "80000:80003", 3


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
    truth.begin("touch", "red", patience=0.25)
    assert truth.decided.wait(20)
    assert not truth.success and truth.reason.startswith(("came no nearer", "went to the wrong"))
    assert truth.steps / RATE == pytest.approx(1.0, abs=0.3)
    truth.close()


@pytest.mark.long
def test_attempts_through_the_graph_are_reset_judged_and_compared_with_the_fast_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    out = tmp_path / "out"
    command = ["eval", "so101_sim", "--mode", "both", "--task", "touch", "--scenes", SCENES]
    command += ["--latency", "0.4", "--depth", "off"]
    assert main([*command, "--out", str(out)]) == 0, (out / "log.txt").read_text()[-3000:]
    told = json.loads((out / "summary.json").read_text())
    fast, live = told["conditions"]
    assert (fast["mode"], live["mode"], live["n"]) == ("fast", "live", COUNT)
    assert fast["successes"] >= 1 and live["successes"] >= 1, (fast, live)
    assert fast["latency_p50"] == pytest.approx(0.4, abs=0.02) and live["latency_p50"] > 0.39
    assert fast["inference_p50"] > 0 and live["inference_p50"] > 0
    assert len(told["modes"]) == 1 and told["modes"][0]["live"][1] == told["modes"][0]["same"][1] == COUNT
    assert told["modes"][0]["same"][0] > COUNT / 2
    assert "How far fast and live agree" in (out / "report.html").read_text()
    assert (out / "log.txt").read_text().count("task begins: 'touch the") == COUNT


def call(bench: LiveBench, kind: type, name: str, request):
    """What a service of the running system answers."""
    client = bench._running.node.create_client(kind, name)
    bench._until(client.service_is_ready, f"{name} is not there")
    return bench._answer(client.call_async(request), f"{name} does not answer")


def set_bus_fault(bench: LiveBench, fault: str) -> None:
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=fault)
    request = SetParameters.Request(parameters=[Parameter(name="bus_fault", value=value)])
    assert call(bench, SetParameters, "world/set_parameters", request).results[0].successful


@pytest.mark.long
def test_neither_a_policy_that_failed_nor_a_fault_of_the_arm_costs_a_later_scene(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(OTHER_DOMAIN))
    scene = SimulatedScene(load_system("so101_sim"))
    condition = Condition("touch", 0.4, depth="off", cache="reference")
    system = scene.under(condition, "", 80000)
    lines = []
    with LiveBench(system, condition, scene.table, lines.append) as bench:
        down = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        assert call(bench, ChangeState, "policy/change_state", down).success
        first = bench.attempt(condition, 80000, *scene.words("touch", 80000))
        assert not first.reason.startswith("the task ended"), first.reason
        assert first.latencies, "\n".join(lines)
        set_bus_fault(bench, "silent")
        bench._until(lambda: bench._status.state == ControllerStatus.FAULT, "no fault")
        set_bus_fault(bench, "ok")
        second = bench.attempt(condition, 80001, *scene.words("touch", 80001))
        assert not second.reason.startswith("the task ended"), second.reason
    assert second.latencies and sum("refused" in line for line in lines) >= 1


def test_a_task_that_is_refused_is_no_attempt_and_the_policy_is_activated_anew_once():
    activated, good = [], Attempt(3, "red", "touch the red cube", True)
    bench = LiveBench.__new__(LiveBench)
    bench._running = SimpleNamespace(activate=lambda: activated.append(1))
    bench._must_be_alone = lambda: None
    answers = iter([(Attempt(3, "red", "x"), "the policy is not active"), (good, "")])
    bench._attempted = lambda *_: next(answers)
    assert bench.attempt(Condition("touch"), 3, "red", "touch the red cube") is good and len(activated) == 1
    bench._attempted = lambda *_: (Attempt(3, "red", "x"), "the instruction is blank")
    with pytest.raises(BringUpError, match="the instruction is blank"):
        bench.attempt(Condition("touch"), 3, "red", " ")
    assert len(activated) == 2


def test_each_time_that_an_arm_is_asked_for_more_than_to_disarm_another_system_is_looked_for():
    bench, asked = LiveBench.__new__(LiveBench), []
    heard = iter(["", "another system runs"])

    def must_be_alone():
        if others := next(heard):
            raise BringUpError(others)

    def service(verb):
        return SimpleNamespace(service_is_ready=lambda: True, call_async=lambda _: asked.append(verb))

    bench._arm, bench._verbs, bench._must_be_alone = "arm", {verb: service(verb) for verb in VERBS}, must_be_alone
    bench._running = SimpleNamespace(wait=lambda seconds: None)
    bench._answer = lambda *_: SimpleNamespace(success=asked[-1] == "disarm", message="the arm is still coming to rest")
    bench._operate("disarm")
    with pytest.raises(BringUpError, match="another system runs"):
        bench._operate("arm")
    assert asked == ["disarm", "arm"]


def test_what_is_refused_while_the_arm_comes_to_rest_is_asked_for_again(monkeypatch):
    bench = LiveBench.__new__(LiveBench)
    bench._running = SimpleNamespace(wait=lambda seconds: None)
    answers = iter(["the arm is still coming to rest", "the arm is still coming to rest", ""])
    bench._insist(lambda: next(answers), "arm/clear_fault")
    assert list(answers) == []
    monkeypatch.setattr(live, "PATIENCE", 0.0)
    with pytest.raises(BringUpError, match="arm/clear_fault: the cause is still there"):
        bench._insist(lambda: "the cause is still there", "arm/clear_fault")


def test_a_system_on_a_real_arm_is_not_evaluated(tmp_path, capsys):
    real = tmp_path / "real.yaml"
    text = find_resource("config/systems", "so101_sim", ".yaml").read_text()
    real.write_text(text.replace("simulation: true", "simulation: false"))
    assert main(["eval", str(real), "--mode", "live", "--out", str(tmp_path / "out")]) == 2
    assert "runs simulations only" in capsys.readouterr().err and not (tmp_path / "out").exists()
