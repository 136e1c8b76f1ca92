# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 corrections`: a policy drives, an expert says what it should have done."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from molmoact2_bringup.evaluation.pilot import Driving
from molmoact2_contract import find_resource, load_system
from molmoact2_contract.cli import main
from molmoact2_data.companions import ALTERNATIVES, Companion
from molmoact2_data.layout import CORRECTED, NOTES
from molmoact2_data.reader import Dataset
from molmoact2_data.streaming import Share, Stream
from molmoact2_policy.backend import BackendError, InProcessBackend, Unanswered
from molmoact2_policy.runner import MOST_UNANSWERED
from mujoco_driver.demos.episode import Demonstrator, Wanted
from mujoco_driver.scene import build
from mujoco_driver.tabletop import Tabletop


class Blind:
    size = (12, 16)

    def look(self, _):
        return {}, {}


class Wandering:
    """Drives to where nothing is."""

    def __init__(self):
        self.asked, self.seeds = [], []

    def begin(self, seed):
        self.seeds.append(seed)

    def chunk(self, images, state, instruction):
        self.asked.append(instruction)
        return state + np.linspace(0, 1, 30)[:, None] * np.array([0.3, -0.2, 0.0, 0.0, 0.0, 0.0])


def test_the_pilot_drives_and_the_expert_says_what_it_should_have_done_and_ends_it():
    table = Tabletop(build("so101_tabletop"), np.array([0.0, -0.9, 0.75, 1.3, 0.0, 0.4]))
    wanted, pilot = Wanted({"touch": 1.0}, ("red",), 0.0, False, False, 3, 0), Wandering()
    done = Demonstrator(table, Blind(), wanted, pilot).perform(4)
    assert pilot.seeds == [4] and set(pilot.asked) == {"touch the red cube"}
    assert not done.failure    # the expert ended it
    own = {row["frame_index"]: row["chunk"] for row in done.known[ALTERNATIVES] if row["instruction"] in pilot.asked}
    assert sorted(own) == list(range(0, len(done.steps), 3))
    # Early the arm went where the pilot wanted, which is not what is kept as the right thing to do.
    went = done.steps[6].state - done.steps[0].state
    meant = own[0].reshape(30, 6)[6] - done.steps[0].state
    assert np.linalg.norm(went - meant) > 0.05


class Speechless(Wandering):
    """Has no answer at first, and now and then."""

    def chunk(self, images, state, instruction):
        there = super().chunk(images, state, instruction)
        return None if len(self.asked) % 2 else there


def test_a_pilot_without_an_answer_goes_on_with_what_it_said_last_and_stays_where_it_is_before_that():
    table = Tabletop(build("so101_tabletop"), np.array([0.0, -0.9, 0.75, 1.3, 0.0, 0.4]))
    wanted, pilot = Wanted({"touch": 1.0}, ("red",), 0.0, False, False, 3, 0), Speechless()
    done = Demonstrator(table, Blind(), wanted, pilot).perform(4)
    assert not done.failure and len(pilot.asked) > 2
    moved = [np.abs(step.state - done.steps[0].state).max() for step in done.steps]
    assert max(moved[:13]) < 0.03 < moved[20]    # the second question is asked at step 12


def test_a_policy_that_never_answers_fails_as_in_a_running_system():
    def infer(*_):
        raise Unanswered("not_decoded", "it did not close its depth codes")

    driving = Driving.__new__(Driving)
    driving._tag, driving._frame = SimpleNamespace(cameras=()), SimpleNamespace(to_model=lambda state: state)
    driving._backend, driving._seed, driving._unanswered = SimpleNamespace(infer=infer), 0, 0
    for _ in range(MOST_UNANSWERED - 1):
        assert driving.chunk({}, np.zeros(6), "touch") is None
    with pytest.raises(BackendError, match=f"{MOST_UNANSWERED} inferences in a row .* did not close its depth codes"):
        driving.chunk({}, np.zeros(6), "touch")


class Unmoved(Tabletop):
    """Nothing that is commanded happens, so no attempt succeeds."""

    def reset(self, seed, offset=None):
        super().reset(seed, offset)
        self.given = []

    def step(self, command):
        self.given.append(command)


