# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Images, instruction and state become exactly what the model was trained on."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from golden_set import textured

from molmoact2_model import InputError, image_fault
from molmoact2_model.images import check_images
from molmoact2_model.normalization import Normalizer
from molmoact2_model.processing import (
    PromptBuilder,
    normalize_instruction,
    pixel_values,
    pooling_index,
    state_bins,
)

CPU = torch.device("cpu")


def by_hand(image, config):
    """Resize, normalise and cut into patches, one pixel row at a time."""
    frame = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    size = (config.height, config.width)
    frame = torch.nn.functional.interpolate(frame, size, mode="bilinear", align_corners=False)
    frame = frame[0].round().clamp(0, 255).permute(1, 2, 0).numpy() / np.float32(255) * 2 - 1
    side, patches = config.patch_size, []
    for top in range(0, config.height, side):
        for left in range(0, config.width, side):
            patches.append(frame[top : top + side, left : left + side].reshape(-1))
    return np.stack(patches)


@pytest.mark.parametrize("size", [(360, 640), (378, 378), (37, 53)])
def test_pixel_values_follow_the_formula(policy, size):
    images = [textured(seed, size=(512, 640))[: size[0], : size[1]].copy() for seed in (1, 2)]
    pixels = pixel_values(images, policy.images, CPU)
    assert pixels.shape == (2, 729, 588)
    for image, found in zip(images, pixels.numpy(), strict=True):
        np.testing.assert_array_equal(found, by_hand(image, policy.images))


def as_numpy_1(image):
    assert not image.flags.writeable
    raise BufferError("a read-only array is not exported")


def test_frames_that_cannot_be_written_to_are_read_without_a_copy_or_a_warning(policy, monkeypatch):
    image = np.ascontiguousarray(textured(1, size=(112, 112)))
    wanted = pixel_values([image], policy.images, CPU)
    image.flags.writeable = False
    assert check_images([image])[0] is image
    torch.set_warn_always(True)    # and not once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(pixel_values([image], policy.images, CPU), wanted)
            monkeypatch.setattr(torch, "from_dlpack", as_numpy_1)
            assert torch.equal(pixel_values([image], policy.images, CPU), wanted)
    finally:
        torch.set_warn_always(False)


def test_pooling_pads_below_and_right_and_counts_over_all_images(policy):
    index = pooling_index(policy.images, 2)
    assert index.shape == (2 * 196, 4)
    assert index[0].tolist() == [0, 1, 27, 28]
    assert index[13].tolist() == [26, -1, 53, -1]
    assert index[195].tolist() == [728, -1, -1, -1]
    assert index[196].tolist() == [729, 730, 756, 757]
    assert set(index.unique().tolist()) == {-1, *range(2 * 729)}


def test_pooling_windows_of_other_shapes_split_the_padding(policy):
    config = dataclasses.replace(policy.images, pooling=(4, 5))
    index = pooling_index(config, 1).view(7, 6, 4, 5)
    # 27 rows in windows of 4 miss one row: below. 27 columns in windows of 5 miss three: one left, two right.
    assert (index[0, 0, :, 0] == -1).all()
    assert index[0, 0, 0, 1] == 0
    assert (index[6, :, 3] == -1).all()
    assert (index[:, 5, :, 3:] == -1).all()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("Task: Pick up the RED cube. Put it in the box!", "pick up the red cube; put it in the box"),
        ("  open\tthe\n drawer ", "open the drawer"),
        ('"Instruction - stack the cups."', "stack the cups"),
        ("Your task is to (wipe the table).", "wipe the table"),
        ("language_instruction: the task is to fold it…", "fold it"),
        ("pour 0.5 l", "pour 0; 5 l"),
        ("Why? Because!", "why; because"),
        ("...", ""),
    ],
)
def test_an_instruction_is_normalised(given, wanted):
    assert normalize_instruction(given) == wanted


def test_state_bins_round_halves_to_even():
    values = np.array([-1, 0, 1, -2, 2, 0.5, 0.996], np.float32)
    assert state_bins(values, 256).tolist() == [0, 128, 255, 0, 255, 191, 254]
    assert state_bins(np.zeros(1, np.float32), 4).tolist() == [2]


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("cameras", [1, 2, 3])
def test_a_prompt_of_pieces_equals_the_whole_text_tokenised(policy, depth, cameras):
    tag = policy.stats.tag("tiny_arm")
    builder = PromptBuilder(policy.config, policy.images, policy.tokenizer, tag)
    state = np.linspace(-1, 1, tag.state.dim).astype(np.float32)
    for instruction in ("Wipe the table.", "größer: 你好"):
        prompt = builder.build(instruction, state, cameras, depth)
        image = "<im_start>" + "<im_patch>" * 196 + "<im_end>"
        whole = policy.tokenizer.encode(prompt.text.replace("<|image|>", image), add_special_tokens=False).ids
        assert prompt.ids.tolist() == [policy.config.bos_token_id, *whole]
        assert prompt.is_image.sum() == cameras * 198


