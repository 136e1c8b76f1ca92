# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 bench-model`: what it shows the engine, what it writes, what it counts."""

import argparse
import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from molmoact2_model import InputError, MolmoAct2Policy
from molmoact2_model.bench import command, report
from molmoact2_model.bench.heights import GpuMemory
from molmoact2_model.bench.measure import Answer, EngineRunner, GivenRunner, Measured, compare, measured
from molmoact2_model.bench.networks import RELEASED, SIZES, SMALL, released_config, write_random
from molmoact2_model.bench.roofline import Rates, Shape, Work, measure_rates, work
from molmoact2_model.bench.rows import Each, Kind
from molmoact2_model.bench.scenes import Load, chosen, views, wrong_draft
from molmoact2_model.blueprint import make_config, make_tokenizer
from molmoact2_model.checkpoint import build_network
from molmoact2_model.config import ModelConfig
from molmoact2_model.engine_options import EngineOptions
from molmoact2_model.footprint import block_weights
from molmoact2_model.optimizations import PLAIN, Optimizations
from molmoact2_model.processing import check_vocabulary
from molmoact2_model.think import ReferencePolicy, Request


def bench(*line):
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["bench-model", *map(str, line)])
    return args.func(args)


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine the threads of a small product wait for each other longer than it takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("changed", [0, 5, 65])
def test_as_many_cells_change_as_was_said_and_no_frame_is_shown_twice(changed):
    rule = ReferencePolicy(10)
    first, second = views(3, 6, (10, 10), changed, seed=1)
    assert not any(np.array_equal(one, other) for one, other in zip(first.images, second.images, strict=True))
    assert not np.array_equal(first.state, second.state)
    for view in (first, second, first):
        request = Request(view.images[0], (), "", "", 0.0)
        decision = rule.decide(request)
        rule.commit(request, decision, None, 0.0)
        rule.codes = decision
    assert decision.refreshed.sum() == changed
    assert set(np.flatnonzero(decision.refreshed)) == set(chosen(changed, (10, 10), 1))


def test_a_wrong_draft_is_wrong_where_it_was_said():
    codes = np.arange(100) % 16
    cells = chosen(25, (10, 10), 3)
    draft = wrong_draft(codes, cells, 16, 3)
    assert set(np.flatnonzero(draft != codes)) == set(cells)
    assert draft.min() >= 0 and draft.max() < 16


def test_rows_are_measured_over_the_same_calls_and_compared_with_the_first(policy):
    kinds = {"plain": PLAIN, "optimised": Optimizations()}
    runners = [EngineRunner(name, policy, "tiny_arm", kind, 1) for name, kind in kinds.items()]
    for load in (Load("adaptive", 5), Load("verified", 3)):
        plain, ours = compare(runners, load, measured(policy, "tiny_arm", 1), 2)
        assert ours.codes_differ == 0.0 and 0.0 < ours.error < 1e-5
        assert plain.really_changed == ours.really_changed == [load.changed] * 2
        assert ours.mean("passes") < plain.mean("passes")
        assert set(ours.answers[0].seconds) == {"preprocess", "vision", "prefill", "depth", "expert", "post", "total"}


class Stub:
    """A runner that answers at once."""

    network, weights = None, 0.0

    def __init__(self, name):
        self.name = name

    def open(self, load):
        self.load = load

    def close(self):
        pass

    def __call__(self, view, noise, draft):
        return Answer(np.zeros((30, 7)), np.arange(4), {"total": 1.0})


def test_another_row_begins_each_turn_and_each_answer_is_its_own_rows(monkeypatch):
    monkeypatch.setattr("molmoact2_model.bench.scenes.SIZE", (64, 64))
    asked = []

    class Told(Stub):
        def __call__(self, *given):
            asked.append(self.name)
            return Answer(np.zeros((30, 7)), np.arange(4), {"total": float(self.name)})

    rows = compare([Told(name) for name in "012"], Load("off"), Measured(1, 7, (2, 2), 16, 30, 8), 3)
    assert [row.seconds("total") for row in rows] == [0.0, 1.0, 2.0]
    assert "".join(asked) == "201" + "012" + "120" + "201"    # the first is not counted


