# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The expert by torch.compile: the same function, and the plain one wherever it is not or cannot be. There is no time
for a compiler here: what torch.compile finds in the program is run as it was found (its backend "eager")."""

import logging
import re

import numpy as np
import pytest
import torch
from golden_set import textured
from made_networks import LITTLE, made

from molmoact2_model import EngineOptions, InputError, compiled
from molmoact2_model.compiled import CompiledExpert
from molmoact2_model.fused_expert import FusedContext
from molmoact2_model.optimizations import Optimizations

COMPILED = Optimizations(compiled=True)


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    return made(tmp_path_factory.mktemp("little"), LITTLE, optimizations=Optimizations())


def infer(session, seed=0, **options):
    return session.infer([textured(seed, size=(120, 160))], np.zeros(3, np.float32), "fold", seed=1, **options)


def compiling(monkeypatch, made_of):
    """Puts a compiler in place of torch's; returns what it was given."""
    given = []

    def compiler(step, backend):
        given.append(backend)
        return made_of(step)

    monkeypatch.setattr(torch, "compile", compiler)
    return given


def fresh(little):
    """A session whose expert was not compiled yet."""
    little._fused = type(little._fused)(little._fused.language, little._fused.expert)
    return little.session(norm_tag="one", optimizations=COMPILED)


def test_what_torch_compile_finds_in_the_expert_is_its_function_whatever_the_length_of_the_prompt(little, monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    torch._dynamo.reset()    # what other tests compiled is no reason to compile anew
    session = fresh(little)
    for seed, text in enumerate(("fold", "fold the towel", "put it all away")):
        image, state = textured(seed, size=(120, 160)), np.zeros(3, np.float32)
        asked = {"images": [image], "state": state, "instruction": text, "seed": 1, "num_steps": 2}
        wanted = little.session(norm_tag="one").infer(**asked)
        with torch._dynamo.config.patch(error_on_recompile=True):    # monkeypatch would leave it hidden
            found = session.infer(**asked)
        assert np.abs(found.actions - wanted.actions).max() <= 1e-5 and not found.trace.warnings
    assert session.engine.expert._step is not None


def test_it_is_compiled_once_for_all_sessions_and_then_answers_from_that(little, monkeypatch):
    calls = []
    given = compiling(monkeypatch, lambda step: lambda *asked: calls.append(1) or step(*asked))
    session = fresh(little)
    infer(session, num_steps=3)
    infer(little.session(norm_tag="one", optimizations=COMPILED), num_steps=2)
    assert given == ["inductor"] and len(calls) == 3 + 2


def raising(error):
    def step(*_):
        raise error

    return lambda _: step


WRONG = {
    "no compiler": (raising(RuntimeError("no C++ compiler\nand more")), "torch.compile failed: no C\\+\\+ compiler$"),
    "not supported": (raising(torch._dynamo.exc.Unsupported("cannot")), "torch.compile failed: "),
    "other numbers": (lambda step: lambda *asked: step(*asked) * 1.01, "its result is 0.0.* from the plain one, more"),
    "no numbers": (lambda step: lambda *asked: step(*asked) * torch.nan, "its result is nan from the plain one"),
}


@pytest.mark.parametrize("name", WRONG)
def test_where_it_cannot_be_the_plain_expert_runs_and_the_trace_and_the_log_say_so(little, monkeypatch, caplog, name):
    made_of, said = WRONG[name]
    given = compiling(monkeypatch, made_of)
    with caplog.at_level(logging.WARNING):
        session = fresh(little)
        found = [infer(session, seed) for seed in range(2)]
    for seed, result in enumerate(found):
        np.testing.assert_array_equal(result.actions, infer(little.session(norm_tag="one"), seed).actions)
        (warning,) = result.trace.warnings
        assert re.search(f"optimisation compiled: the plain expert runs, because {said}", warning)
    assert len(given) == len(caplog.records) == 1    # tried once, said once


def test_another_number_of_waypoints_is_compared_with_the_plain_result_anew(monkeypatch):
    """With a stand-in for the expert."""
    compiling(monkeypatch, lambda step: lambda actions, *others: step(actions, *others) * (1 + (actions.shape[1] == 6)))
    one, states = CompiledExpert(lambda actions, *_: actions + 1), torch.ones(1, 1, 2, 2)
    for length, remark in ((4, ""), (4, ""), (6, "its result is"), (4, "its result is")):
        actions = torch.ones(1, length, 3)
        assert torch.equal(one(actions, FusedContext(states, states), None, None), actions + 1)
        assert remark in one.remark and bool(remark) == bool(one.remark)


@pytest.mark.parametrize(("off", "answers"), [(3, True), (6, False)])
def test_in_a_coarser_type_it_may_be_off_by_a_few_roundings_of_the_largest_velocity(monkeypatch, off, answers):
    wanted = torch.ones(1, 2, 3, dtype=torch.bfloat16) * 2
    step = torch.finfo(torch.bfloat16).eps * 2    # of what lies from 2 to 4
    compiling(monkeypatch, lambda _: lambda *asked: wanted + off * step)
    states = torch.ones(1, 1, 2, 2)
    one = CompiledExpert(lambda *_: wanted)
    assert torch.equal(one(wanted, FusedContext(states, states), None, None), wanted)
    assert (one.remark == "") == answers


def test_what_cannot_be_compiled_anew_for_other_sizes_is_computed_plainly(little, monkeypatch):
    later = []

    def made_of(step):
        def called(*asked):
            if later:
                raise torch._dynamo.exc.RecompileError("another size")
            return step(*asked)

        return called

    compiling(monkeypatch, made_of)
    session = fresh(little)
    assert not infer(session).trace.warnings
    later.append(True)
    found = infer(session, 1)
    assert "another size" in found.trace.warnings[0]
    np.testing.assert_array_equal(found.actions, infer(little.session(norm_tag="one"), 1).actions)


def test_derivatives_are_computed_plainly(little, monkeypatch):
    asked_for = []
    compiling(monkeypatch, lambda step: lambda *asked: asked_for.append(asked[0].requires_grad) or step(*asked))
    session = fresh(little)
    first = infer(session).actions
    asked_for.clear()
    plain = little.session(norm_tag="one")
    wanted, found = (infer(one, prefix=first, frozen=1).actions for one in (plain, session))
    np.testing.assert_array_equal(wanted, found)
    assert True not in asked_for


def test_it_is_off_by_default_and_refused_with_what_it_cannot_be_with(little):
    assert not isinstance(little.session(norm_tag="one").engine.expert, CompiledExpert)
    with pytest.raises(InputError, match="optimisation compiled needs fused_expert; leave it on"):
        EngineOptions(optimizations="compiled,no_fused_expert").check_device("cpu")
    with pytest.raises(InputError, match="compiled with graphs, which records the flow without it; leave one out"):
        EngineOptions(optimizations="compiled,graphs").check_device("cuda")
    EngineOptions(optimizations="compiled").check_device("cpu")
