# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The engine's options: one object, the same refusals wherever it is used, by default nothing but what is released."""

import json
import subprocess
import sys

import numpy as np
import pytest
from golden_set import GOLDEN, textured
from made_networks import LITTLE, made
from PIL import Image

from molmoact2_contract import cli
from molmoact2_model import EngineOptions, InputError
from molmoact2_model.engine_options import EULER
from molmoact2_model.optimizations import Optimizations
from molmoact2_model.serving.extension import Extra, SessionSettings, read_extra, write_extra
from molmoact2_model.serving.sessions import Sessions
from molmoact2_model.serving.traces import read_trace, write_trace
from molmoact2_model.serving.wire import WireError

CHECKPOINT = GOLDEN / "checkpoint"
STATE = np.zeros(3, np.float32)


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    return made(tmp_path_factory.mktemp("little"), LITTLE, optimizations=Optimizations())


def image(seed=0):
    return textured(seed, size=(120, 160))


def test_by_default_the_engine_computes_as_released_with_its_usual_optimisations():
    options = EngineOptions()
    assert (options.draft, options.solver, options.switches()) == (False, EULER, Optimizations())
    options.check("off", "continuous", "cpu")
    options.check("full", "discrete", "cuda:1")


@pytest.mark.parametrize("text", ["", "reuse_cameras", "no_joined_passes,graphs", "reuse_cameras,unwatched,no_reuse"])
def test_switches_are_read_as_they_are_written_in_whatever_order(text):
    backwards = Optimizations.read(" , ".join(reversed(text.split(","))))
    assert Optimizations.read(text) == backwards == Optimizations.read(backwards.text())
    for part in filter(None, text.split(",")):
        assert getattr(backwards, part.removeprefix("no_")) == (not part.startswith("no_"))


REFUSED = {
    "none": (EngineOptions(optimizations="magic"), {}, "'magic' is no optimisation, expected some of reuse"),
    "off of none": (EngineOptions(optimizations="no_magic"), {}, "'magic' is no optimisation"),
    "on and off": (EngineOptions(optimizations="reuse,no_reuse"), {}, "switch reuse both on and off"),
    "no solver": (EngineOptions(solver="rk4"), {}, r"solver is 'rk4', expected one of \['euler', 'midpoint', 'heun'\]"),
    "no flow": (EngineOptions(solver="heun"), {"action_mode": "discrete"}, "discrete actions have no flow"),
    "no depth to draft": (EngineOptions(draft=True), {}, "draft is for depth='adaptive', and depth is 'off'"),
    "full depth": (EngineOptions(draft=True), {"depth": "full"}, "there is nothing to draft with"),
    "drafts anyway": (EngineOptions(draft=True), {"depth": "verified"}, "'verified' drafts by itself: leave draft out"),
    "graphs, no GPU": (EngineOptions(optimizations="graphs"), {}, "graphs is for a GPU, and the device is 'cpu'"),
    "unwatched there": (EngineOptions(optimizations="unwatched"), {}, "unwatched is for a GPU"),
    "graphs alone": (
        EngineOptions(optimizations="graphs,no_fused_language"), {"device": "cuda"}, "needs fused_language and joined"
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_unknown_or_would_do_nothing_is_refused_by_its_name(name):
    options, changed, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        options.check(**{"depth": "off", "action_mode": "continuous", "device": "cpu", **changed})


@pytest.mark.parametrize("command", ["infer", "serve", "bench-model"])
def test_every_command_refuses_by_the_same_words_before_it_loads_anything(command, capsys):
    line = [command, "--checkpoint", "/nowhere"]
    if command == "infer":
        line += ["--image", "/nowhere", "--state", "0", "--instruction", "go", "--tag", "one", "--out", "/nowhere"]
    assert cli.main([*line, "--optimizations", "unwatched"]) == 2
    assert "optimisation unwatched is for a GPU, and the device is 'cpu'" in capsys.readouterr().err
    assert cli.main([*line, "--optimizations", "magic"]) == 2
    assert "'magic' is no optimisation" in capsys.readouterr().err


def test_a_session_refuses_a_draft_where_there_is_nothing_to_draft_with(little):
    for depth in ("off", "full"):
        with pytest.raises(InputError, match="draft is for depth='adaptive'"):
            little.session(norm_tag="one", depth=depth, draft=True)


def test_a_trace_tells_adaptive_with_a_draft_from_adaptive(little):
    modes = {}
    for draft in (False, True):
        session = little.session(norm_tag="one", depth="adaptive", cache_policy="reference", draft=draft)
        found = []
        for picture in (image(), image()):
            trace = session.infer([picture], STATE, "fold", seed=1, num_steps=1).trace
            assert read_trace(write_trace(trace)).depth_mode == trace.depth_mode
            found.append((trace.depth_mode, trace.cause))
        modes[draft] = found
    assert modes == {
        False: [("forced", "first_call"), ("adaptive", "")],
        True: [("forced", "first_call"), ("adaptive_verified", "")],
    }


def test_infer_draws_its_actions_with_the_solver_that_is_asked_for(tmp_path, policy):
    pictures = [textured(), textured(7)]
    files = [tmp_path / f"{place}.png" for place in range(2)]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file)
    state = np.zeros(7, np.float32)
    line = ["infer", "--checkpoint", CHECKPOINT, "--tag", "tiny_arm", "--instruction", "go", "--seed", 3]
    line += ["--state", ",".join(map(str, state)), "--num-steps", 2, "--out", tmp_path / "out"]
    line += [part for file in files for part in ("--image", file)]
    assert cli.main([str(part) for part in [*line, "--solver", "midpoint", "--optimizations", "no_reuse"]]) == 0
    wanted = policy.session(norm_tag="tiny_arm", solver="midpoint").infer(pictures, state, "go", seed=3, num_steps=2)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "actions.npy"), wanted.actions, atol=1e-5)
    assert json.loads((tmp_path / "out" / "trace.json").read_text())["depth_mode"] == "off"