def test_another_implementation_is_measured_in_the_modes_it_has_and_left_out_of_others_in_words(policy, monkeypatch):
    monkeypatch.setattr("molmoact2_model.bench.scenes.SIZE", (64, 64))
    asked, told, shape = [], [], Measured(1, 7, (2, 2), 16, 30, 8)

    def theirs(images, state, instruction, noise, depth):
        asked.append(depth)
        return np.zeros((30, 7)), np.arange(4)

    runners = [Stub("plain"), GivenRunner("their:own", theirs, policy.stats.tag("tiny_arm"), lambda: 0.0)]
    names = [compare(runners, Load(mode), shape, 1, told.append)[1].name for mode in ("off", "full", "adaptive")]
    assert names == ["their:own"] * 3 and asked == ["off", "off", "full", "full", "adaptive", "adaptive"]
    beside = compare(runners, Load("verified", 1), shape, 1, told.append)[1]
    assert beside.name == "their:own, adaptive" and set(asked[6:]) == {"adaptive"}
    assert beside.really_changed == [] and not told
    theirs.depths = ("off", "full")
    runners[1] = GivenRunner("their:own", theirs, policy.stats.tag("tiny_arm"), lambda: 0.0)
    assert [row.name for row in compare(runners, Load("verified", 1), shape, 1, told.append)] == ["plain"]
    assert told == ["depth verified, 1 changed: their:own is left out: it has depth off, full, not adaptive"]
    with pytest.raises(InputError, match="not adaptive"):    # with nothing to compare it with there is no row at all
        compare(runners[1:], Load("adaptive"), shape, 1)


def test_what_another_implementation_remembers_is_of_one_load(policy, monkeypatch):
    monkeypatch.setattr("molmoact2_model.bench.scenes.SIZE", (64, 64))
    told, shape = [], Measured(1, 7, (2, 2), 16, 30, 8)

    def theirs(images, state, instruction, noise, depth):
        told.append(depth)
        return np.zeros((30, 7)), np.arange(4)

    theirs.reset = lambda: told.append("reset")
    runners = [Stub("plain"), GivenRunner("their:own", theirs, policy.stats.tag("tiny_arm"), lambda: 0.0)]
    for load in (Load("adaptive", 0), Load("adaptive", 1)):
        compare(runners, load, shape, 1)
    assert told == ["reset", "adaptive", "adaptive"] * 2


class Allocator:
    """Stands for what torch allocates on a GPU."""

    def __init__(self, monkeypatch):
        self.now = self.most = 0
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: self.now)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.most)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: setattr(self, "most", self.now))

    def take(self, size):
        self.now += size
        self.most = max(self.most, self.now)


class Hungry(Stub):
    """Joins its network's weights when that is first opened, keeps something in its first call of a load, and needs
    more while it is called."""

    def __init__(self, name, gpu, network, kept, needed, weights=1000):
        super().__init__(name)
        self.network, self.weights, self._gpu = network, weights, gpu
        self._kept, self._needed, self._has = kept, needed, 0

    def open(self, load):
        assert not self._has
        self._gpu.take(10 - self.network.get("joined", 0))
        self.network["joined"] = 10

    def __call__(self, *given):
        self._gpu.take(self._kept - self._has)
        self._has = self._kept
        self._gpu.take(self._needed)
        self._gpu.take(-self._needed)
        return super().__call__(*given)

    def close(self):
        self._gpu.take(-self._has)
        self._has = 0


