# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2 train`."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .recipe import Recipe

INTERRUPTED = 130
MOST_THREADS = 1024


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="run one stage of training from a recipe",
        description="Runs a recipe (YAML, see docs/learning.md). OUT gets the checkpoint in the released layout, the "
        "state to go on from, and TensorBoard logs. Ctrl-C ends the step and saves; the same command with --resume "
        "goes on to the step. Exit code: 0 when done or at --until, 2 for bad input, 130 when interrupted.",
    )
    parser.add_argument("recipe", type=Path, help="YAML file; config/recipes has one for each stage")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, of one run at a time")
    parser.add_argument("--resume", action="store_true", help="go on with what is in --out")
    parser.add_argument(
        "--accept-changes", action="store_true",
        help="with --resume: go on although the recipe or the number of processes is not what the run was begun with "
        "(more steps, other data and how often it saves need no word)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="auto: a GPU where there is one; several, or several processes "
        "on processors: torchrun --standalone --nproc_per_node N --no-python molmoact2 train ...",
    )
    parser.add_argument(
        "--until", type=int, metavar="STEP", help="save and end there; --resume goes on (default: the recipe's last)"
    )
    parser.add_argument("--threads", type=int, default=0, help="of the processor (default: as torch chooses)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
        help="a value of the recipe, e.g. run.steps=100 or data.0.path=FOLDER; may be given again",
    )
    parser.set_defaults(func=run)


NO_MEMORY = (
    "there is not enough memory; lower run.batch (and raise run.accumulate) or run.buffer, or begin again with less to "
    "train: optimizer.trained lora or expert. What was saved last stands; --resume --accept-changes goes on from it"
)
NO_MEMORY_ON_PROCESSOR = "DefaultCPUAllocator"    # torch's own error there has no type of its own


def run(args: argparse.Namespace) -> int:
    import torch
    import yaml

    from ..errors import InputError
    from .loop import STATE, open_processes
    from .recipe import load_recipe
    from .saving import alone
    from .trained import check_taught

    if not 0 <= args.threads <= MOST_THREADS:
        raise InputError(f"--threads is {args.threads}, expected 0 (as torch chooses) to {MOST_THREADS}")
    if args.until is not None and args.until < 1:
        raise InputError(f"--until is {args.until}, expected a step, at least 1")
    if args.threads:
        torch.set_num_threads(args.threads)
    changes = {}
    for change in args.changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InputError(f"--set {change}: expected NAME=VALUE")
        try:
            changes[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {change}: {value!r} is no value in YAML") from None
    recipe = load_recipe(args.recipe, changes)
    check_taught(recipe)
    if args.resume and not (args.out / STATE).is_file():    # so that no folder is made for it
        raise InputError(f"{args.out} holds no run to go on with ({STATE} is missing)")
    processes = open_processes(args.device)
    with alone(args.out) if processes.is_main_process else nullcontext():
        processes.wait_for_everyone()    # no other touches OUT before it is known to be this run's
        return _train(args, recipe, processes)


def _train(args: argparse.Namespace, recipe: Recipe, processes: Accelerator) -> int:
    import shutil

    import torch

    from molmoact2_data.layout import DatasetError

    from ..errors import InputError
    from .beginning import begin, check_room
    from .loop import CHECKPOINT, STATE, Trainer
    from .saving import sweep

    there = (args.out / STATE).is_file()
    if there and not args.resume:
        raise InputError(f"{args.out} holds a run already; go on with --resume, or choose another --out")
    files = args.out / (f"files.{processes.process_index}" if processes.process_index else "files")
    shutil.rmtree(files, ignore_errors=True)
    if processes.is_main_process:
        sweep(args.out / CHECKPOINT)
    trainer: Trainer | None = None
    try:
        check_room(recipe)
        processes.wait_for_everyone()    # what others have loaded is no lack of room
        beginning = begin(recipe, files)
        trainer = Trainer(recipe, beginning, args.out, processes)
        told = [beginning.note] if beginning.note else []
        told += trainer.load(args.accept_changes) if there else []
        if processes.is_main_process:
            for line in told:
                print(line, file=sys.stderr)
            if processes.num_processes > 1:
                print(f"{processes.num_processes} processes, {recipe.run.batch} frames of each in a batch", flush=True)
        trainer.run(sys.stderr.isatty(), args.until)
    except DatasetError as error:
        raise InputError(str(error)) from None
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise InputError(f"{NO_MEMORY} ({error})") from None
    except RuntimeError as error:
        if NO_MEMORY_ON_PROCESSOR not in str(error):
            raise
        raise InputError(f"{NO_MEMORY} ({error})") from None
    except KeyboardInterrupt:
        if processes.is_main_process:
            step = f" at step {trainer.step}, saved is step {trainer.saved_step}" if trainer else ""
            stands = (args.out / STATE).is_file()
            print(f"interrupted{step}; {'go on with --resume' if stands else 'nothing was saved'}", file=sys.stderr)
        return INTERRUPTED
    if (args.out / CHECKPOINT).is_dir():
        print(f"\n{args.out / CHECKPOINT}")
    return 0
