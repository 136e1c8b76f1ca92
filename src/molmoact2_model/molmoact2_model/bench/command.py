# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 bench-model`: how long an inference takes, and where. (`molmoact2 bench` measures the ROS side and comes
with another package; this one needs neither it nor ROS.)"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine_options import (
    LANGUAGE_WEIGHTS,
    NO_OFFLOAD,
    SOLVERS,
    STORED,
    EngineOptions,
    add_arguments,
    check_kept,
    check_library,
)
from ..errors import InputError

if TYPE_CHECKING:
    from .run import Setting

_EPILOG = """\
The first row of each load is the engine with every optimisation off; the others are compared with it, in speed,
actions and codes, over the same calls in turn. Action errors are in the model's range -1 .. 1. "roofline" is the least
time this device could need, by bytes and products of a stage against a copy and a product measured in the same run.
Into --out: bench_model.json, bench_model.txt, bench_model.png.

examples:
  molmoact2 bench-model --checkpoint checkpoints/molmoact2-tiny-think-so101 --out out/bench_model
  molmoact2 bench-model --random released --dtype bfloat16 --depth off --calls 1 --out out/released
  molmoact2 bench-model --random released --only-roofline --rates 3350,989 --dtype bfloat16
  molmoact2 bench-model --random released --only-memory --dtype bfloat16
  molmoact2 bench-model --random medium --depth full --compare-weights int8,nf4
  molmoact2 bench-model --checkpoint checkpoints/molmoact2-tiny-think-so101 --dtype bfloat16 --depth off --agreement
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `bench-model` to the command."""
    parser = subparsers.add_parser(
        "bench-model",
        help="how fast the engine infers, stage by stage, with and without its optimisations",
        description="Measures inference of a checkpoint, or of random weights of a size, stage by stage.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", help="folder of a checkpoint, or a Hub id")
    what.add_argument("--random", choices=["released", "medium", "small"], help="random weights of that size")
    add("--tag", help="norm tag (default: the checkpoint's first)")
    add("--out", type=Path, metavar="DIR", help="folder for table, JSON and plot; made where missing")
    add("--device", default="cpu", help="torch device (default: cpu)")
    add(
        "--dtype", action="append", choices=["float32", "bfloat16", "float16"],
        help="type of the weights; again: others to compare with the first (default: float32)",
    )
    add("--threads", type=int, metavar="N", help="processor threads (default: torch's)")
    add("--cameras", type=int, choices=[1, 2, 3], help="images of a call (default: the tag's, else 2)")
    add(
        "--depth", action="append", choices=["off", "full", "adaptive", "verified"],
        help="may be repeated (default: all that the checkpoint has)",
    )
    add(
        "--changed", default="0,5,25,65", metavar="N,N",
        help="with adaptive: cells that change from call to call; with verified, and for --agreement: codes of the "
        "draft that are wrong",
    )
    add("--calls", type=int, default=20, metavar="N", help="measured calls of each row (default: 20)")
    add("--fastest", action="store_true", help="the least of the calls instead of the median: on a busy machine")
    add(
        "--cpu-time", action="store_true",
        help="seconds of the processor instead of the clock's: what remains true on a busy machine; not for a GPU",
    )
    add("--num-steps", type=int, metavar="N", help="flow steps (default: the checkpoint's)")
    add_arguments(parser)
    add(
        "--compare-weights", metavar="NAME,NAME", default="",
        help="also rows with language weights of these kinds, in each type, compared with the first row",
    )
    add(
        "--agreement", action="store_true",
        help="also how many codes of depth verified are those of full decoding with the same weights and type, for "
        "each type and kind of weights, and by what margins of the logits the others fell otherwise",
    )
    add(
        "--each", action="store_true",
        help="also a row without each of the optimisations that are on, of adaptive depth also without --draft",
    )
    add(
        "--solvers", metavar="NAME:STEPS,...", default="",
        help="how far actions move with other solvers and step counts, e.g. euler:5,midpoint:3,heun:3",
    )
    add(
        "--against", metavar="MODULE:FUNCTION",
        help="another implementation: FUNCTION(checkpoint, device, dtype, norm_tag, num_steps) returns a function "
        "(images, state, instruction, noise, depth) -> (actions in physical units, depth codes or None); its attribute "
        "depths names its depth modes (default: off, full, adaptive), reset is called before each load, where it has "
        "it; beside verified it runs adaptive; with --random checkpoint is a temporary folder (TMPDIR) that both read",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--only-roofline", action="store_true", help="no weights, no inference: the least time by stage")
    only.add_argument(
        "--only-memory", action="store_true",
        help="no weights, no inference: what each part would take, computed, for all kinds of language weights",
    )
    add(
        "--rates", metavar="GB/s,TFLOP/s[,GB/s]",
        help="of a device that is not at hand, with --offload also what it gets from main memory (default: this one's, "
        "measured)",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand. Errors: InputError, CheckpointError."""
    setting = _setting(args)
    from .run import bounds_only, measure_all, memory_only

    if setting.only_memory:
        print(memory_only(setting))
        return 0
    if setting.only_roofline:
        print(bounds_only(setting))
        return 0
    text, found, plot = measure_all(setting)
    print(text)
    if args.out is not None:
        _write(args.out, text, found)
        plot(args.out / "bench_model.png")
        print(f"\n-> {args.out}")
    return 0


def _setting(args: argparse.Namespace) -> Setting:
    from .run import Setting

    if args.calls < 1:
        raise InputError(f"--calls is {args.calls}, expected at least 1")
    if args.cpu_time and not args.device.startswith("cpu"):
        raise InputError(
            f"--cpu-time with --device {args.device}: it counts the processor's seconds alone; leave one of the two out"
        )
    engine = EngineOptions.of(args)
    computed = args.only_roofline or args.only_memory    # of a device that is not at hand
    engine.check_device("cuda" if computed else args.device)
    kinds = _kinds(args.compare_weights)
    for kind in kinds:
        check_kept(engine.switches(), kind, engine.offload)
    rates = _numbers("--rates", args.rates, float) if args.rates else ()
    if engine.offload != NO_OFFLOAD and len(rates) == 2:
        raise InputError(f"--rates {args.rates} with --offload: add what main memory gives in GB/s, e.g. 3350,989,25")
    if args.draft and args.depth and "adaptive" not in args.depth:
        raise InputError("--draft is of adaptive depth; add --depth adaptive, or leave it out")
    return Setting(
        checkpoint=args.checkpoint or "",
        random=args.random or "",
        tag=args.tag or "",
        device=args.device,
        dtypes=tuple(dict.fromkeys(args.dtype or ["float32"])),
        threads=args.threads,
        cameras=args.cameras,
        depths=tuple(dict.fromkeys(args.depth or [])),
        changed=_numbers("--changed", args.changed, int),
        calls=args.calls,
        fastest=args.fastest,
        cpu_time=args.cpu_time,
        num_steps=args.num_steps,
        engine=engine,
        each=args.each,
        solvers=_solvers(args.solvers),
        against=args.against or "",
        compare_weights=kinds,
        agreement=args.agreement,
        only_roofline=args.only_roofline,
        only_memory=args.only_memory,
        rates=rates,
    )


def _numbers(option: str, text: str, kind: Any) -> tuple[Any, ...]:
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 0 or (option == "--rates" and (len(found) not in (2, 3) or min(found) == 0)):
        raise InputError(f"{option} is {text!r}, expected numbers such as {'3350,989' if kind is float else '0,5,25'}")
    return found


def _kinds(text: str) -> tuple[str, ...]:
    found = tuple(filter(None, (part.strip() for part in text.split(","))))
    for name in found:
        if name not in LANGUAGE_WEIGHTS:
            raise InputError(f"--compare-weights has {name!r}, expected some of {', '.join(LANGUAGE_WEIGHTS)}")
    if set(found) - {STORED}:
        check_library()
    return found


def _solvers(text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for part in filter(None, text.split(",")):
        name, _, steps = part.partition(":")
        if name not in SOLVERS or not steps.isdigit() or int(steps) < 1:
            raise InputError(f"--solvers has {part!r}, expected a solver of {list(SOLVERS)} and steps, e.g. heun:5")
        found.append((name, int(steps)))
    return tuple(found)


def _write(folder: Path, text: str, found: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: {error}") from None
    (folder / "bench_model.txt").write_text(text + "\n", encoding="utf-8")
    (folder / "bench_model.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
