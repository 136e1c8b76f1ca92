# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a frame becomes: the reference's questions, and nothing to learn where nothing is known."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from test_training import BLUEPRINT, recipe_of
from training_sets import HORIZON, SIDE, fast_of, norm_stats, toy_set

from molmoact2_data.streaming import TrainingFrame
from molmoact2_model import InputError
from molmoact2_model.training.batch import CODES, DISCRETE, IGNORED, PLACE, Batch
from molmoact2_model.training.beginning import Beginning, begin
from molmoact2_model.training.recipe import load_recipe
from molmoact2_model.training.samples import Augment, named_in

IMAGE = np.full((SIDE, SIDE, 3), 90, np.uint8)
FRAME = TrainingFrame(
    "toys", 0, 0, {"front": IMAGE, "wrist": IMAGE}, np.zeros(2, np.float32), np.full((HORIZON, 2), 0.25, np.float32),
    np.ones(HORIZON, bool), "go to the Red  square!", depth_codes=np.arange(4, dtype=np.int16),
)    # fmt: skip


@pytest.fixture(scope="module")
def beginning(tmp_path_factory) -> Beginning:
    folder = tmp_path_factory.mktemp("beginning")
    data = toy_set(folder / "toy", episodes=2)
    start = {
        "blueprint": BLUEPRINT | {"action_mode": "both", "num_action_tokens": 96},
        "norm_stats": str(norm_stats(folder)), "fast_tokenizer": str(fast_of(data, folder / "fast")),
    }    # fmt: skip
    mix = {"action": 1.0, "depth": 1.0, "depth_action": 1.0, "discrete": True, "places": True, "code_noise": 0.0}
    return begin(load_recipe(recipe_of(folder, data, start=start, mix=mix)), folder / "files")


def batch_of(beginning: Beginning, style: str, **changes) -> Batch:
    return beginning.sampler.batch([dataclasses.replace(FRAME, **changes)], style, np.random.default_rng(0))


def text_of(beginning: Beginning, batch: Batch, row: int = 0) -> str:
    """From the last image on."""
    return beginning.tokenizer.decode(batch.tail[row].tolist(), skip_special_tokens=False)


def asked(batch: Batch, kind: int) -> bool:
    return bool(((batch.targets != IGNORED) & (batch.kinds == kind)).any())


ACT = "Given these, what action should the robot take to complete the task?"
DEPTH = "Given these, what is the depth map of the main image?"
BOTH = (
    "Given these, first predict the depth map of the main image and then predict the action the robot should take to "
    "complete the task?"
)
CODED = "<depth_start><depth_0><depth_1><depth_2><depth_3><depth_end>"


@pytest.mark.parametrize(
    ("style", "question", "trigger"),
    [
        ("action", ACT, "<action_output>"),
        ("depth", DEPTH, "<depth_output>" + CODED),
        ("depth_action", BOTH, "<depth_output><action_output>" + CODED),
    ],
)
def test_each_style_has_the_references_question_and_trigger(beginning, style, question, trigger):
    batch = batch_of(beginning, style)
    whole = f"{question}<|im_end|>\n<|im_start|>assistant\n{trigger}"
    assert whole in text_of(beginning, batch)
    assert (whole + "<action_start>" in text_of(beginning, batch)) == (style != "depth")
    assert asked(batch, CODES) == (style != "action")
    assert asked(batch, DISCRETE) == bool(batch.action_is_real.any()) == (style != "depth")


def test_a_frame_that_cannot_be_learnt_is_named(beginning):
    with pytest.raises(InputError, match=r"toys: frame 7 of episode 3 .*a frame has 9 depth codes, 0 to 8"):
        batch_of(beginning, "depth", depth_codes=np.arange(9, dtype=np.int16), episode=3, frame=7)


def test_a_chunk_of_which_nothing_is_to_be_learnt_is_not_spelled_as_tokens_either(beginning):
    nothing = batch_of(beginning, "action", valid=np.zeros(HORIZON, bool))
    assert not asked(nothing, DISCRETE) and not nothing.action_is_real.any()
    some = batch_of(beginning, "action", valid=np.arange(HORIZON) < 3)
    assert asked(some, DISCRETE) and int(some.action_is_real.sum()) == 3


def test_a_batch_of_frames_in_which_nothing_was_measured_is_asked_for_actions_alone(beginning):
    bare, coded = dataclasses.replace(FRAME, depth_codes=None), dataclasses.replace(FRAME, frame=7)
    random = np.random.default_rng(0)
    nothing = beginning.sampler.batch([bare, bare], "depth_action", random)
    assert not asked(nothing, CODES) and nothing.action_is_real.all() and ACT in text_of(beginning, nothing)
    some = beginning.sampler.batch([bare, coded], "depth_action", random)
    assert [BOTH in text_of(beginning, some, row) for row in range(some.size)] == [True, True]


