# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Makes test/lerobot_saved: a policy that LeRobot itself trained for a few steps and saved, and what it did then.

    python make_lerobot_saved.py base FOLDER        # here: a tiny released checkpoint to begin from
    python make_lerobot_saved.py policy FOLDER      # with Python 3.12 and `pip install lerobot[molmoact2]==0.6.1`

FOLDER gets base/ (the files of that checkpoint; its weights are needed by the second command alone), policy/ (as
lerobot-train saves it) and cases.npz: images, state, noise and actions by case.
"""

import os
import sys
from pathlib import Path

import numpy as np

SIZES = {
    "hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8, "intermediate_size": 16,
    "vit_hidden_size": 16, "vit_layers": 2, "vit_heads": 2, "vit_intermediate_size": 16,
    "adapter_intermediate_size": 16, "expert_hidden_size": 16, "expert_heads": 2, "expert_time_dim": 16,
    "image_size": (56, 56), "num_action_tokens": 16, "num_depth_tokens": 0, "max_action_horizon": 8,
    "vocab_multiple": 32,
}    # fmt: skip
JOINTS = ["pan.pos", "lift.pos", "roll.pos", "gripper.pos"]
CAMERAS = ["observation.images.top", "observation.images.wrist"]
HORIZON, SIZE, STEPS = 8, (24, 32), 5
LOW, HIGH = np.array([-90.0, -30.0, 0.0, 0.0]), np.array([80.0, 100.0, 0.5, 1.0])
SIGNS, OFFSETS = [1.0, -1.0, 1.0, 1.0], [0.0, 90.0, 0.0, 0.0]
TASKS = {"flow": "Pick up the RED cup.", "again": "task: put it down"}


def base(folder: Path) -> None:
    from molmoact2_model.blueprint import Blueprint, write_checkpoint

    figures = {"q01": [-1.0] * 4, "q99": [1.0] * 4, "min": [-1.0] * 4, "max": [1.0] * 4}
    tag = {
        "state_stats": figures, "action_stats": figures, "action_horizon": HORIZON, "n_action_steps": HORIZON,
        "setup_type": "a bench", "control_mode": "absolute joint pose", "camera_keys": CAMERAS, "action_dim": 4,
    }    # fmt: skip
    content = {"format": "molmoact2_norm_stats.v1", "norm_mode": "q01_q99", "metadata_by_tag": {"bench": tag}}
    write_checkpoint(folder / "base", Blueprint(**SIZES), content, seed=7)


def policy(folder: Path) -> None:
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.molmoact2.configuration_molmoact2 import MolmoAct2Config
    from lerobot.policies.molmoact2.modeling_molmoact2 import MolmoAct2Policy
    from lerobot.policies.molmoact2.processor_molmoact2 import make_molmoact2_pre_post_processors

    os.chdir(folder)    # so that what is saved names no place of this machine
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    images = {key: PolicyFeature(FeatureType.VISUAL, (3, *SIZE)) for key in CAMERAS}
    config = MolmoAct2Config(
        checkpoint_path="base", device="cpu", model_dtype="float32", action_mode="continuous",
        chunk_size=HORIZON, n_action_steps=HORIZON, setup_type="a bench", control_mode="absolute joint pose",
        input_features=images | {"observation.state": PolicyFeature(FeatureType.STATE, (4,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (4,))}, joint_signs=SIGNS, joint_offsets=OFFSETS,
        inference_action_mode="continuous", enable_inference_cuda_graph=False, freeze_embedding=False,
        dataset_feature_names={"action": JOINTS, "observation.state": JOINTS},
        optimizer_lr=3e-3, optimizer_vit_lr=3e-3, optimizer_connector_lr=3e-3, optimizer_action_expert_lr=3e-3,
    )    # fmt: skip
    values = random.uniform(LOW, HIGH, (500, 4)).astype(np.float32)
    figures = {
        "min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0),
        "q01": np.quantile(values, 0.01, axis=0), "q99": np.quantile(values, 0.99, axis=0),
    }    # fmt: skip
    tensors = {name: torch.tensor(value) for name, value in figures.items()}
    stats = {"observation.state": tensors, "action": tensors}
    made = MolmoAct2Policy(config)
    before, behind = make_molmoact2_pre_post_processors(config, stats)
    optimizer = torch.optim.AdamW(made.get_optim_params(), betas=config.optimizer_betas, eps=config.optimizer_eps)
    made.train()
    for _ in range(STEPS):
        chunk = np.linspace(values[random.integers(500)], values[random.integers(500)], HORIZON, dtype=np.float32)
        batch = observed(torch, random)[1] | {"action": torch.tensor(chunk)[None], "task": ["pick it up"]}
        batch |= {key: value[None] for key, value in batch.items() if key.startswith("observation")}
        loss, _ = made.forward(before(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.4f}")
    made.eval()
    for part in (made, before, behind):
        part.save_pretrained("policy")
    cases = {}
    for seed, (name, task) in enumerate(TASKS.items()):
        arrays, batch = observed(torch, random)
        noise = torch.randn((1, HORIZON, 32), generator=torch.Generator().manual_seed(seed))
        found = made.predict_action_chunk(
            before(batch | {"task": task}), generator=torch.Generator().manual_seed(seed)
        )
        arrays |= {"noise": noise[0].numpy(), "actions": behind(found)[0].numpy()}
        cases |= {f"{name}.{key}": value for key, value in arrays.items()}
    np.savez_compressed("cases.npz", **cases)


def observed(torch, random: np.random.Generator) -> tuple[dict, dict]:
    """Arrays to keep, and the same as LeRobot has an observation: smooth images, which take little room."""
    rows, columns = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]), indexing="ij")
    arrays, batch = {}, {}
    for camera in CAMERAS:
        waves = [128 + 90 * np.sin(rows * a + columns * b + c) for a, b, c in random.uniform(0, 0.4, (3, 3))]
        image = np.stack(waves, axis=-1).round().astype(np.uint8)
        arrays[camera] = image
        batch[camera] = torch.tensor(image).permute(2, 0, 1).float() / 255
    arrays["state"] = random.uniform(LOW, HIGH).astype(np.float32)
    batch["observation.state"] = torch.tensor(arrays["state"])
    return arrays, batch


if __name__ == "__main__":
    {"base": base, "policy": policy}[sys.argv[1]](Path(sys.argv[2]))
