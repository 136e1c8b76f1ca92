# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 infer`: one inference from files to files."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .engine_options import EngineOptions, add_arguments, add_noise_scale
from .errors import InputError

if TYPE_CHECKING:
    from .policy import MolmoAct2Policy
    from .session import InferenceResult, Trace

_EPILOG = """\
Writes into --out: actions.npy and actions.csv (waypoints x dimensions, un-normalised, in the checkpoint's own
frame and units), trace.json (prompt, tokens, depth codes, seed, timings), and with depth depth.png (the main
image with the refreshed cells framed, beside the depth codes coloured by code index).

example:
  molmoact2 infer --checkpoint checkpoints/molmoact2-tiny-think-so101 --tag so101_sim_molmoact2_tiny \\
      --image front.png --image wrist.png --state 0,-0.9,0.75,1.3,0,0.3 \\
      --instruction "pick up the red cube" --depth full --out out/infer
"""


_STATE_HELP = (
    "joint state in the checkpoint's frame: a .npy or .json file, or a,b,c "
    "(written --state=-1,2 where the first is negative)"
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `infer` to the command."""
    parser = subparsers.add_parser(
        "infer",
        help="one inference from files: images, state and instruction in; actions, trace and picture out",
        description="Runs the model once on images and a joint state from files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="folder of a checkpoint, or a Hub id: owner/name[@revision]")
    add("--base-checkpoint", metavar="DIR", help="of a checkpoint that LeRobot saved: the one its training began from")
    add(
        "--image",
        action="append",
        required=True,
        metavar="FILE",
        help="camera image; repeat, main camera first",
    )
    add("--state", required=True, help=_STATE_HELP)
    add("--instruction", required=True, help="what the robot should do")
    add("--tag", required=True, help="norm tag: the embodiment; a wrong one lists those the checkpoint has")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for the results; made where missing")
    add(
        "--depth", choices=["off", "full", "adaptive", "verified"], default="off",
        help="depth reasoning (default: off)",
    )
    add("--cache-policy", choices=["bounded", "reference"], default="bounded", help="of adaptive depth")
    add(
        "--previous-image",
        action="append",
        metavar="FILE",
        help="images of a call before this one, for adaptive depth; repeat as --image",
    )
    add("--action-mode", choices=["continuous", "discrete"], default="continuous")
    add("--fast-tokenizer", type=Path, metavar="DIR", help="FAST tokenizer folder, for discrete actions")
    add("--num-steps", type=int, metavar="N", help="flow steps (default: the checkpoint's)")
    add("--n-action-steps", type=int, metavar="N", help="waypoints to return (default: the tag's)")
    add("--seed", type=int, help="of the flow's noise (default: a fresh one, recorded in trace.json)")
    add("--device", default="cpu", help="torch device (default: cpu)")
    add("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    add_arguments(parser)
    add_noise_scale(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; InputError and CheckpointError say what is wrong with the input."""
    if args.previous_image and args.depth not in ("adaptive", "verified"):
        raise InputError("--previous-image is for --depth adaptive and verified")
    options = EngineOptions.of(args)
    options.check(args.depth, args.action_mode, args.device)
    images, state = [read_image(path) for path in args.image], read_state(args.state)
    previous = [read_image(path) for path in args.previous_image or []]

    from .policy import MolmoAct2Policy

    policy = MolmoAct2Policy.from_pretrained(
        args.checkpoint, device=args.device, dtype=args.dtype, base_checkpoint=args.base_checkpoint,
        optimizations=options.switches(), language_weights=options.language_weights, offload=options.offload,
    )
    session = policy.session(
        norm_tag=args.tag,
        depth=args.depth,
        action_mode=args.action_mode,
        cache_policy=args.cache_policy,
        fast_tokenizer=args.fast_tokenizer,
        draft=options.draft,
        solver=options.solver,
        noise_scale=args.noise_scale,
    )
    asked = {"num_steps": args.num_steps, "n_action_steps": args.n_action_steps, "seed": args.seed}
    if previous:
        session.infer(previous, state, args.instruction, **asked)
    result = session.infer(images, state, args.instruction, **asked)
    write_results(args.out, result, policy, args.tag, images[0])
    print(summary(result, args.out))
    return 0


def read_image(path: str | Path) -> np.ndarray:
    """Reads a picture as uint8 (H, W, 3) RGB."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"image {path} cannot be read: {error}") from None


def read_state(text: str) -> np.ndarray:
    """Reads a state vector from `a,b,c`, or from a .npy or .json file."""
    path = Path(text)
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".json":
            return np.asarray(json.loads(path.read_text(encoding="utf-8")), dtype=np.float32)
        return np.asarray([float(part) for part in text.split(",")], dtype=np.float32)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"--state {text}: {error}; expected numbers a,b,c or a .npy or .json file") from None


def write_results(
    folder: Path, result: InferenceResult, policy: MolmoAct2Policy, tag: str, main_image: np.ndarray
) -> None:
    """Writes actions, trace and, with depth, the picture."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: {error}") from None
    np.save(folder / "actions.npy", result.actions)
    names = policy.stats.metadata[tag]["action_stats"].get("names") or []
    width = result.actions.shape[1]
    header = list(names) if len(names) == width else [f"action_{index}" for index in range(width)]
    with open(folder / "actions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["waypoint", *header])
        writer.writerows([index, *row] for index, row in enumerate(result.actions.tolist()))
    trace = json.dumps(trace_as_dict(result.trace), indent=1)
    (folder / "trace.json").write_text(trace + "\n", encoding="utf-8")
    if policy.config.depth is not None and result.trace.depth_codes.size:
        from .picture import depth_picture

        picture = depth_picture(main_image, result.trace, policy.config.depth)
        picture.save(folder / "depth.png")


def trace_as_dict(trace: Trace) -> dict[str, Any]:
    """The trace as JSON can hold it."""
    values = {field.name: getattr(trace, field.name) for field in dataclasses.fields(trace)}
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def summary(result: InferenceResult, folder: Path) -> str:
    """What a person wants to know at once."""
    trace, (waypoints, width) = result.trace, result.actions.shape
    lines: Sequence[str] = [
        f"{waypoints} waypoints x {width} dimensions in {trace.timings['total']:.2f} s -> {folder}",
        *([f"seed {trace.seed}"] if trace.seed is not None else []),
    ]
    if trace.depth_codes.size:
        cause = f" ({trace.cause})" if trace.cause else ""
        share = f"{int(trace.refreshed.sum())} of {trace.refreshed.size} codes generated"
        lines = [*lines, f"depth {trace.depth_mode}{cause}: {share}, {trace.decoder_steps} decoder steps"]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in trace.warnings)])
