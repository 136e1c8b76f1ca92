# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Parity with the reference implementation: its own outputs are the oracle."""

import json

import numpy as np
import pytest
from golden_set import GOLDEN, compare

from molmoact2_model import compiled
from molmoact2_model.optimizations import Optimizations

CASES = [case["name"] for case in json.loads((GOLDEN / "cases.json").read_text())]
THINK = [name for name in CASES if name.startswith("think")]
FIRST_CALLS = ["think_1", "think_2_full"]


@pytest.fixture(scope="module")
def results(golden, policy):
    return {name: golden.run(policy, name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_the_reference_tokens_codes_and_actions(golden, results, name):
    compare(golden, name, results[name])


@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_the_same_with_every_optimisation_on_and_a_draft(golden, policy, name):
    everything = Optimizations.only(set(Optimizations.names()) - {"compiled"})    # which cannot be with graphs
    compare(golden, name, golden.run(policy, name, optimizations=everything, draft=bool(golden.cases[name]["depth"])))


def test_a_case_gives_the_same_with_the_expert_compiled(golden, policy, monkeypatch):
    """By the backend that runs what torch.compile finds in the program, since there is no time for a compiler."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    result = golden.run(policy, "flow", optimizations=Optimizations(compiled=True))
    compare(golden, "flow", result)
    assert not result.trace.warnings


def test_every_kind_of_case_was_compared(golden):
    assert len(THINK) >= 3
    assert {case["action_mode"] for case in golden.cases.values()} == {"continuous", "discrete"}
    assert golden.value("think_2", "refreshed").sum() == 19


def test_an_adaptive_pass_counts_its_steps(results):
    trace = results["think_2"].trace
    assert trace.decoder_steps == 1 + trace.refreshed.sum() + trace.reused_runs + 1
    assert results["think_2_full"].trace.decoder_steps == 102


@pytest.mark.parametrize("name", FIRST_CALLS)
def test_full_depth_equals_the_first_adaptive_call(golden, policy, results, name):
    full = golden.run(policy, name, depth="full")
    assert full.trace.depth_mode == "full"
    assert full.trace.cause == ""
    np.testing.assert_array_equal(full.actions, results[name].actions)


def test_a_think_trace_is_whole(results):
    trace = results["think_2"].trace
    assert trace.depth_mode == "adaptive"
    assert trace.cause == ""
    np.testing.assert_array_equal(trace.cell_ages, np.where(trace.refreshed, 0, 1))
    assert ((trace.code_probs > 0) & (trace.code_probs <= 1)).all()
    reused = ~trace.refreshed
    first = results["think_1"].trace
    np.testing.assert_array_equal(trace.code_probs[reused], first.code_probs[reused])
    np.testing.assert_array_equal(trace.depth_codes[reused], first.depth_codes[reused])
    assert trace.seed is None
    assert set(trace.timings) == {"preprocess", "vision", "prefill", "depth", "expert", "post", "total"}
    assert sum(value for key, value in trace.timings.items() if key != "total") == pytest.approx(
        trace.timings["total"]
    )


def test_without_depth_the_cells_of_a_trace_are_empty(results):
    trace = results["flow"].trace
    assert trace.depth_mode == "off"
    assert trace.decoder_steps == 0
    for key in ("depth_codes", "refreshed", "cell_ages", "code_probs", "generated_token_ids"):
        assert getattr(trace, key).size == 0


def test_the_prompt_reads_as_the_reference_writes_it(results):
    prompt = results["think_1"].trace.prompt
    assert prompt.startswith(
        "Image 1<|image|>Image 2<|image|><|im_start|>user\nThe task is to pick up the red cube; "
    )
    assert prompt.endswith(
        "complete the task?<|im_end|>\n<|im_start|>assistant\n<depth_output><action_output>"
    )