def test_what_a_row_takes_of_a_gpu_is_its_own_whatever_else_lies_there(monkeypatch):
    monkeypatch.setattr("molmoact2_model.bench.scenes.SIZE", (64, 64))
    monkeypatch.setattr("molmoact2_model.bench.measure.gc.collect", lambda: None)    # of all that pytest holds
    gpu, one, other, shape = Allocator(monkeypatch), {}, {}, Measured(1, 7, (2, 2), 16, 30, 8)
    gpu.take(1000 + 500)    # both networks
    gpu.take(2000)    # the copy by which rates are measured
    gpu.take(-2000)
    rows = [("plain", one, 5, 300), ("optimised", one, 7, 100), ("small", other, 3, 50, 500)]
    runners, watch = [Hungry(row[0], gpu, *row[1:]) for row in rows], GpuMemory(torch.device("cuda"))
    for load in (Load("off"), Load("full")):    # the second as the first: nothing is left of it
        found = compare(runners, load, shape, 2, gpu=watch)
        assert [max(row.heights) for row in found] == [1000 + 10 + 5 + 300, 1000 + 10 + 7 + 100, 500 + 10 + 3 + 50]
    told = [report.figures(row, found[0], None, Rates(1.0, 1.0, "given"), False) for row in found]
    assert "GPU MiB" in report.table(told) and told[0]["gpu_MiB"] == 1315 / 2**20
    quiet = compare([Stub("plain")], Load("off"), shape, 1)
    told = [report.figures(quiet[0], quiet[0], None, Rates(1.0, 1.0, "given"), False)]
    assert told[0]["gpu_MiB"] is None and "GPU" not in report.table(told)


def test_a_run_writes_table_figures_and_plot(golden, tmp_path, capsys, monkeypatch):
    def make(checkpoint, device, dtype, norm_tag, num_steps):
        assert (checkpoint, device, dtype) == (str(golden.checkpoint), "cpu", "float32")
        assert (norm_tag, num_steps) == ("tiny_arm", 2)
        return lambda images, state, instruction, noise, depth: (np.zeros((30, 7)), None)

    module = types.ModuleType("their_own")
    module.make = make
    monkeypatch.setitem(sys.modules, "their_own", module)
    threads = torch.get_num_threads()
    line = ["--checkpoint", golden.checkpoint, "--tag", "tiny_arm", "--out", tmp_path, "--calls", 1, "--num-steps", 2]
    line += ["--rates", "10,0.1", "--depth", "off", "--depth", "verified", "--changed", "4", "--cameras", 1]
    line += ["--dtype", "float32", "--dtype", "bfloat16"]
    assert bench(*line, "--solvers", "heun:2", "--agreement", "--against", "their_own:make") == 0
    assert torch.get_num_threads() == threads
    found = json.loads((tmp_path / "bench_model.json").read_text())
    names = ["plain", "optimised", "optimised, bfloat16"]
    assert [row["name"] for row in found["rows"]] == [*names, "their_own:make", *names, "their_own:make, adaptive"]
    assert found["rows"][7]["changed_codes"] is None and found["left_out"] == []
    assert [row["changed_codes"] for row in found["rows"][4:6]] == [4, 4]
    assert found["rows"][3]["action_error_max"] > 0.1 and found["rows"][1]["action_error_max"] < 1e-5
    assert set(found["rows"][5]["roofline"]) == {"vision", "prefill", "depth", "expert"}
    assert [row["solver"] for row in found["solvers"]] == ["euler x 2", "heun x 2"]
    assert found["solvers"][0]["released_max"] == 0.0 < found["solvers"][1]["released_max"]
    assert [(row["name"], row["draft_wrong"]) for row in found["agreement"]] == [("float32", 4), ("bfloat16", 4)]
    assert found["agreement"][0]["agree"] == found["agreement"][0]["codes"] == 100
    table = (tmp_path / "bench_model.txt").read_text()
    assert table in capsys.readouterr().out and "depth verified, 4 changed" in table
    assert "codes of verified depth beside those of full decoding" in table
    with Image.open(tmp_path / "bench_model.png") as picture:
        assert picture.width > 500