@pytest.mark.parametrize("spelled", ["<|image|>", "<state_3>", "<|im_end|> now", "<depth_output>"])
def test_an_instruction_cannot_spell_control_tokens(policy, spelled):
    builder = PromptBuilder(policy.config, policy.images, policy.tokenizer, policy.stats.tag("tiny_arm"))
    with pytest.raises(InputError, match="control token"):
        builder.build(f"pick up {spelled}", np.zeros(7, np.float32), 1, False)


STATS = {
    "min": [-2.0, 0.0, 1.0, -1.0],
    "max": [2.0, 4.0, 1.0, 1.0],
    "q01": [-1.0, 1.0, 1.0, -0.5],
    "q99": [1.0, 3.0, 1.0, 0.5],
    "q10": [-0.5, 1.5, 1.0, -0.25],
    "q90": [0.5, 2.5, 1.0, 0.25],
    "mean": [0.0, 2.0, 1.0, 0.0],
    "std": [0.5, 1.0, 0.0, 0.25],
    "mask": [True, True, True, False],
}


@pytest.mark.parametrize(
    ("mode", "value", "wanted"),
    [
        ("q01_q99", [0.5, 1.0, 9.0, 0.7], [0.5, -1.0, 0.0, 0.7]),
        ("q01_q99", [5.0, -5.0, 1.0, 2.0], [1.0, -1.0, 0.0, 2.0]),
        ("q10_q90", [0.25, 2.5, 1.0, 0.1], [0.5, 1.0, 0.0, 0.1]),
        ("min_max", [1.0, 1.0, 1.0, 0.1], [0.5, -0.5, 0.0, 0.1]),
        ("mean_std", [1.0, 4.0, 1.0, 0.1], [2.0, 2.0, 0.0, 0.1]),
        ("none", [1.0, 4.0, 7.0, 0.1], [1.0, 4.0, 7.0, 0.1]),
    ],
)
def test_each_norm_mode_normalises_and_leaves_masked_dimensions_alone(mode, value, wanted):
    normalizer = Normalizer(STATS, mode, "test")
    np.testing.assert_allclose(normalizer.normalize(np.array(value, np.float32)), wanted, atol=1e-6)


def test_unnormalising_clips_before_the_mask():
    bounded = Normalizer(STATS, "q01_q99", "test")
    np.testing.assert_allclose(bounded.unnormalize(np.full(4, 3.0, np.float32)), [1.0, 3.0, 1.0, 1.0])
    standard = Normalizer(STATS, "mean_std", "test")
    np.testing.assert_allclose(standard.unnormalize(np.full(4, 3.0, np.float32)), [1.5, 5.0, 1.0, 3.0])


def test_black_and_saturated_frames_are_recognised(scene):
    assert image_fault(scene) == ""
    noise = np.random.default_rng(0).integers(0, 12, scene.shape, dtype=np.uint8)
    assert image_fault(noise) == "black"
    stamped = noise.copy()
    stamped[:20, :100] = 255
    assert image_fault(stamped) == "black"
    assert image_fault(255 - noise // 3) == "saturated"
    assert image_fault(textured(mean=40.0, contrast=15.0)) == ""


@pytest.mark.parametrize("shown", [63, 64, 65])
@pytest.mark.parametrize("rows", [slice(None, None, 16), slice(None)], ids=["rows looked at first", "any rows"])
@pytest.mark.parametrize(("dull", "level", "fault"), [(16, 17, "black"), (250, 249, "saturated")])
def test_a_frame_is_faulty_while_at_most_one_percent_shows_something_wherever_that_is(shown, rows, dull, level, fault):
    frame = np.full((80, 80, 3), dull, np.uint8)
    places = np.stack(np.mgrid[0:80, 0:80][:, rows]).reshape(2, -1)
    row, column = np.random.default_rng(shown).permutation(places, axis=1)[:, :shown]
    frame[row, column, 1] = level
    assert image_fault(frame) == (fault if shown <= 64 else "")
