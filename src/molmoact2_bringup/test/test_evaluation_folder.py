# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 eval`: the system that is given, and the folder that stands."""

import json
from contextlib import contextmanager

import numpy as np
import pytest

from molmoact2_bringup.check.wanted import configuration_of
from molmoact2_bringup.evaluation.attempts import Attempt, Condition
from molmoact2_bringup.evaluation.folder import ATTEMPTS, LATER, Folder, opened
from molmoact2_bringup.evaluation.report import FAST
from molmoact2_bringup.evaluation.simulated import SimulatedScene
from molmoact2_bringup.lifecycle import BringUpError
from molmoact2_bringup.running import Stopped
from molmoact2_bringup.up import with_settings
from molmoact2_contract import ContractError, find_resource, load_system
from molmoact2_contract.cli import main
from molmoact2_policy.backend import BackendError

ASKED = dict.fromkeys(("latency", "joining", "when_late", "depth", "cache"), "") | {"task": "touch", "cameras": "none"}


@pytest.fixture(scope="module")
def scene() -> SimulatedScene:
    return SimulatedScene(load_system("so101_sim"))


def test_what_is_not_asked_for_is_as_the_system_file_says(tmp_path):
    text = find_resource("config/systems", "so101_sim", ".yaml").read_text()
    changed = {
        "joining: splice": "joining: ensemble", "when_late: hold": "when_late: slow", "depth: adaptive": "depth: full",
        "min_period: 0.4": "min_period: 0.7\n      num_steps: 3\n      n_action_steps: 9\n      seed: 5"
        "\n      check_frozen: 'on'\n      rtc: replace\n      least_latency: 0.25",
        "camera_rate: 15.0": "camera_rate: 10.0",
    }    # fmt: skip
    for before, after in changed.items():
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "mine.yaml").write_text(text)
    scene = SimulatedScene(load_system(tmp_path / "mine.yaml"))
    (condition,) = scene.conditions(ASKED)
    assert condition == Condition("touch", 0.25, "ensemble", "slow", "full", "bounded", "none")
    system = scene.under(condition, "", 80000)
    wanted = configuration_of(system.process("policy"))
    bench = scene.bench(wanted, "arm")
    bench.close()
    assert (bench.min_period, bench.camera_period, bench.seed, bench.check_frozen) == (0.7, 0.1, 5, True)
    settings = wanted.settings
    assert (settings.num_steps, settings.n_action_steps, settings.rtc, settings.depth) == (3, 9, "replace", "full")
    assert wanted.least_latency == 0.25 and system.process("world").parameters["seed"] == 80000


def test_a_parameter_that_the_policy_does_not_have_is_refused_before_the_first_attempt(scene):
    misspelt = with_settings(scene.system, [])
    misspelt.process("policy").parameters["num_step"] = 3
    with pytest.raises(ContractError, match="'num_step'"):
        SimulatedScene(misspelt).under(Condition("touch"), "", 1)
    del misspelt.process("policy").parameters["num_step"]


COMMAND = ["eval", "so101_sim", "--task", "touch", "--latency", "0.3", "--depth", "off"]


class Played:
    """Benches whose attempts are told; one at the end is an interruption, or an error."""

    def __init__(self, monkeypatch, last: BaseException | None = None, after: int = 10**6):
        self.tried, self._last, self._after = [], last, after
        monkeypatch.setattr(SimulatedScene, "fast", self._open)
        monkeypatch.setattr(SimulatedScene, "live", self._open)

    @contextmanager
    def _open(self, system, condition, log=None):
        def attempt(seed):
            if len(self.tried) >= self._after:
                raise self._last
            self.tried.append(seed)
            film = [np.linspace(0, 1, 27)] * 2
            return Attempt(seed, "red", "touch the red cube", seed % 2 == 0, 1.5, "", 0, latencies=[0.3], film=film)

        yield attempt


@pytest.mark.parametrize(
    ("last", "code"), [(KeyboardInterrupt(), 130), (BringUpError("gone"), 1), (BackendError("lost"), 2)]
)
def test_what_stands_is_reported_however_it_ends_and_the_same_command_goes_on(tmp_path, monkeypatch, last, code):
    command = [*COMMAND, "--scenes", "80000:80004", "--out", str(tmp_path / "out")]
    cut = Played(monkeypatch, last, after=3)
    assert main(command) == code and cut.tried == [80000, 80001, 80002]
    told = json.loads((tmp_path / "out/summary.json").read_text())
    assert told["conditions"][0]["n"] == 3 and told["attempts"].startswith("3 of 4")
    assert (tmp_path / "out/report.html").is_file()
    again = Played(monkeypatch)
    assert main(command) == 0 and again.tried == [80003]
    told = json.loads((tmp_path / "out/summary.json").read_text())
    assert (told["conditions"][0]["n"], told["conditions"][0]["successes"], told["attempts"]) == (4, 2, "4")


def test_a_second_evaluation_in_a_folder_where_one_writes_is_refused_and_touches_nothing(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with opened(out, {"scenes": "1:2"}):    # it has tried nothing yet
        there = {path.name: path.read_bytes() for path in out.iterdir()}
        second = Played(monkeypatch)
        assert main([*COMMAND, "--scenes", "80000:80002", "--out", str(out)]) == 2 and second.tried == []
        assert "another run writes to" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in out.iterdir()} == there