# --- places -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("instruction", "phrases", "wanted"),
    [
        ("go to the red square", ["red"], "red"),
        ("go to the red square", ["red square", "blue square"], "red square"),
        ("Go to the  RED square.", ["square", "Red Square"], "Red Square"),
        ("go to the red square", ["square red", "re", "squares"], None),
        ("redo the square", ["red", ""], None),
        ("push a/b (c) away", ["a/b (c)"], "a/b (c)"),
    ],
)
def test_a_thing_is_named_by_words_that_follow_each_other(instruction, phrases, wanted):
    assert named_in(instruction, phrases) == wanted


def places(beginning: Beginning, batch: Batch, row: int) -> list[int]:
    """Across and down, as state tokens' numbers."""
    wanted = batch.targets[row][(batch.targets[row] != IGNORED) & (batch.kinds[row] == PLACE)]
    return (wanted - beginning.network.config.state_tokens.first).tolist()


def test_places_are_asked_of_phrases_as_of_words(beginning):
    points = {"square": (0.0, 0.0), "red square": (1.0, 0.5), "tin of PAINT": (0.5, 1.0)}
    batch = batch_of(beginning, "action", points=points)
    last = beginning.network.config.state_tokens.count - 1
    middle = round(0.5 * last)
    assert [places(beginning, batch, row) for row in range(batch.size)] == [[last, middle], [0, 0], [middle, last]]
    told = [text_of(beginning, batch, row).split(". The setup")[0] for row in range(batch.size)]
    assert [words.rpartition("go to the ")[2] for words in told] == ["red square", "square", "tin of paint"]
    for row, phrase in enumerate(("red square", "square", "tin of paint")):
        upto = int(batch.looks[row]) + 1
        assert beginning.tokenizer.decode(batch.tail[row, :upto].tolist()).endswith(phrase)


def test_places_in_the_second_image_are_asked_behind_the_state_and_only_where_they_are_seen(beginning):
    points = {"red square": (1.0, 0.5), "blue square": (0.5, 0.5)}
    batch = batch_of(beginning, "action", points=points, elsewhere={"wrist": {"red square": (0.25, 0.0)}})
    last = beginning.network.config.state_tokens.count - 1
    wanted = [[last, round(0.5 * last), round(0.25 * last), 0], [round(0.5 * last)] * 2]
    assert [places(beginning, batch, row) for row in range(batch.size)] == wanted
    marks = [beginning.tokenizer.decode([int(batch.tail[0, at])], skip_special_tokens=False)
             for at in torch.nonzero(batch.kinds[0] == PLACE)[:, 0]]    # fmt: skip
    assert marks == ["<setup_start>", "<setup_end>", "<state_start>", "<state_end>"]
    patches = torch.nonzero(batch.prefix == beginning.network.config.image_tokens.patch)[:, 0]
    first, second = patches.chunk(2)
    assert [float(batch.look_at[0, 0, first].sum()), float(batch.look_at[0, 1, second].sum())] == [1, 1]
    assert float(batch.look_at[0].sum()) == 2 and not batch.look_at[1, 1].any()


def test_where_a_camera_fails_nothing_is_asked_of_what_it_would_show(beginning):
    points, elsewhere = {"red square": (0.5, 0.5)}, {"wrist": {"red square": (0.25, 0.5)}}
    frame = dataclasses.replace(FRAME, points=points, elsewhere=elsewhere)
    sampler = copy.copy(beginning.sampler)
    sampler._augment = Augment(lost=1.0)
    asked = set()
    for seed in range(20):
        batch = sampler.batch([frame], "action", np.random.default_rng(seed))
        asked.add((len(places(beginning, batch, 0)), tuple((batch.look_at[0] > 0).any(-1).tolist())))
    assert asked == {(0, (False, False)), (2, (True, False))}    # of the one that does not fail


def test_data_that_know_no_place_in_the_second_image_are_told(tmp_path):
    data = toy_set(tmp_path / "toy", episodes=2)
    recipe = load_recipe(recipe_of(tmp_path, data, cameras=["front", "wrist"], mix={"places": True}))
    assert "no data say where a named thing is in images of camera 'wrist'" in begin(recipe, tmp_path / "files").note


def test_a_head_that_the_checkpoint_does_not_have_is_refused(tmp_path):
    data = toy_set(tmp_path / "toy", episodes=2)
    for wrong in ({"look_layer": 2}, {"look_head": 2}, {"look_head": 1}):
        recipe = load_recipe(recipe_of(tmp_path, data, objective={"look": 0.5} | wrong))
        with pytest.raises(InputError, match="heads . to . are to look; the checkpoint has 2 layers of 2"):
            begin(recipe, tmp_path / "files")


def test_a_list_of_phrases_that_no_instruction_has_is_refused_where_places_are_asked(tmp_path):
    data = toy_set(tmp_path / "toy", episodes=2)
    recipe = load_recipe(recipe_of(tmp_path, data, cameras=["wrist", "front"], mix={"places": True}))
    with pytest.raises(InputError, match="no instruction in .*toy names a thing .* camera 'wrist' is known"):
        begin(recipe, tmp_path / "files")