def test_a_client_chooses_draft_and_solver_of_its_session_by_the_extension(little):
    settings = SessionSettings(depth="adaptive", cache_policy="reference", draft=True, solver="midpoint")
    sent = write_extra(Extra("1", "robot", settings))
    assert read_extra(sent, SessionSettings()).settings == settings
    session = Sessions(little, "one", None).fresh("one", settings)
    here = little.session(norm_tag="one", **settings.options())
    for picture in (image(), image(1)):
        one, other = (s.infer([picture], STATE, "fold", seed=1, num_steps=2) for s in (session, here))
        np.testing.assert_array_equal(one.actions, other.actions)
        assert one.trace.depth_mode == other.trace.depth_mode
    with pytest.raises(WireError, match="molmoact2.settings.draft is 'yes', expected true or false"):
        read_extra(sent | {"settings": {"draft": "yes"}}, SessionSettings())


def test_of_a_servers_own_settings_those_that_a_client_has_no_use_for_are_left_out():
    own = SessionSettings(depth="adaptive", draft=True, solver="heun")
    sent = write_extra(Extra("1", "robot", own))

    def asked(**settings):
        return read_extra(sent | {"settings": settings}, own).settings

    assert asked() == own
    assert asked(depth="off") == SessionSettings(solver="heun")
    assert asked(depth="full", action_mode="discrete") == SessionSettings(depth="full", action_mode="discrete")
    for mistaken in (asked(depth="off", draft=True), asked(action_mode="discrete", solver="heun")):
        with pytest.raises(InputError):    # what a client asks for itself is not passed over
            EngineOptions(mistaken.draft, mistaken.solver).check_session(mistaken.depth, mistaken.action_mode)


def test_the_options_load_no_torch():
    code = "import sys; from molmoact2_model import EngineOptions; EngineOptions(); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
