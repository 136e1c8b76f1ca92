# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 eval`: attempts on a simulated clock, counted."""

import itertools
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from molmoact2_bringup.evaluation.attempts import Attempt, Condition, summary, wilson
from molmoact2_bringup.evaluation.disturbance import KINDS, Disturbance
from molmoact2_bringup.evaluation.in_process import Bench, Clock, SteppedArm
from molmoact2_bringup.evaluation.report import FAST, Found, write_results
from molmoact2_contract import load_contract
from molmoact2_contract.cli import main
from molmoact2_model import Trace
from molmoact2_policy.backend import BackendError, Inference, Unanswered
from mujoco_driver.demos.expert import Expert
from mujoco_driver.judge import LATE, Judge
from mujoco_driver.render import Eyes
from mujoco_driver.scene import build
from mujoco_driver.tabletop import Tabletop
from mujoco_driver.world import home_of

TAG = "so101_sim_molmoact2_tiny"


class Knowing:
    """A backend that knows the true state: the expert's plan as a chunk. Its observations are what they are."""

    name, fingerprint = "knowing", ""

    def __init__(self, table: Tabletop):
        self.table, self.expert = table, Expert(table)
        self.answers, self.told, self.asked, self.resets = True, "", 0, 0

    def load(self) -> None: ...

    def infer(self, images, state, instruction, seed, prefix=None) -> Inference:
        assert [image.shape for image in images] == [(48, 64, 3)] * 2
        self.asked, self.told = self.asked + 1, instruction
        if not self.answers:
            raise Unanswered("not_decoded", "no")
        task = "touch" if "touch" in instruction else "pick"
        cube = next(name for name in self.table.scene.cubes if name in instruction)
        chunk = self.table.to_ros(np.clip(self.expert.chunk(task, cube, 30), *self.table.limits.T))
        trace = Trace.__new__(Trace)
        object.__setattr__(trace, "refreshed", np.arange(100) < 25)
        object.__setattr__(trace, "decoder_steps", 40)
        object.__setattr__(trace, "warnings", ())
        return Inference(chunk.astype(np.float32), trace, 10)

    def reset(self, because: str = "reset") -> None:
        self.resets += 1


@pytest.fixture(scope="module")
def bench() -> Bench:
    contract, scene = load_contract("so101"), build("so101_tabletop")
    home = home_of(contract, scene)
    table = Tabletop(scene, np.array([home[joint] for joint in scene.joints]))
    tag = contract.norm_tag(TAG)
    return Bench(contract, tag, Knowing(table), table, Eyes(scene, (48, 64)), Clock(), "arm", 0.4)


class Blind:
    """Eyes that see nothing."""

    def __init__(self, eyes: Eyes):
        self._eyes = eyes

    def look(self, data):
        images, fovy = self._eyes.look(data)
        return {name: np.zeros_like(image) for name, image in images.items()}, fovy


def tried(bench: Bench, seed: int = 3, **condition) -> Attempt:
    bench.backend.answers = True
    chosen = Condition(**({"task": "touch", "latency": 0.2} | condition))
    return bench.attempt(chosen, seed, "green", f"{chosen.task} the green cube")


def test_a_policy_that_knows_the_way_succeeds_through_the_controllers_own_objects(bench):
    for joining in ("splice", "ensemble"):
        attempt = tried(bench, joining=joining)
        assert attempt.success and attempt.reason == "" and attempt.refused == 0
        assert 0.5 < attempt.seconds < 4.0
        assert len(attempt.refreshed) >= 1 and set(attempt.refreshed) == {0.25}
        assert len(attempt.film) == pytest.approx(10 * attempt.seconds, abs=1)


def test_a_chunk_arrives_so_long_after_its_image_as_the_condition_says(bench):
    for latency in (0.2, 0.6):
        attempt = tried(bench, latency=latency)
        assert attempt.latencies and np.allclose(attempt.latencies, latency, atol=0.011), attempt.latencies


def test_what_held_at_two_looks_held_between_and_nothing_is_known_beyond_a_long_gap(bench, monkeypatch):
    held = {"touch": True, "pick": False}
    monkeypatch.setattr("mujoco_driver.judge.holds", lambda scene, data, task, cube: held[task])

    def looks(*steps):
        judge = Judge(bench.table, "touch", "green")
        return [judge.update(step) for step in steps]

    bench.table.reset(3)
    assert looks(*[1] * 10) == [False] * 9 + [True]
    assert looks(5, 5) == [False, False]            # what was before the first look that held is not known
    assert looks(5, 5, 4) == [False, False, True]
    assert looks(1, 5, LATE + 1, 5) == [False] * 4    # from the long gap on it begins anew
    assert looks(1, 5, LATE + 1, 5, 4) == [False] * 4 + [True]


@pytest.mark.parametrize("task", ["touch", "pick", "tray"])
def test_an_attempt_that_ends_before_the_first_look_has_a_reason_too(bench, task):
    bench.table.reset(3)
    assert Judge(bench.table, task, "green").reason() == "ended before the arm was looked at"


