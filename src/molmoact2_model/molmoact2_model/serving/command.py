# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 serve`: a checkpoint behind the `/act` protocol."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..engine_options import EngineOptions, add_arguments, add_noise_scale, check_noise_scale
from ..errors import InputError

_EPILOG = """\
Speaks POST /act, GET /act, /reset, /health and /healthz as existing MolmoAct2 servers do, and an extension with traces,
noise and running chunks for the policy node (parameter backend: act). docs/remote.md says what is taken and refused.

Only this machine can ask, unless --host and --token-file are given. There is no TLS: from elsewhere come through an ssh
tunnel or a reverse proxy.

example:
  molmoact2 serve --checkpoint checkpoints/molmoact2-tiny-think-so101 --tag so101_sim_molmoact2_tiny
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `serve` to the command."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a checkpoint over HTTP, as existing /act servers do",
        description="Serves a checkpoint over HTTP.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="folder of a checkpoint, or a Hub id: owner/name[@revision]")
    add("--base-checkpoint", metavar="DIR", help="of a checkpoint that LeRobot saved: the one its training began from")
    add("--tag", help="norm tag where a request names none (default: the checkpoint's only one)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1); others need --token-file")
    add("--port", type=int, default=8202, help="port (default: 8202; 0: any that is free)")
    add("--token-file", metavar="FILE", help="clients must send the token in its first line; its owner's alone")
    add(
        "--image-keys", metavar="KEYS",
        help="names of images, main first: a,b,c, or yam, yamc, droid, libero, panda, xarm (default: by the tag)",
    )
    add("--depth", choices=["off", "full", "adaptive", "verified"], default="off", help="of plain requests")
    add("--cache-policy", choices=["bounded", "reference"], default="bounded", help="of adaptive depth")
    add("--action-mode", choices=["continuous", "discrete"], default="continuous", help="of plain requests")
    add("--fast-tokenizer", type=Path, metavar="DIR", help="FAST tokenizer folder, for discrete actions")
    add("--num-steps", type=int, default=0, metavar="N", help="flow steps where a request names none")
    add("--n-action-steps", type=int, default=0, metavar="N", help="waypoints where a request names none")
    add("--patience", type=float, default=30.0, metavar="S", help="a request waits so long for its turn (default: 30)")
    add("--most-mib", type=int, default=32, metavar="MIB", help="largest body that is taken (default: 32)")
    add("--device", default="cpu", help="torch device (default: cpu)")
    add("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    add("--threads", type=int, default=0, help="processor threads of the engine (default: torch's)")
    add_arguments(parser)
    add_noise_scale(parser)
    add("--no-warm-up", action="store_true", help="serve at once; the first answers are slow")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand until it is ended. Errors: ModelError."""
    from .server import check_reach, listen
    from .tokens import Token

    _check(args)
    token = Token.from_file(args.token_file) if args.token_file else None
    check_reach(args.host, token)
    listener = listen(args.host, args.port)
    try:
        server, service = _make(args, token, listener)
        if not args.no_warm_up:
            service.warm_up()
    except BaseException:
        listener.close()
        raise
    orders = " or ".join(",".join(order) for order in service.about()["image_keys"])
    print(f"{args.checkpoint} ({service.options.tag}), images: {orders or 'images'}", flush=True)
    print(f"serving {server.url}/act{'' if token is None else ', with a token'}; end it with Ctrl-C", flush=True)
    server.run()
    return 0


def _check(args: argparse.Namespace) -> None:
    from .fields import MOST_STEPS

    for name, least, most in (("port", 0, 65535), ("num_steps", 0, MOST_STEPS), ("n_action_steps", 0, 1000),
                              ("most_mib", 1, 1024), ("threads", 0, 1024)):
        if not least <= getattr(args, name) <= most:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {getattr(args, name)}, expected {least} .. {most}")
    if not 0 < args.patience <= 3600:
        raise InputError(f"--patience is {args.patience:g}, expected seconds above 0, at most 3600")
    EngineOptions.of(args).check(args.depth, args.action_mode, args.device)
    check_noise_scale(args.noise_scale, args.action_mode)


def _make(args: argparse.Namespace, token, listener):
    from ..checkpoint import find_checkpoint
    from ..fingerprints import fingerprint
    from ..policy import MolmoAct2Policy, set_threads
    from .app import App
    from .cameras import read_names
    from .extension import SessionSettings
    from .metrics import Metrics
    from .server import HttpServer
    from .service import ServeOptions, Service
    from .wire import WireError

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if args.threads:
        set_threads(args.threads)
    try:
        names = read_names(args.image_keys) if args.image_keys else ()
    except WireError as error:
        raise InputError(f"--{error}") from None
    policy = MolmoAct2Policy.from_pretrained(
        args.checkpoint, device=args.device, dtype=args.dtype, base_checkpoint=args.base_checkpoint,
        optimizations=EngineOptions.of(args).switches(), language_weights=args.language_weights, offload=args.offload,
    )
    if args.tag is None and len(policy.norm_tags) > 1:
        raise InputError(f"the checkpoint has several norm tags; name one with --tag: {', '.join(policy.norm_tags)}")
    options = ServeOptions(
        tag=args.tag or policy.norm_tags[0],
        settings=SessionSettings(
            depth=args.depth, action_mode=args.action_mode, cache_policy=args.cache_policy, draft=args.draft,
            solver=args.solver, noise_scale=args.noise_scale,
        ),
        num_steps=args.num_steps,
        n_action_steps=args.n_action_steps,
        image_keys=names,
        fast_tokenizer=args.fast_tokenizer,
        patience=args.patience,
        most_bytes=args.most_mib * 2**20,
    )
    sum_of_files = fingerprint(find_checkpoint(args.checkpoint))
    service = Service(policy, sum_of_files, options)
    metrics = Metrics(policy.name, sum_of_files, lambda: service.engine.waiting, lambda: service.session_count)
    return HttpServer(service, App(service, metrics, token), listener), service