def test_random_weights_need_no_checkpoint(capsys, monkeypatch, tmp_path):
    size = replace(SMALL, num_depth_codes=16)
    monkeypatch.setitem(SIZES, "small", size)
    line = ["--random", "small", "--calls", 1, "--num-steps", 1, "--depth", "full", "--rates", "10,0.1"]
    line += ["--cameras", 1, "--solver", "heun", "--out", tmp_path]
    assert bench(*line, "--each") == 0
    said = capsys.readouterr().out
    assert "without joined_passes" in said and "depth full" in said and "random weights, small size" in said
    assert "--each: no row without reuse: no frame" in said
    row = json.loads((tmp_path / "bench_model.json").read_text())["rows"][1]
    needed = Shape(1, round(row["prompt_tokens"]), 30, 2, row["passes"], row["tokens_read"], 18)    # heun asks twice
    assert row["roofline"]["expert"]["flop"] == pytest.approx(work(released_config(size), needed, 4)["expert"].flop)


def test_another_implementation_is_given_the_very_same_random_weights(monkeypatch, tmp_path, capsys):
    """The other one is ours: it loads what it is given, and its actions are the same."""
    given = []

    def make(checkpoint, device, dtype, norm_tag, num_steps):
        given.append(checkpoint)
        session = MolmoAct2Policy.from_pretrained(checkpoint, device=device, dtype=dtype).session(norm_tag=norm_tag)

        def predict(images, state, instruction, noise, depth):
            return session.infer(images, state, instruction, noise=noise, num_steps=num_steps).actions, None

        return predict

    module = types.ModuleType("another_of_ours")
    module.make = make
    monkeypatch.setitem(sys.modules, "another_of_ours", module)
    line = ["--random", "small", "--dtype", "bfloat16", "--calls", 1, "--num-steps", 1, "--depth", "off"]
    line += ["--cameras", 1, "--rates", "10,0.1", "--out", tmp_path]
    assert bench(*line, "--against", "another_of_ours:make") == 0
    found = json.loads((tmp_path / "bench_model.json").read_text())
    _, ours, theirs = found["rows"]
    assert theirs["name"] == "another_of_ours:make" and theirs["action_error_max"] == ours["action_error_max"]
    assert theirs["action_error_max"] < 0.1
    assert found["what"] == "random weights, small size" and not Path(given[0]).exists()


