# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The engine's options as parameters of the policy node, in recordings, and on a server."""

from dataclasses import asdict, fields
from types import SimpleNamespace

import pytest
from builtin_interfaces.msg import Time
from tiny_robot import CHECKPOINT, HERE, SETTINGS

from molmoact2_contract import ContractError, load_contract
from molmoact2_model.serving.traces import MODES
from molmoact2_msgs.msg import PolicyStatus, ReasoningTrace
from molmoact2_policy.act_backend import ActBackend, Remote
from molmoact2_policy.backend import BackendError, Settings
from molmoact2_policy.messages import DEPTH_MODES, status_message
from molmoact2_policy.parameters import INTEGERS, NUMBERS, TEXTS, configured
from molmoact2_policy.replay.configured import BEFORE, KINDS, Configured, Wanted, choose, unpromised

DEFAULTS = {name: given[0] for given_by in (TEXTS, INTEGERS, NUMBERS) for name, given in given_by.items()} | {
    "draft": False, "simulation": False, "instruction": "", "contract": str(HERE / "tiny_arm.yaml"),
    "checkpoint": str(CHECKPOINT), "norm_tag": "tiny_arm",
}


def settings(**changed):
    return configured({**DEFAULTS, **changed}.__getitem__).settings


def test_by_default_the_node_runs_the_engine_as_released():
    plain = settings()
    assert (plain.draft, plain.solver, plain.optimizations) == (False, "euler", "")
    assert (plain.language_weights, plain.offload, plain.noise_scale, plain.smoothing) == ("stored", "none", 1.0, 0.0)


def test_all_of_the_engines_options_reach_its_settings_always_in_the_same_words():
    asked = {"draft": True, "solver": "midpoint", "num_steps": 3, "optimizations": "reuse_cameras , no_reuse"}
    found = settings(depth="adaptive", **asked)
    assert (found.draft, found.solver, found.num_steps) == (True, "midpoint", 3)
    assert found.optimizations == "no_reuse,reuse_cameras"
    assert found.optimizations == settings(optimizations="no_reuse,reuse_cameras").optimizations
    assert settings(optimizations="graphs", device="cuda", simulation=True).optimizations == "graphs"
    assert settings(optimizations="unwatched", device="cuda", simulation=True).optimizations == "unwatched"
    assert settings(language_weights="nf4").language_weights == "nf4"
    assert settings(offload="language", device="cuda", simulation=True).offload == "language"


