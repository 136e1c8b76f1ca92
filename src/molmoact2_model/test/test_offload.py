# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Language blocks that stay in main memory. A processor is device and main memory at once: the blocks are copied to two
places all the same, and whatever is computed from anywhere else would show."""

import re
import threading
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from golden_set import textured
from made_networks import LITTLE, made

from molmoact2_contract import cli
from molmoact2_model import EngineOptions, InputError, MolmoAct2Policy, checkpoint
from molmoact2_model.bench.networks import RELEASED, SMALL, released_config
from molmoact2_model.bench.roofline import Rates, Shape, work
from molmoact2_model.checkpoint import fill_network, placing
from molmoact2_model.engine_options import LANGUAGE, NF4, NO_OFFLOAD, OFFLOADS, STORED
from molmoact2_model.footprint import computed, copied, held, kept
from molmoact2_model.lerobot_checkpoint import open_checkpoint
from molmoact2_model.offload import PLACES, AtOnce, Streamed
from molmoact2_model.optimizations import PLAIN, Optimizations
from molmoact2_model.serving.service import ServeOptions, Service

STATE = np.zeros(7, np.float32)
CPU, NOWHERE = torch.device("cpu"), torch.device("meta")


def load(golden, device=CPU, offload=LANGUAGE):
    source = open_checkpoint(golden.checkpoint)
    with ExitStack() as stack:
        return fill_network(source.weights(stack), source.config, device, torch.float32, STORED, offload)


@pytest.fixture(scope="module")
def offloaded(golden, policy):
    return MolmoAct2Policy(load(golden), policy.images, policy.stats, policy.tokenizer, "offloaded", Optimizations())


def answers(policy):
    """Codes generated one by one, and by draft and verify."""
    session = policy.session(norm_tag="tiny_arm", depth="verified")
    frames = [[textured(), textured(7)], [textured(), textured(8)]]
    return [session.infer(images, STATE, "pick up the cube", seed=4, num_steps=2) for images in frames]


def test_codes_and_actions_are_those_of_blocks_that_are_not_moved(policy, offloaded):
    for one, other in zip(answers(policy), answers(offloaded), strict=True):
        np.testing.assert_array_equal(one.trace.generated_token_ids, other.trace.generated_token_ids)
        assert np.abs(one.actions - other.actions).max() <= 1e-5


def test_never_more_than_two_blocks_are_on_the_device_and_nothing_is_computed_from_the_others(offloaded, monkeypatch):
    session = offloaded.session(norm_tag="tiny_arm", depth="full")
    layers, blocks = offloaded.network.vlm.model.language_model.layers, session.engine.fused.language._blocks
    assert isinstance(blocks, Streamed) and len(blocks) == len(layers) > PLACES == len(blocks.places)
    used = []
    for block in blocks._blocks:
        for name, made_of in block._products().items():
            where = made_of.keywords["weight"].data_ptr()
            monkeypatch.setattr(block, name, lambda x, of=made_of, where=where: used.append(where) or of(x))
    session.infer([textured(), textured(7)], STATE, "go", seed=1, num_steps=1)
    assert set(used) == {weight.data_ptr() for place in blocks.places for weight in place}
    assert len(used) == session.engine.passes * len(layers) * 4 + len(layers) * 4    # and the prefill
    assert sum(weight.nbytes for place in blocks.places for weight in place) == copied(offloaded.config.text, 4)


# --- the order of copies and of what is computed -----------------------------------------------------------
class Numbered:
    """A block whose one weight says which it is."""

    def __init__(self, weight):
        self.weight = weight

    def weights(self):
        return [self.weight]

    def over(self, weights):
        return Numbered(*weights)


class Late(AtOnce):
    """Copies as late as it may, when they are waited for, and refuses one that need not wait for the last use of what
    it overwrites. used: until when each place was, counted in blocks computed."""

    def __init__(self):
        self.now, self.used, self.waiting, self.done = 0, {}, [], 0

    def mark(self):
        return self.now

    def copy(self, goals, sources, after):
        assert after >= self.used.get(goals[0].data_ptr(), 0)
        self.waiting.append((goals, sources))
        return self.done + len(self.waiting)

    def wait(self, mark):
        while self.done < mark:
            super().copy(*self.waiting.pop(0), None)
            self.done += 1


def computed_through(blocks, lane, until=None):
    seen = []
    for block in blocks:
        seen.append(int(block.weight))
        lane.now += 1
        lane.used[block.weight.data_ptr()] = lane.now
        if seen[-1] == until:
            break
    return seen


def numbered(count, lane):
    return Streamed([Numbered(torch.tensor([float(number)])) for number in range(count)], CPU, lane)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_each_block_is_there_when_its_turn_comes_and_none_is_overwritten_before_it_was_computed(count):
    lane = Late()
    blocks = numbered(count, lane)
    for _ in range(3):
        assert computed_through(blocks, lane) == list(range(count))
    assert len(lane.used) == len(blocks.places) == min(count, PLACES)


def test_a_pass_that_is_given_up_spoils_none_that_follows():
    lane = Late()
    blocks = numbered(5, lane)
    for until in range(4):
        computed_through(blocks, lane, until)
        assert computed_through(blocks, lane) == [0, 1, 2, 3, 4]


def test_two_that_compute_at_once_wait_for_each_other():
    lane = Late()
    blocks = numbered(3, lane)
    first, second = iter(blocks), threading.Thread(target=lambda: seen.extend(computed_through(blocks, lane)))
    seen = []
    next(first)
    second.start()
    assert not seen and blocks._alone.locked()
    first.close()
    second.join(10)
    assert seen == [0, 1, 2]


# --- what lies where ---------------------------------------------------------------------------------------
def test_only_the_linear_layers_of_the_language_models_blocks_stay_in_main_memory(golden, policy, monkeypatch):
    monkeypatch.setattr(checkpoint, "_check_inv_freq", lambda *_: None)    # reads what lies nowhere
    network = load(golden, NOWHERE)    # a device that holds nothing
    stored = dict(policy.network.vlm.named_parameters())
    for name, parameter in network.vlm.named_parameters():
        here = re.search(r"language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.", name) is not None
        assert parameter.device == (CPU if here else NOWHERE), name
        assert not here or torch.equal(parameter, stored[name])
    assert {parameter.device for parameter in network.expert.parameters()} == {NOWHERE}


def test_what_is_computed_from_the_sizes_is_what_is_held_on_the_device(golden, policy, offloaded):
    for _ in range(2):    # before and after the fused blocks took the weights over
        assert held(offloaded.network) == computed(policy.config, 4, STORED, LANGUAGE)
        offloaded.session(norm_tag="tiny_arm")
    whole, here = (sum(computed(policy.config, 4, STORED, offload).values()) for offload in OFFLOADS)
    assert whole - here == kept(policy.config, 4)


def test_of_the_released_size_less_than_4_gb_are_on_the_device():
    config = released_config(RELEASED)
    assert sum(computed(config, 2, STORED, LANGUAGE).values()) + copied(config.text, 2) < 4e9 < kept(config, 2)


def test_a_benchmark_of_the_memory_alone_tells_what_is_on_the_device_and_what_in_main_memory(capsys):
    assert cli.main(["bench-model", "--random", "small", "--only-memory"]) == 0
    said, config = capsys.readouterr().out, released_config(SMALL)
    assert "computed from the sizes, not measured" in said and "offload language" in said
    assert f"offload language leaves {kept(config, 4) / 1e6:.0f} MB in main memory" in said
    row = next(line for line in said.splitlines() if line.startswith("two blocks, copied"))
    assert float(row.split()[-1]) == pytest.approx(copied(config.text, 4) / 1e6, abs=0.006)


def test_the_least_time_of_a_pass_is_that_of_its_bytes_from_main_memory_where_that_is_slower(capsys):
    config, shape = released_config(SMALL), Shape(2, 500, 30, 10, 3, 3, 3)
    usual, moved = (work(config, shape, 2, None, offload)["depth"] for offload in (False, True))
    assert moved.moved == 3 * copied(config.text, 2) / PLACES * config.text.num_layers and usual.moved == 0
    assert moved.least(Rates(1e12, 1e15, "", 1e9)) == moved.moved / 1e9 > usual.least(Rates(1e12, 1e15, "", 1e9))
    line = ["bench-model", "--random", "small", "--only-roofline", "--offload", LANGUAGE, "--rates"]
    assert cli.main([*line, "1000,1000"]) == 2
    assert "--rates 1000,1000 with --offload: add what main memory gives in GB/s" in capsys.readouterr().err
    assert cli.main([*line, "1000,1000,1"]) == 0
    assert "1.0 GB/s from main memory" in (said := capsys.readouterr().out) and "main memory\n" in said


# --- the ways in -------------------------------------------------------------------------------------------
def test_a_server_tells_what_it_offloads(policy, offloaded):
    for which, offload in ((policy, NO_OFFLOAD), (offloaded, LANGUAGE)):
        machine = Service(which, "sum", ServeOptions(tag="tiny_arm")).about()["molmoact2"]["machine"]
        assert machine["offload"] == offload


REFUSED = {
    "unknown": ({"offload": "vision"}, "cuda", r"offload is 'vision', expected one of \['none', 'language'\]"),
    "no GPU": ({}, "cpu", "offload language is for a GPU, and the device is 'cpu'"),
    "few bits": ({"language_weights": NF4}, "cuda", "offload language with language_weights nf4: only stored weights"),
    "graphs": ({"optimizations": "graphs"}, "cuda", "optimisation graphs with offload language: copies are not"),
    "not fused": ({"optimizations": "no_fused_language"}, "cuda", "needs the optimisation fused_language; leave it on"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_unknown_or_cannot_be_is_refused_by_name(name):
    changed, device, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        EngineOptions(**{"offload": LANGUAGE} | changed).check_device(device)


def test_every_way_in_refuses_it_where_there_is_no_gpu(golden, capsys):
    line = ["infer", "--image", "x", "--state", "0", "--instruction", "go", "--tag", "one", "--out", "x"]
    for command in (line, ["serve"], ["bench-model"]):
        assert cli.main([*command, "--checkpoint", "/nowhere", "--offload", LANGUAGE]) == 2
        assert "offload language is for a GPU, and the device is 'cpu'" in capsys.readouterr().err
    with pytest.raises(InputError, match="offload language is for a GPU"):
        MolmoAct2Policy.from_pretrained(golden.checkpoint, offload=LANGUAGE)


def test_a_session_that_would_compute_otherwise_than_by_fused_blocks_is_refused(offloaded, tmp_path):
    with pytest.raises(InputError, match="offload language needs the optimisation fused_language"):
        offloaded.session(norm_tag="tiny_arm", optimizations=PLAIN)
    other = made(tmp_path, LITTLE, {"norm_after": True}).network
    with pytest.raises(InputError, match="blocks of this checkpoint are of a kind that is not fused; use none"):
        placing(other, LANGUAGE)
