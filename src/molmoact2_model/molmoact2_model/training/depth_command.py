# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 depth`: depth codes of data sets, for training with depth reasoning."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from molmoact2_data.reader import Dataset

    from .depth_annotate import Fitted
    from .depth_encoders import DepthEncoder

OK, BAD_INPUT = 0, 2
CAMERA, EVERY = "front", 5


def register(subparsers: Any) -> None:
    depth = subparsers.add_parser(
        "depth",
        help="depth codes of data sets, to train depth reasoning with",
        description="Makes the depth codes that a model with depth reasoning learns, from the depth images of LeRobot "
        "data sets. Exit code: 0 when done, 2 for bad input.",
    )
    actions = depth.add_subparsers(title="actions", metavar="ACTION", required=True)
    _register_annotate(actions)
    _register_fit(actions)
    _register_show(actions)


def _register_annotate(actions: Any) -> None:
    parser = actions.add_parser(
        "annotate",
        help="write 10 x 10 codes for every frame, beside the data",
        description="Writes annotations/depth_codes and meta/depth_codes.json into each data set. What trains on "
        "several needs them coded alike: name them in one call, or use one --codebook.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--codebook", type=Path, metavar="FILE", help="a depth_codebook.json in metres")
    source.add_argument("--fit", action="store_true", help="a codebook fitted to all DATA (default)")
    source.add_argument("--vqvae", type=Path, metavar="FILE", help="VQ-VAE of the published layout (.pt, .safetensors)")
    _add_data(parser)
    add = parser.add_argument
    add("--buffer", type=int, nargs="?", const=1, default=0, metavar="K",
        help="keep codes where the image did not change since the frame K before, as adaptive inference does every K "
        "frames (K: 1, the reference's)")
    add("--force", action="store_true", help="replace codes that are there")
    parser.set_defaults(func=_run, action=_annotate)


def _register_fit(actions: Any) -> None:
    parser = actions.add_parser(
        "fit", help="fit a codebook of 128 distances", description="Writes a codebook in metres, fitted to all DATA."
    )
    _add_data(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="depth_codebook.json to write")
    parser.set_defaults(func=_run, action=_fit)


def _add_data(parser: argparse.ArgumentParser) -> None:
    from .depth_cells import QUANTILE

    add = parser.add_argument
    add("data", type=Path, nargs="+", metavar="DATA", help="folder of a LeRobot data set with depth images")
    add("--camera", default=CAMERA, help="the model's main camera (default: %(default)s)")
    add("--quantile", type=float, default=QUANTILE, metavar="SHARE",
        help="a cell's distance: this share of its measured pixels is nearer; 0.5: the median (default: %(default)s)")
    add = parser.add_argument_group("of fitting").add_argument
    add("--every", type=int, default=EVERY, metavar="N", help="look at every Nth frame (default: %(default)s)")
    add("--farthest", type=float, default=float("inf"), metavar="M", help="take what is farther for this far [m]")


def _register_show(actions: Any) -> None:
    parser = actions.add_parser(
        "show", help="a picture of one frame: image, depth, codes", description="Draws one frame that has depth codes."
    )
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder of a data set with depth codes")
    add("--episode", type=int, required=True, metavar="N")
    add("--frame", type=int, required=True, metavar="K", help="of the episode, from 0")
    add("--vqvae", type=Path, metavar="FILE", help="the network that the codes were made with, to decode them")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="picture to write (.png)")
    parser.set_defaults(func=_run, action=_show)


def _run(args: argparse.Namespace) -> int:
    """Errors of the model's side end in the command itself."""
    from molmoact2_data.layout import DatasetError

    try:
        args.action(args)
        return OK
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: cannot be written: {error}", file=sys.stderr)
    return BAD_INPUT


def _annotate(args: argparse.Namespace) -> None:
    from .depth_annotate import annotate, check_place

    if args.buffer < 0:
        raise InputError(f"--buffer is {args.buffer}, expected a number of frames, or 0 for none")
    datasets = _datasets(args)
    for dataset in datasets:
        check_place(dataset, args.force)
    encoder = _encoder(args, datasets)
    for dataset in datasets:
        done = annotate(dataset, args.camera, encoder, args.buffer, args.force, sys.stderr.isatty())
        kept = f", {done.kept:.0%} of the codes kept from earlier ones" if args.buffer else ""
        without = f"; {done.without} without a measurement have none" if done.without else ""
        print(f"{dataset.root}: codes of {done.frames} frames{kept}{without}")
    error = encoder.error()
    if error is not None:
        print(f"error of coding: {error}")


def _encoder(args: argparse.Namespace, datasets: list[Dataset]) -> DepthEncoder:
    from .depth_encoders import CodebookEncoder, NetworkEncoder, metric_codebook

    if args.vqvae is not None:
        return NetworkEncoder(args.vqvae)
    codebook = metric_codebook(args.codebook) if args.codebook is not None else _fitted(args, datasets).codebook
    return CodebookEncoder(codebook, args.quantile)


def _fit(args: argparse.Namespace) -> None:
    from ..depth import write_codebook

    if args.out.exists():
        raise InputError(f"-o {args.out} is there already; remove it or choose another file")
    if not args.out.parent.is_dir():
        raise InputError(f"-o {args.out}: there is no folder {args.out.parent}")
    fitted = _fitted(args, _datasets(args))
    write_codebook(args.out, fitted.codebook)
    print(f"error of coding the frames it was fitted to: {fitted.error}\n\n{args.out}")


def _fitted(args: argparse.Namespace, datasets: list[Dataset]) -> Fitted:
    from .depth_annotate import fit_codebook

    if args.every < 1:
        raise InputError(f"--every is {args.every}, expected at least 1")
    if not args.farthest > 0:
        raise InputError(f"--farthest is {args.farthest}, expected metres over 0")
    show = sys.stderr.isatty()
    fitted = fit_codebook(datasets, args.camera, args.quantile, args.every, args.farthest, show)
    values = fitted.codebook.values
    print(f"codebook of {values.size} distances, {values[0]:.3f} to {values[-1]:.3f} m, from {fitted.frames} frames")
    return fitted


def _datasets(args: argparse.Namespace) -> list[Dataset]:
    """All that are wrong are refused before anything is done."""
    from .depth_annotate import with_depth
    from .depth_cells import rule

    rule(args.quantile)
    return [with_depth(root, args.camera) for root in args.data]


def _show(args: argparse.Namespace) -> None:
    from .depth_show import depth_row

    if args.out.suffix != ".png":
        raise InputError(f"-o {args.out}: pictures are written as .png")
    depth_row(args.data, args.episode, args.frame, args.vqvae).save(args.out)
    print(args.out)
