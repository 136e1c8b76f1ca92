# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the data know of single frames, held against what a recipe asks of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from molmoact2_data.companions import ALTERNATIVES, DEPTH_CODES, FOLDER, POINTS, QUESTIONS, Companion
from molmoact2_data.keep import open_kept, parts_within

from ..config import read_json
from ..depth import CODEBOOK_FILE
from ..errors import InputError
from .depth_store import ABOUT, DepthCodes, common_codebook
from .recipe import Data, Recipe
from .samples import named_in


def add_codebook(recipe: Recipe, work: Path) -> dict[str, Any]:
    """What the data sets' depth codes mean becomes the checkpoint's, whose files are in `work`. Returns it: codebook or
    network, and how a cell's distance is taken. Errors: InputError or DatasetError where that is not known, not one
    thing for all, another than the checkpoint's, or said of another camera's images than the main one's."""
    stores = [_store(data, recipe.cameras[0]) for data in recipe.data]
    codebook, path = common_codebook(stores), work / CODEBOOK_FILE
    about = stores[0].about
    meaning = {key: about.get(key) for key in ("codebook", "network", "cells")}
    if codebook is None:
        if path.is_file():
            raise InputError(
                f"the depth codes of {stores[0].root} are a network's, and the checkpoint has {CODEBOOK_FILE}, by "
                "which they would be read as distances that they are not; annotate with the checkpoint's: molmoact2 "
                f"depth annotate DATA --force --codebook CHECKPOINT/{CODEBOOK_FILE}, or take that file away from it"
            )
        return meaning
    content = about["codebook"]
    if path.is_file() and read_json(path)["values"] != content["values"]:
        raise InputError(
            f"the depth codes of {stores[0].root} are by another codebook than the checkpoint's; annotate with the "
            f"latter: molmoact2 depth annotate DATA --force --codebook CHECKPOINT/{CODEBOOK_FILE}"
        )
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    # Where its values come from, in words, does not change what codes mean.
    return meaning | {"codebook": {key: value for key, value in content.items() if key != "source"}}


def _store(data: Data, camera: str) -> DepthCodes:
    root = open_kept(Path(data.path).expanduser())[0].root
    if not (root / ABOUT).is_file() and (root / FOLDER / DEPTH_CODES).is_dir():
        raise InputError(
            f"{root} has depth codes, and {ABOUT}, which says what they mean, is missing; annotate anew: molmoact2 "
            f"depth annotate {root} --force"
        )
    if not (root / ABOUT).is_file():
        raise InputError(f"{root} has no depth codes; run molmoact2 depth annotate {root}")
    store = DepthCodes(root)
    if store.camera != camera:
        raise InputError(
            f"the depth codes of {root} are of camera {store.camera!r}, and the main one of the recipe is {camera!r}; "
            f"annotate anew: molmoact2 depth annotate {root} --force --camera {camera}, or put {store.camera!r} first"
        )
    return store


def check_places(recipe: Recipe) -> str:
    """What `mix.places` cannot teach, in words: places in the second image, where no data set has any.

    Errors: InputError where it would teach nothing, because no instruction names a thing whose place in the main image
    is known. Reads no further than to the first one that does."""
    if not any(_names_one(data, recipe.cameras[0]) for data in recipe.data):
        paths = ", ".join(data.path for data in recipe.data)
        raise InputError(
            f"mix.places: no instruction in {paths} names a thing whose place in images of camera "
            f"{recipe.cameras[0]!r} is known ({FOLDER}/{POINTS}: a phrase stands in the instruction word for word); "
            "leave mix.places out, or add points (docs/datasets.md)"
        )
    second = recipe.cameras[1:2]
    if second and not any(_names_one(data, second[0]) for data in recipe.data):
        return f"no data say where a named thing is in images of camera {second[0]!r}: places are of the first alone"
    return ""


def check_questions(recipe: Recipe) -> str:
    """What `mix.questions` cannot teach, in words, where no data set has any. Errors: InputError where every frame is
    to have one."""
    for data in recipe.data:
        dataset, parts = parts_within(Path(data.path).expanduser(), data.selection)
        questions = Companion(dataset.root, QUESTIONS)
        if any(questions.rows(part.episode.index) for part in parts):
            return ""
    paths = ", ".join(data.path for data in recipe.data)
    why = f"{paths}: no questions ({FOLDER}/{QUESTIONS}), so that mix.questions teaches nothing"
    if recipe.mix.questions >= 1:
        raise InputError(f"{why}; set it to 0, or add questions (docs/datasets.md)")
    return why


def _names_one(data: Data, camera: str) -> bool:
    dataset, parts = open_kept(Path(data.path).expanduser())
    points, alternatives = Companion(dataset.root, POINTS), Companion(dataset.root, ALTERNATIVES)
    for part in parts:
        phrases = {row["phrase"] for row in points.rows(part.episode.index) if row["camera"] == camera}
        told = {part.episode.task} | {row["instruction"] for row in alternatives.rows(part.episode.index)}
        if any(named_in(instruction, phrases) for instruction in told):
            return True
    return False