def test_a_contract_that_changed_is_another_evaluation(tmp_path, monkeypatch, capsys):
    system = find_resource("config/systems", "so101_sim", ".yaml")
    contract = find_resource("config/embodiments", "so101", ".yaml")
    (tmp_path / "contract.yaml").write_text(contract.read_text())
    text = system.read_text().replace("contract: so101", f"contract: {tmp_path / 'contract.yaml'}")
    (tmp_path / "mine.yaml").write_text(text)
    command = ["eval", str(tmp_path / "mine.yaml"), *COMMAND[2:], "--scenes", "80000:80001"]
    command += ["--out", str(tmp_path / "out")]
    Played(monkeypatch)
    assert main(command) == 0
    (tmp_path / "contract.yaml").write_text(contract.read_text() + "# a limit was changed\n")
    assert main(command) == 2
    assert "holds an evaluation with another contract" in capsys.readouterr().err
    asked = tmp_path / "out/asked.json"
    asked.write_text(json.dumps({k: v for k, v in json.loads(asked.read_text()).items() if k not in LATER}))
    assert main(command) == 0    # of an earlier version, which did not keep it


@pytest.mark.parametrize("end", [80001, 80002])
def test_an_attempt_that_was_cut_off_while_it_was_written_is_made_again(tmp_path, monkeypatch, end):
    command = [*COMMAND, "--scenes", f"80000:{end}", "--out", str(tmp_path / "out")]
    Played(monkeypatch)
    assert main(command) == 0
    path = tmp_path / "out" / ATTEMPTS
    path.write_bytes(path.read_bytes()[:-40])
    for tried in ([end - 1], []):
        again = Played(monkeypatch)
        assert main(command) == 0 and again.tried == tried
    assert len(path.read_text().splitlines()) == end - 80000


def test_a_folder_of_another_evaluation_is_refused_by_the_name_of_what_differs(tmp_path, monkeypatch, capsys):
    out = ["--out", str(tmp_path / "out")]
    Played(monkeypatch)
    assert main([*COMMAND, "--scenes", "80000:80001", *out]) == 0
    again = Played(monkeypatch)
    assert main([*COMMAND, "--scenes", "80000:80002", *out]) == 2 and again.tried == []
    assert "another scenes: '80000:80001', and now it is '80000:80002'" in capsys.readouterr().err


def test_what_was_asked_is_written_once_and_a_damaged_file_is_named(tmp_path):
    asked = {"scenes": "1:2"}
    folder = Folder(tmp_path / "out", asked)
    folder.add(Condition("touch"), FAST, Attempt(1, "red", "touch the red cube"))
    path, attempts = tmp_path / "out/asked.json", tmp_path / "out" / ATTEMPTS
    number, written = path.stat().st_ino, attempts.stat().st_mtime_ns
    assert set(Folder(tmp_path / "out", asked).attempts(Condition("touch"), FAST)) == {1}
    assert path.stat().st_ino == number and [one.name for one in path.parent.glob("asked*")] == ["asked.json"]
    assert attempts.stat().st_mtime_ns == written    # what stands is not written anew
    for damaged in ("", '{"scenes": "1', "7"):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="asked.json cannot be read"):
            Folder(tmp_path / "out", asked)


def test_an_interruption_before_a_conditions_first_live_attempt_leaves_the_others_reported(tmp_path, monkeypatch):
    Played(monkeypatch, Stopped(), after=1)
    command = [*COMMAND, "--mode", "both", "--scenes", "80000:80001", "--out", str(tmp_path / "out")]
    assert main(command) == 130
    told = json.loads((tmp_path / "out/summary.json").read_text())
    assert [one["mode"] for one in told["conditions"]] == ["fast"] and told["modes"] == []


def test_held_out_scenes_are_named_in_the_report_and_are_not_the_default(tmp_path, monkeypatch):
    played = Played(monkeypatch)
    assert main([*COMMAND, "--scenes", "89999:90001", "--out", str(tmp_path / "one")]) == 0
    assert "held-out scenes are among them" in (tmp_path / "one/report.html").read_text()
    assert main([*COMMAND, "--out", str(tmp_path / "two")]) == 0
    assert played.tried[2:] == list(range(80000, 80020))
    assert "held-out" not in (tmp_path / "two/report.html").read_text()


def test_the_report_says_what_of_the_judged_policy_is_not_the_nodes_default(tmp_path, monkeypatch):
    Played(monkeypatch)
    changed = ["--set", "policy.smoothing=0.25", "--set", "policy.min_period=0.0"]
    assert main([*COMMAND, *changed, "--scenes", "80000:80001", "--out", str(tmp_path / "out")]) == 0
    said = "norm_tag=so101_sim_molmoact2_tiny, noise_scale=0.4, smoothing=0.25"
    assert json.loads((tmp_path / "out/summary.json").read_text())["policy"] == said
    assert said in (tmp_path / "out/report.html").read_text()