def test_random_weights_that_find_no_room_are_refused_in_words(monkeypatch, tmp_path):
    def full(network, folder):
        raise OSError("No space left on device")

    monkeypatch.setattr("molmoact2_model.bench.networks.save_weights", full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left.*TMPDIR.*smaller --random"):
        write_random(tmp_path, "small", torch.float32)


def test_the_released_size_is_the_released_number_of_parameters():
    tokenizer, vocabulary = make_tokenizer(RELEASED)
    config = ModelConfig.from_dict(make_config(RELEASED, tokenizer, vocabulary))
    check_vocabulary(config, tokenizer)    # or it could not be written and read
    network = build_network(config, torch.device("cpu"), torch.bfloat16)
    counted = sum(p.numel() for root in (network.vlm, network.expert) for p in root.parameters())
    # Of the released checkpoint, less the buffer of 64 frequencies that it stores beside its weights.
    assert counted == 5_357_187_888 - 64
    blocks = sum(p.numel() for p in network.vlm.model.language_model.layers.parameters())
    assert block_weights(config.text) == pytest.approx(blocks, rel=1e-4)


def test_the_roofline_of_a_pass_is_its_weights_or_its_products():
    config = released_config(SMALL)
    rates = Rates(1e9, 1e12, "as given")
    one, many = (work(config, Shape(2, 500, 30, 10, passes, 102, 102), 4)["depth"] for passes in (1, 101))
    assert many.bytes > 50 * one.bytes and many.flop == pytest.approx(one.flop, rel=0.2)
    assert Work(2e9, 1e11).least(rates) == 2.0 and Work(1e8, 5e12).least(rates) == 5.0
    assert "depth" not in work(config, Shape(2, 500, 30, 10), 4)


def test_the_least_time_of_another_device_is_told_without_weights(capsys):
    assert bench("--random", "released", "--only-roofline", "--rates", "1000,100", "--dtype", "bfloat16") == 0
    said = capsys.readouterr().out
    assert "1000.0 GB/s, 100.00 TFLOP/s (as given)" in said and "depth full, 2 cameras" in said


def test_the_least_time_of_the_flow_is_that_of_what_its_solver_asks(capsys):
    line = ["--random", "small", "--only-roofline", "--rates", "0.01,100", "--depth", "off"]
    said = []
    for solver, steps in (("euler", 10), ("heun", 5), ("heun", 10)):
        assert bench(*line, "--solver", solver, "--num-steps", steps) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_a_devices_rates_are_measured(monkeypatch):
    monkeypatch.setattr("molmoact2_model.bench.roofline.COPIED", 2**20)
    monkeypatch.setattr("molmoact2_model.bench.roofline.SIDE", 64)
    rates = measure_rates(torch.device("cpu"), torch.float32)
    assert rates.bandwidth > 0 and rates.products > 0 and rates.source == "measured in this run"


def test_a_row_is_named_for_all_that_it_is_without_and_is_left_out_where_that_does_nothing():
    def named(text, load="full", draft=False, **given):
        each = Each(Kind(Optimizations.read(text), draft), **{"fused": True, **given})
        return [name for name, _ in each.rows(Load(load))]

    usual = [f"without {name}" for name in ("keep_modulations", "fused_language", "fused_expert", "joined_passes")]
    assert named("") == usual and named("", "off") == usual[:3]
    assert named("", "adaptive", draft=True) == [*usual, "without draft"] and named("", draft=True) == usual
    assert named("compiled")[2:] == ["without fused_expert, compiled", usual[3], "without compiled"]
    assert named("graphs") == [
        usual[0], "without fused_language, graphs", "without fused_expert, graphs of flows",
        "without joined_passes, graphs", "without graphs",
    ]    # fmt: skip
    assert named("no_fused_language")[0] == named("", fused=False)[0] == "without fixed_cache"
    assert named("", needed=("fused_language",)) == [usual[0], *usual[2:]]
    each = Each(Kind(Optimizations.read("compiled,reuse_cameras"), draft=True), fused=True)
    for name, kind in each.rows(Load("adaptive")):
        gone = set(Optimizations.read("compiled,reuse_cameras").on()) - set(kind.optimizations.on())
        assert set(name.removeprefix("without ").split(", ")) == gone or (name, gone) == ("without draft", set())
        EngineOptions(optimizations=kind.optimizations.text()).check_device("cuda")    # nothing but what is allowed
    assert [line.split(":")[1] for line in each.idle] == [" no row without reuse", " no row without fixed_cache"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--calls", "0"], "--calls is 0"),
        (["--changed", "few"], "--changed is 'few'"),
        (["--optimizations", "magic"], "'magic' is no optimisation"),
        (["--optimizations", "graphs"], "graphs is for a GPU, and the device is 'cpu'"),
        (["--draft", "--depth", "full"], "--draft is of adaptive depth"),
        (["--solvers", "heun"], "--solvers has 'heun'"),
        (["--rates", "3"], "--rates is '3'"),
        (["--against", "nowhere:make", "--calls", "1"], "--against nowhere:make"),
        (["--cpu-time", "--device", "cuda"], "--cpu-time with --device cuda"),
        (["--only-roofline", "--depth", "adaptive"], "--only-roofline knows"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(line, said):
    with pytest.raises(InputError, match=said):
        bench("--random", "small", "--rates", "10,0.1", *line)