class Idle:
    """An expert who means one command."""

    def plan(self, task, cube, steps):
        return np.full((30, 6), 0.1)

    def chunk(self, task, cube, steps):
        return np.full((steps, 6), 0.1)


def test_a_pilot_drives_for_up_to_70_percent_of_twice_an_experts_time_so_that_second_tries_are_seen():
    table = Unmoved(build("so101_tabletop"), np.array([0.0, -0.9, 0.75, 1.3, 0.0, 0.4]))
    wanted = Wanted({"touch": 1.0}, ("red",), 0.0, False, False, 0, 0)
    driven = []
    for pilot, seeds in ((None, [0]), (Wandering(), range(12))):
        demonstrator = Demonstrator(table, Blind(), wanted, pilot)
        demonstrator._expert = Idle()
        for seed in seeds:
            done = demonstrator.perform(seed)
            by_expert = [bool((command == 0.1).all()) for command in table.given]
            driven.append(by_expert.index(True))
            assert all(by_expert[driven[-1] :])    # who has handed over does not come back
            # Then the expert has the whole time to end it.
            assert done.failure and len(by_expert) == driven[-1] + (120 if pilot is None else 2 * 120)
    assert driven[0] == 0
    assert max(driven) > 120    # past all the time that an expert has
    assert max(driven) <= 0.7 * 240 and min(driven[1:]) > 0.15 * 240 - 1


def test_what_a_checkpoint_did_wrong_becomes_data_of_what_was_right(tmp_path, capsys):
    command = ["corrections", "molmoact2-tiny-think-so101", "--episodes", "2", "--seed", "7", "--workers", "1"]
    assert main([*command, "--tasks", "touch", "--no-depth", "--out", str(tmp_path / "out")]) == 0, capsys.readouterr()
    dataset = Dataset(tmp_path / "out")
    assert json.loads((tmp_path / "out" / NOTES).read_text())[CORRECTED] == 3
    assert any(True for _ in Companion(dataset.root, ALTERNATIVES).rows(0))
    frames = list(Stream([Share(dataset.root)], 30, 0, every=3, shift=False).once())
    assert frames and all(frame.valid.all() for frame in frames)


@pytest.mark.parametrize(
    ("given", "noise_scale", "smoothing"),
    [([], 1.0, 0.0), (["--noise-scale", "0.6", "--smoothing", "0.5"], 0.6, 0.5)],
)
def test_the_pilot_drives_with_the_noise_and_the_smoothing_that_are_given(monkeypatch, given, noise_scale, smoothing):
    pilots = []
    monkeypatch.setattr("mujoco_driver.demos.command.run", lambda args, pilot: pilots.append(pilot) or 0)
    monkeypatch.setattr(InProcessBackend, "load", lambda _: None)
    assert main(["corrections", "molmoact2-tiny-think-so101", "--out", "nowhere", *given]) == 0
    assert (pilots[0].settings.noise_scale, pilots[0].settings.smoothing) == (noise_scale, smoothing)


def test_the_help_tells_the_default_that_holds(capsys):
    with pytest.raises(SystemExit):
        main(["corrections", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "for each instruction; at least 1 (default 3)" in told


def test_the_suites_own_checkpoint_is_corrected_as_it_drives():
    policy = load_system("so101_sim").process("policy").parameters
    written = (find_resource("checkpoints", "molmoact2-tiny-think-so101").parent / "retrain").read_text()
    wanted = f"--noise-scale {policy['noise_scale']} --smoothing {policy['smoothing']}"
    assert wanted in [line.strip() for line in written.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["molmoact2-tiny-think-so101", "--noise-scale", "0.1"], "noise_scale is 0.1, expected a number from 0.3 to 1"),
        (["molmoact2-tiny-think-so101", "--smoothing", "-1"], "--smoothing is -1; it must be a length in seconds"),
        (["molmoact2-tiny-think-so101", "--smoothing", "99"], "--smoothing is 99; it must be a length in seconds"),
        (["nowhere"], "nowhere"),
        (["molmoact2-tiny-think-so101", "--alternatives", "0"], "--alternatives must be at least 1"),
        (["molmoact2-tiny-think-so101", "--norm-tag", "libero"], "libero"),
    ],
)
def test_what_cannot_be_corrected_is_refused_and_nothing_is_written(tmp_path, capsys, arguments, said):
    assert main(["corrections", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()
