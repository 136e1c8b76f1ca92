# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The golden set, made by running the reference implementation, and pictures to test with."""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden" / "tiny"


class Golden:
    """A golden set: checkpoint, FAST tokenizer, and the reference's inputs and outputs by case."""

    def __init__(self, folder):
        self.folder = folder
        self.checkpoint = folder / "checkpoint"
        self.fast_tokenizer = folder / "fast_tokenizer"
        with np.load(folder / "reference.npz") as arrays:
            self.arrays = dict(arrays)
        cases = json.loads((folder / "cases.json").read_text())
        self.cases = {case["name"]: case for case in cases}

    def value(self, name, key):
        return self.arrays.get(f"{name}.{key}")

    def images(self, name):
        return [self.arrays[key] for key in self.cases[name]["images"]]

    def inputs(self, name):
        """The keyword arguments of Session.infer for a case."""
        case = self.cases[name]
        return {
            "images": self.images(name),
            "state": self.value(name, "state"),
            "instruction": case["task"],
            "num_steps": case["num_steps"],
            "n_action_steps": case["n_action_steps"],
            "noise": self.value(name, "noise"),
        }

    def session(self, policy, name, **options):
        """A session as the reference ran the case: adaptive by the reference rule where it had depth."""
        case = self.cases[name]
        if case["action_mode"] == "discrete":
            options.setdefault("fast_tokenizer", self.fast_tokenizer)
        options.setdefault("depth", "adaptive" if case["depth"] else "off")
        options.setdefault("cache_policy", "reference")
        return policy.session(norm_tag=case["norm_tag"], action_mode=case["action_mode"], **options)

    def run(self, policy, name, **options):
        session = self.session(policy, name, **options)
        previous = self.cases[name]["previous_frame"]
        if previous:
            session.infer(**self.inputs(previous))
        return session.infer(**self.inputs(name))


def compare(golden, name, result):
    """Asserts all that the golden set holds about a case."""
    wanted = golden.value(name, "actions")
    assert result.actions.shape == wanted.shape
    assert result.actions.dtype == np.float32
    assert np.abs(result.actions - wanted).max() <= 1e-4 * np.ptp(wanted)
    for key in ("input_ids", "generated_token_ids", "depth_codes", "refreshed"):
        if golden.value(name, key) is not None:
            np.testing.assert_array_equal(getattr(result.trace, key), golden.value(name, key), err_msg=key)


def textured(seed=0, mean=120.0, contrast=60.0, size=(480, 640)):
    """uint8 (H, W, 3): a smooth random texture of that mean and contrast, like a scene out of focus."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.standard_normal((1, 3, size[0] // 16, size[1] // 16)))
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)[0]
    return (mean + contrast * smooth.permute(1, 2, 0).numpy()).clip(0, 255).astype(np.uint8)
