# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Solvers of the flow: order, guidance, and the released one as the default."""

import numpy as np
import pytest
import torch
from golden_set import textured

from molmoact2_model import InputError
from molmoact2_model.flow import SOLVERS, flow_times, sample_flow

STATE = np.array([0.1, -0.2, 0.3, 0.0, -0.5, 1.0, 0.4], np.float32)


class Field:
    """A velocity that is known: v = (1 + t) x, so that x(1) = exp(1.5) x(0)."""

    dtype = torch.float32
    asked = 0

    def rope(self, length):
        return None

    def __call__(self, actions, context, time, rope):
        self.asked += 1
        return actions * (1 + time)


def error(solver, steps):
    start = torch.ones(1, 2, 3)
    found = sample_flow(Field(), None, start, flow_times(steps, solver), None, solver=solver)
    return abs(float(found[0, 0, 0]) - np.exp(1.5))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(solver, order):
    ratio = error(solver, 20) / error(solver, 40)
    assert 2**order * 0.75 < ratio < 2**order * 1.35


def test_a_second_order_solver_with_half_the_steps_asks_as_often():
    asked = {}
    for solver in SOLVERS:
        field = Field()
        steps = 10 // len(SOLVERS[solver])
        sample_flow(field, None, torch.ones(1, 2, 3), flow_times(steps, solver), None, solver=solver)
        asked[solver] = field.asked
    assert set(asked.values()) == {10}


def ask(policy, **options):
    chunk = {key: options.pop(key) for key in ("prefix", "frozen", "num_steps") if key in options}
    session = policy.session(norm_tag="tiny_arm", **options)
    return session.infer([textured(), textured(7)], STATE, "pick up the cube", seed=1, **chunk).actions


def test_the_released_solver_is_the_default(policy):
    np.testing.assert_array_equal(ask(policy), ask(policy, solver="euler"))
    assert np.abs(ask(policy) - ask(policy, solver="heun")).max() > 1e-4


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
def test_solvers_come_to_the_same_actions_when_steps_are_small(policy, solver):
    fine = ask(policy, num_steps=60)
    assert np.abs(ask(policy, solver=solver, num_steps=20) - fine).max() < np.abs(ask(policy, num_steps=6) - fine).max()


@pytest.mark.parametrize("rtc", ["gradient", "replace"])
@pytest.mark.parametrize("solver", ["midpoint", "heun"])
def test_a_running_chunk_is_continued_by_every_solver(policy, solver, rtc):
    running = ask(policy)[4:] * 0.5
    free = ask(policy, solver=solver)
    held = ask(policy, solver=solver, rtc=rtc, prefix=running, frozen=4)
    assert np.isfinite(held).all()
    assert np.abs(held[:4] - running[:4]).mean() < 0.5 * np.abs(free[:4] - running[:4]).mean()


def test_a_solver_that_does_not_exist_is_refused(policy):
    with pytest.raises(InputError, match="solver is 'magic'"):
        policy.session(norm_tag="tiny_arm", solver="magic")
