# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The steps that a GPU would record for prompts and flows, run on a processor: the same numbers, whatever was read with
the same step before."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_set import textured
from made_networks import LITTLE, made

from molmoact2_model import ModelError, graphs
from molmoact2_model.fused_expert import FusedContext
from molmoact2_model.fused_language import BUCKET
from molmoact2_model.graphs import MOST_GRAPHS, FlowGraphs, PromptGraphs, bucket, recorded
from molmoact2_model.optimizations import Optimizations

GRAPHS = Optimizations(graphs=True)
STATE = np.zeros(3, np.float32)
TEXTS = ["fold", "fold the towel and put it on the pile", "go", "fold the towel and put it away, then come back"]


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    return made(tmp_path_factory.mktemp("little"), LITTLE, optimizations=Optimizations())


def ask(session, seed, text, **options):
    return session.infer([textured(seed, size=(120, 160))], STATE, text, seed=seed, **options)


def test_prompts_and_flows_of_one_step_do_not_show_in_each_other(little):
    plain, recording = (little.session(norm_tag="one", depth="full", optimizations=one) for one in (None, GRAPHS))
    lengths = set()
    for seed, text in enumerate(TEXTS):
        wanted, found = (ask(session, seed, text, num_steps=2) for session in (plain, recording))
        np.testing.assert_array_equal(wanted.trace.generated_token_ids, found.trace.generated_token_ids)
        assert np.abs(wanted.actions - found.actions).max() <= 1e-5
        lengths.add(wanted.trace.input_ids.size)
    assert len(lengths) == len(TEXTS)
    prompts, flows = recording.engine._prompts.kept.made, recording.engine._flow._graphs.kept.made
    assert 0 < len(prompts) < len(TEXTS) and 0 < len(flows) < len(TEXTS)    # several went through one step


def test_of_each_kind_of_flow_there_is_a_step_and_the_last_used_are_kept(little):
    session = little.session(norm_tag="one", optimizations=GRAPHS)
    plain = little.session(norm_tag="one")
    for steps in (1, 2, 3, 4, 1, 5):
        wanted, found = (ask(one, 0, "fold", num_steps=steps).actions for one in (plain, session))
        assert np.abs(wanted - found).max() <= 1e-5
    assert [key[2] for key in session.engine._flow._graphs.kept.made] == [3, 4, 1, 5] and MOST_GRAPHS == 4


def test_other_solvers_are_recorded_by_their_own_steps(little):
    found = {}
    for solver in ("euler", "midpoint", "heun"):
        one, other = (little.session(norm_tag="one", solver=solver, optimizations=kind) for kind in (None, GRAPHS))
        wanted, found[solver] = (ask(session, 0, "fold", num_steps=2).actions for session in (one, other))
        assert np.abs(wanted - found[solver]).max() <= 1e-5
    assert np.abs(found["euler"] - found["heun"]).max() > 1e-4


