# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What depth codes mean is known before they are learnt: of which camera they are, and by which codebook."""

import json

import pytest
from test_training import golden_data, recipe_of
from training_sets import METRES, described, toy_set

from molmoact2_data.layout import DatasetError
from molmoact2_model import InputError
from molmoact2_model.depth import CODEBOOK_FILE
from molmoact2_model.training.annotations import add_codebook
from molmoact2_model.training.depth_store import ABOUT
from molmoact2_model.training.recipe import load_recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return toy_set(tmp_path_factory.mktemp("data") / "toy", episodes=1)


@pytest.fixture
def data(made):
    """Described anew each time."""
    return described(made, METRES)


@pytest.fixture
def work(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def recipe(folder, *paths, **changes):
    first, *others = paths
    changes |= {"data": [{"path": str(path)} for path in (first, *others)]}
    return load_recipe(recipe_of(folder, first, **changes))


def by_network(root):
    about = json.loads((root / ABOUT).read_text())
    del about["codebook"]
    (root / ABOUT).write_text(json.dumps(about | {"network": {"file": "vae.pt", "sha256": "00", "codes": 8}}))


def test_the_codebook_of_the_data_becomes_the_checkpoints(data, tmp_path, work):
    add_codebook(recipe(tmp_path, data), work)
    assert json.loads((work / CODEBOOK_FILE).read_text())["values"] == METRES
    add_codebook(recipe(tmp_path, data), work)    # the same one again


def test_codes_of_another_camera_than_the_main_one_are_refused(data, tmp_path, work):
    said = "are of camera 'front', and the main one of the recipe is 'wrist'.*--force --camera wrist"
    with pytest.raises(InputError, match=said):
        add_codebook(recipe(tmp_path, data, cameras=["wrist", "front"]), work)


def test_codes_that_nothing_describes_are_refused(data, tmp_path, work):
    (data / ABOUT).unlink()
    with pytest.raises(InputError, match=r"has depth codes, and meta/depth_codes.json.* is missing; annotate anew"):
        add_codebook(recipe(tmp_path, data), work)


def test_a_set_without_codes_is_refused_also_beside_one_with_them(data, tmp_path, work):
    bare = golden_data(tmp_path / "bare")
    with pytest.raises(InputError, match="bare has no depth codes; run molmoact2 depth annotate"):
        add_codebook(recipe(tmp_path, data, bare), work)


def test_a_networks_codes_are_not_read_by_a_codebook_that_the_checkpoint_has(data, tmp_path, work):
    by_network(data)
    add_codebook(recipe(tmp_path, data), work)
    assert not (work / CODEBOOK_FILE).exists()
    (work / CODEBOOK_FILE).write_text(json.dumps({"values": METRES}))
    with pytest.raises(InputError, match="are a network's, and the checkpoint has depth_codebook.json"):
        add_codebook(recipe(tmp_path, data), work)


def test_sets_that_were_coded_differently_are_not_learnt_together(data, tmp_path, work):
    other = toy_set(tmp_path / "other", episodes=1)
    by_network(other)
    with pytest.raises(DatasetError, match="have depth codes by another codebook"):
        add_codebook(recipe(tmp_path, data, other), work)