def test_the_same_attempt_ends_the_same_way_twice(bench):
    first, again = tried(bench, seed=5), tried(bench, seed=5)
    assert (first.success, first.seconds, first.latencies) == (again.success, again.seconds, again.latencies)


def test_a_policy_that_never_answers_fails_after_five_inferences_as_the_running_one_does(bench):
    bench.backend.answers, bench.backend.asked = False, 0
    attempt = bench.attempt(Condition("touch", 0.2), 3, "green", "touch the green cube")
    assert attempt.reason == "the task ended: 5 inferences in a row gave no action, the last because: no"
    assert not attempt.success and bench.backend.asked == 5 and attempt.latencies == []
    assert 4 * bench.min_period < attempt.seconds < 5 * bench.min_period + 0.2    # each took its time


def test_an_engine_that_fails_at_once_leaves_a_reason_and_a_picture(bench, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise BackendError("out of memory")

    monkeypatch.setattr(bench.backend, "infer", broken)
    condition = Condition("touch", 0.2)
    attempt = bench.attempt(condition, 3, "green", "touch the green cube")
    assert attempt.reason == "the task ended: inference failed: out of memory" and len(attempt.film) == 1
    found = Found(condition, FAST, [attempt, Attempt(4, "red", "x")])    # the other was kept without any look
    write_results(tmp_path, {"title": "broken"}, [found], bench.table)
    assert (tmp_path / "report.html").read_text().count("<video") == 1


def test_an_inference_without_an_answer_takes_as_long_as_any_and_each_needs_a_new_image(bench):
    bench.backend.answers, bench.backend.asked = False, 0
    slow = replace(bench, min_period=0.0, camera_period=0.3)
    attempt = slow.attempt(Condition("touch", 0.2), 3, "green", "touch the green cube")
    assert bench.backend.asked == 5 and attempt.seconds == pytest.approx(4 * 0.3 + 0.2, abs=0.03)


def test_what_a_black_camera_shows_moves_nothing(bench):
    bench.backend.answers = True
    black = bench.attempt(Condition("pick", 0.2, disturbance="blackout"), 3, "green", "pick up the green cube")
    assert black.withheld >= 1 and len(black.latencies) >= 1
    eyes = replace(bench, eyes=Blind(bench.eyes))
    attempt = eyes.attempt(Condition("touch", 0.2), 3, "green", "touch the green cube")
    assert not attempt.success and attempt.latencies == [] and attempt.withheld >= 5
    start, end = attempt.film[0], attempt.film[-1]
    assert np.abs(end[bench.table.positions] - start[bench.table.positions]).max() < 0.05    # it sags


def test_a_fault_of_the_controller_ends_an_attempt_with_its_reason(bench, monkeypatch):
    def blocked(self, positions):
        self.stopped = getattr(self, "stopped", self._table.command.copy())
        self._table.data.ctrl[:] = self.stopped

    monkeypatch.setattr(SteppedArm, "write", blocked)
    attempt = tried(bench)
    assert not attempt.success and attempt.seconds < 4.0
    assert attempt.reason.startswith("the task ended: arm 'arm' is in fault: ")


def test_a_busy_machine_makes_no_fault_of_a_simulated_arm(bench, monkeypatch):
    read, readings = SteppedArm.read, itertools.count()

    def late(self):
        if next(readings) == 50:
            threading.Event().wait(1.5 * bench.contract.joint_state_timeout)    # the machine's time, not the arm's
        return read(self)

    monkeypatch.setattr(SteppedArm, "read", late)
    assert tried(bench).success


def test_an_engine_that_fails_ends_an_attempt_with_its_reason(bench, monkeypatch):
    def fails(*_):
        raise BackendError("out of memory")

    monkeypatch.setattr(bench.backend, "infer", fails)
    assert tried(bench).reason == "the task ended: inference failed: out of memory"


def test_at_long_latencies_real_time_chunking_continues_the_chunk_that_has_just_arrived(bench, monkeypatch):
    told, infer = [], bench.backend.infer

    def noting(images, state, instruction, seed, prefix=None):
        told.append(prefix)
        return infer(images, state, instruction, seed, prefix)

    monkeypatch.setattr(bench.backend, "infer", noting)
    tried(bench, task="pick", latency=0.6, joining="rtc")
    assert len(told) > 2 and told[0] is None and None not in told[1:]


def test_disturbed_cameras_show_what_their_condition_says():
    image = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
    shown = {kind: Disturbance(kind, "front", 3)("front", image, 1.5) for kind in KINDS}
    assert np.array_equal(shown["none"], image) and not shown["blackout"].any()
    assert abs(float(shown["dark"].mean()) / image.mean() - 0.5) < 0.01
    assert 8 < float(np.abs(shown["noise"].astype(int) - image).mean()) < 11
    moved = [np.roll(image, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    assert sum(np.array_equal(shown["shift"][2:-2, 2:-2], one[2:-2, 2:-2]) for one in moved) == 1
    wrist = {kind: Disturbance(kind, "front", 3)("wrist", image, 1.5) for kind in ("shift", "blackout")}
    assert all(np.array_equal(one, image) for one in wrist.values())
    assert np.array_equal(Disturbance("blackout", "front", 3)("front", image, 2.5), image)


def test_wilsons_interval_is_that_of_the_literature():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)    # Newcombe 1998, table I
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=1e-4)


def test_a_summary_counts_successes_and_names_failures():
    attempts = [Attempt(seed, "red", "x", success=seed != 2, seconds=float(seed)) for seed in range(1, 5)]
    attempts[1].reason = "dropped the cube"
    attempts[0].latencies, attempts[0].refreshed, attempts[0].steps = [0.1, 0.3], [0.2, 0.4], [30, 50]
    found = summary(Condition("pick", 0.45, "rtc"), attempts)
    assert (found["n"], found["successes"], found["success"]) == (4, 3, 0.75)
    assert found["failures"] == {"dropped the cube": 1} and found["seconds_to_success"] == pytest.approx(8 / 3)
    assert (found["latency_p50"], found["refreshed"], found["decoder_steps"]) == pytest.approx((0.2, 0.3, 40.0))
    assert found["condition"] == "pick, latency 0.45 s, rtc/hold, depth adaptive (bounded)"


def test_a_patient_evaluation_also_tells_what_succeeded_in_an_experts_time():
    condition = Condition("pick", patience=2.0)
    assert (condition.first_try, condition.limit) == (6.0, 12.0)
    seconds = (2.0, 4.0, 8.0, 12.0)
    found = summary(condition, [Attempt(seed, "red", "x", seed > 0, seconds[seed]) for seed in range(4)])
    assert (found["successes"], found["limit"]) == (3, 12.0)
    assert (found["successes_at_first"], found["first_try"]) == (1, 6.0)


def test_an_attempt_lasts_as_long_as_patience_says(bench):
    bench.backend.answers, blind = True, replace(bench, eyes=Blind(bench.eyes))
    conditions = [Condition("touch", 0.2, patience=patience) for patience in (0.25, 0.5)]
    attempts = [blind.attempt(condition, 3, "green", "touch the green cube") for condition in conditions]
    assert [attempt.seconds for attempt in attempts if not attempt.success] == pytest.approx([1.0, 2.0], abs=0.05)


def test_the_command_tries_a_checkpoint_and_writes_what_came_of_it(tmp_path, capsys):
    command = ["eval", "so101_sim", "--task", "touch", "--scenes", "80000:80001", "--latency", "0.35,0.8"]
    changed = ["--set", "world.scene=so101_tabletop_varied", "--depth", "off"]
    assert main([*command, *changed, "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out/summary.json").read_text())["conditions"]
    assert [(c["task"], c["n"]) for c in found] == [("touch", 1)] * 2
    assert [round(c["latency_p50"], 2) for c in found] == pytest.approx([0.35, 0.8], abs=0.02)
    assert "latency 0.8 s" in capsys.readouterr().out
    assert "in so101_tabletop_varied" in (tmp_path / "out/report.html").read_text()
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("<video") == 2 and "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "dance"], "there is no 'dance'; there are: touch, pick, tray"),
        (["--scenes", "5:5"], "expected FIRST:END"),
        (["--joining", "glue"], "--joining: there is no 'glue'"),
        (["--set", "world.colour=red"], "sets no such parameter for world"),
        (["--cache", "endless"], "--cache: there is no 'endless'; there are: bounded, reference"),
        (["--cameras", "blind"], "--cameras: there is no 'blind'"),
        (["--latency", "soon"], "'soon' is neither as-it-is nor a number of seconds above 0 and below 1"),
        (["--latency", "0"], "'0' is neither as-it-is"),
        (["--latency", "0.3,-1"], "'-1' is neither as-it-is"),
        (["--latency", "nan"], "'nan' is neither as-it-is"),
        (["--latency", "1.0"], "after which controllers refuse a chunk"),
        (["--patience", "0"], "--patience is 0; expected a number from 0.25 to 100"),
        (["--patience", "nan"], "--patience is nan"),
        (["--scenes", "99999999999999999999:99999999999999999999999"], "seeds of scenes go up to"),
        (["--set", "cameras.image_width=0"], "image_height is 240 and image_width 0"),
        (["--also", "latency=x"], "--also latency=x: --latency: 'x'"),
        (["--device", "cuda"], "--device has no meaning for so101_sim"),
        (["--checkpoint", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_tried_is_refused_and_nothing_is_written(tmp_path, capsys, arguments, said):
    assert main(["eval", "so101_sim", "--scenes", "1:2", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_are_not_written_over_others(tmp_path, capsys):
    assert main(["eval", "so101_sim", "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert Path(tmp_path).is_dir()