@pytest.mark.parametrize("depth", ["off", "full"])
@pytest.mark.parametrize("kind", [None, GRAPHS], ids=["default", "graphs"])
def test_a_call_whose_numbers_are_none_spoils_no_later_one(little, monkeypatch, depth, kind):
    """Neither the same frame, which would be remembered, nor a shorter prompt, behind which it would stand masked."""
    session, fresh = (little.session(norm_tag="one", depth=depth, optimizations=kind) for _ in range(2))
    look = session.engine._look
    ask(session, 0, "go", num_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(session.engine, "_look", lambda images: [one * torch.nan for one in look(images)])
        with pytest.raises(ModelError):
            ask(session, 1, TEXTS[3], num_steps=1)
    for text in (TEXTS[3], "go"):
        wanted, found = (ask(one, 1, text, num_steps=1).actions for one in (fresh, session))
        assert np.abs(wanted - found).max() <= 1e-5


def test_a_flow_does_not_multiply_what_a_longer_one_left_behind(little):
    runner = little.session(norm_tag="one", optimizations=GRAPHS).engine._flow
    config, expert = little.config, runner._expert
    shape = (config.expert.num_layers, config.expert.num_heads, BUCKET, expert._width)
    noise = torch.zeros(1, 4, config.max_action_dim)
    bad, good = torch.full(shape, torch.nan), torch.ones(shape)[:, :, :5]
    assert runner(FusedContext(bad, bad), noise, None, 1).isnan().any()
    assert runner(FusedContext(good, good), noise, None, 1).isfinite().all()


def test_a_chunk_that_continues_the_running_one_is_not_recorded(little, monkeypatch):
    session, plain = (little.session(norm_tag="one", optimizations=kind) for kind in (GRAPHS, None))
    first = ask(plain, 0, "fold").actions
    monkeypatch.setattr(FlowGraphs, "run", lambda *_: pytest.fail("recorded"))
    wanted, found = (ask(one, 0, "fold", prefix=first, frozen=1).actions for one in (plain, session))
    assert np.abs(wanted - found).max() <= 1e-5


def test_a_part_of_a_prompt_that_is_known_already_is_not_read_by_the_step_of_whole_prompts(little, monkeypatch):
    session, run, read = little.session(norm_tag="one", optimizations=GRAPHS), PromptGraphs.run, []
    monkeypatch.setattr(PromptGraphs, "run", lambda self, *given: read.append(len(given[0])) or run(self, *given))
    ask(session, 0, "fold the towel", num_steps=1)
    ask(session, 0, "fold it", num_steps=1)
    assert len(read) == 1


def test_steps_of_prompts_are_made_anew_when_the_cache_moves(little):
    engine = little.session(norm_tag="one", optimizations=GRAPHS).engine
    hidden = engine.network.config.text.hidden_size

    def read(count, room):
        engine._reserve(room)
        engine._prompts.run(torch.randn(count, hidden), torch.ones(count, count, dtype=torch.bool).tril())
        assert engine._cache.length == count
        return list(engine._prompts.kept.made.values())

    (first,) = read(3, BUCKET)
    assert read(5, BUCKET) == [first]
    (other,) = read(5, BUCKET + 1)
    assert other is not first
    assert list(engine._prompts.kept.made) == [bucket(5)] == [BUCKET]


class Cuda:
    """Stands for torch.cuda, with two devices. What is done on a device while a graph listens on a stream of it is
    recorded; on another it is simply done."""

    def __init__(self):
        self.current, self.done, self._heard = 0, [], None
        self.default = self.Stream()    # graph's own, for want of another

    def work(self, what, index):
        if self._heard is not None and self._heard[0] == index:
            self._heard[1].append(what)
        else:
            self.done.append(what)

    def Stream(self):    # noqa: N802
        return SimpleNamespace(index=self.current, wait_stream=lambda other: self._same(other))

    def _same(self, stream):
        assert stream.index == self.current, "a stream waits for one of another device"

    current_stream = Stream

    def CUDAGraph(self):    # noqa: N802
        steps = []
        return SimpleNamespace(steps=steps, replay=lambda: self.done.extend(steps))

    @contextmanager
    def device(self, device):
        before, self.current = self.current, self.current if device.index is None else device.index
        yield
        self.current = before

    @contextmanager
    def stream(self, stream):
        with self.device(torch.device("cuda", stream.index)):
            yield

    @contextmanager
    def graph(self, graph, stream=None):
        self._heard = ((stream or self.default).index, graph.steps)
        yield
        self._heard = None


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_what_a_gpu_would_record_is_put_back_before_each_step_and_before_it_is_played(monkeypatch, name, index):
    """Also on a GPU that is not the current one, and after another has recorded."""
    cuda = Cuda()
    for part in ("Stream", "current_stream", "stream", "device", "graph", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, part, getattr(cuda, part))
    play = recorded(lambda: cuda.work("step", index), torch.device(name), lambda: cuda.work("begin", index))
    assert cuda.done == ["begin", "step"] * graphs.WARM_UPS + ["begin"] and cuda.current == 0
    cuda.done.clear()
    play()
    play()
    assert cuda.done == ["step", "step"]