WRONG = {
    "solver": ({"solver": "rk4"}, "parameter solver is 'rk4'; it must be one of euler, midpoint, heun"),
    "unknown": ({"optimizations": "magic"}, "'magic' is no optimisation"),
    "no draft": ({"draft": True}, "draft is for depth='adaptive', and depth is 'off'"),
    "no noise": ({"noise_scale": 0.1}, "noise_scale is 0.1, expected a number from 0.3 to 1"),
    "no GPU": ({"optimizations": "unwatched"}, "unwatched is for a GPU, and the device is 'cpu'"),
    "no weights": ({"language_weights": "int4"}, "language_weights is 'int4'; it must be one of stored, int8, nf4"),
    "recorded": ({"language_weights": "nf4", "optimizations": "graphs", "device": "cuda"}, "graphs with language_w"),
    "no place": ({"offload": "vision"}, "parameter offload is 'vision'; it must be one of none, language"),
    "no GPU to offload": ({"offload": "language"}, "offload language is for a GPU, and the device is 'cpu'"),
    "offloaded robot": ({"offload": "language", "device": "cuda"}, "not for a robot that moves; use none"),
    "a robot and a compiler": ({"optimizations": "compiled"}, "has compiled, which nobody has seen run on a GPU"),
    "a robot and no waits": ({"optimizations": "unwatched", "device": "cuda"}, "has unwatched, which nobody has"),
    "a robot": ({"optimizations": "graphs", "device": "cuda"}, "not for a robot that moves; leave it out"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_unknown_or_unsafe_is_refused_by_its_name(name):
    changed, said = WRONG[name]
    with pytest.raises(ContractError, match=said):
        settings(**changed)


@pytest.mark.parametrize(("name", "value", "none"), [
    ("optimizations", "reuse_cameras", "''"), ("language_weights", "int8", "'stored'"),
    ("offload", "language", "'none'"),
])
def test_how_the_model_is_computed_is_the_servers_own_where_it_is_on_one(name, value, none):
    asked = settings(backend="act", checkpoint="", simulation=True, **{name: value})
    said = f"{name} is the server's own: give it to molmoact2 serve, set the parameter to {none}"
    with pytest.raises(BackendError, match=said):
        ActBackend(asked, load_contract(DEFAULTS["contract"]), Remote("http://127.0.0.1:1")).load()


def test_draft_solver_and_noise_scale_go_to_a_server_with_each_session():
    asked = settings(backend="act", checkpoint="", depth="adaptive", draft=True, solver="heun", noise_scale=0.5)
    backend = ActBackend(asked, load_contract(DEFAULTS["contract"]), Remote("http://127.0.0.1:1"))
    assert (backend._options.draft, backend._options.solver, backend._options.depth) == (True, "heun", "adaptive")
    assert backend._options.noise_scale == 0.5


@pytest.mark.parametrize(("draft", "mode"), [(False, "DEPTH_ADAPTIVE"), (True, "DEPTH_ADAPTIVE_VERIFIED")])
def test_the_policys_status_tells_adaptive_with_a_draft_from_adaptive(draft, mode):
    asked = settings(depth="adaptive", draft=draft)
    status = status_message(PolicyStatus.INACTIVE, "p", asked, {}, "in_process", None, {}, "", Time())
    assert status.depth_mode == getattr(ReasoningTrace, mode)


def test_every_mode_of_a_trace_has_a_number_of_its_own():
    assert set(DEPTH_MODES) == set(MODES) and len(set(DEPTH_MODES.values())) == len(MODES)


def test_what_a_recording_says_of_them_is_read_back_as_it_was():
    options = {"draft": True, "solver": "heun", "optimizations": "reuse_cameras", "language_weights": "int8"}
    options |= {"noise_scale": 0.6, "smoothing": 0.3}
    wanted = settings(depth="adaptive", **options)
    said = {name: str(value) for name, value in asdict(wanted).items()}
    assert set(said) == {field.name for field in fields(Settings)}
    assert Settings(**{name: read(said[name]) for name, read in KINDS.items()}) == wanted


def test_a_recording_from_before_these_options_promises_what_it_always_did():
    facts = {name: str(value) for name, value in asdict(SETTINGS).items()}
    old = Configured(0, {name: value for name, value in facts.items() if name not in BEFORE})
    wanted = Wanted(SETTINGS, SimpleNamespace(), SimpleNamespace(), {})
    assert unpromised(old, wanted, facts) == []
    assert unpromised(old, wanted, facts | {"solver": "heun"}) == ["solver was euler and is heun"]
    found = unpromised(old, wanted, facts | {"language_weights": "nf4", "bitsandbytes": "1"})
    assert found == ["language_weights was stored and is nf4", "bitsandbytes was not known and is 1"]


def test_a_replay_by_other_modes_leaves_out_what_these_have_no_use_for_unless_it_is_asked_for_too(tmp_path):
    recorded = settings(depth="adaptive", draft=True, solver="heun", noise_scale=0.6, smoothing=0.3)
    facts = {name: str(value) for name, value in asdict(recorded).items()}
    bag, there = SimpleNamespace(path="bag"), {"contract": DEFAULTS["contract"], "checkpoint": str(CHECKPOINT)}

    def chosen(**given):
        found = choose(bag, Configured(0, facts), there | given, tmp_path).settings
        return found.draft, found.solver, found.noise_scale, found.smoothing

    assert chosen() == (True, "heun", 0.6, 0.3)
    assert chosen(depth="full") == (False, "heun", 0.6, 0.3)
    assert chosen(action_mode="discrete") == (True, "euler", 1.0, 0.3)
    assert chosen(action_mode="discrete", noise_scale=0.6)[2] == 0.6


def test_a_recording_of_a_compiled_expert_promises_no_bits():
    facts = {name: str(value) for name, value in asdict(settings(optimizations="compiled", simulation=True)).items()}
    wanted = Wanted(SETTINGS, SimpleNamespace(), SimpleNamespace(), {})
    assert "the expert was compiled" in unpromised(Configured(0, facts), wanted, facts)[0]


def test_a_replay_on_a_processor_offloads_nothing_and_promises_what_it_would_on_a_gpu(tmp_path):
    recorded = settings(offload="language", device="cuda", simulation=True)
    facts = {name: str(value) for name, value in asdict(recorded).items()}
    bag, there = SimpleNamespace(path="bag"), {"contract": DEFAULTS["contract"], "checkpoint": str(CHECKPOINT)}
    assert choose(bag, Configured(0, facts), there, tmp_path).settings.offload == "language"
    found = choose(bag, Configured(0, facts), there | {"device": "cpu"}, tmp_path)
    assert found.settings.offload == "none"
    promised = unpromised(Configured(0, facts), found, facts | {"device": "cpu", "offload": "none"})
    assert not [reason for reason in promised if "offload" in reason]
