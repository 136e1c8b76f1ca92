# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth codes stand beside the data they were made of, whole or not at all, and say what they mean."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow
import pytest
from depth_sets import IMAGE, box_at, depth_of, depth_set, image_of
from PIL import Image
from pyarrow import parquet

from molmoact2_contract import cli
from molmoact2_data.companions import Companion
from molmoact2_data.layout import DatasetError
from molmoact2_data.reader import Dataset
from molmoact2_data.streaming import Share, Source
from molmoact2_model.depth import METRES
from molmoact2_model.picture import scale_colours
from molmoact2_model.think import Codes, ReferencePolicy, Request
from molmoact2_model.training.depth_buffer import CodeBuffer
from molmoact2_model.training.depth_cells import cell_depths
from molmoact2_model.training.depth_store import DepthCodes, common_codebook

LENGTHS = (6, 4)


@pytest.fixture
def data(tmp_path):
    return depth_set(tmp_path / "data", LENGTHS)


def depth(*arguments) -> int:
    return cli.main(["depth", *map(str, arguments)])


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def codebook_file(path: Path, values, unit="m") -> Path:
    larger = {"larger": "nearer"} if unit == "relative" else {}
    path.write_text(json.dumps({"format": "molmoact2_depth_codebook.v1", "unit": unit, **larger, "values": values}))
    return path


def test_every_frame_has_the_codes_of_the_entries_nearest_to_its_cells(data, tmp_path, capsys):
    file = codebook_file(tmp_path / "book.json", [0.25, 0.35, 0.5, 0.7, 0.9])
    assert depth("annotate", data, "--codebook", file) == 0
    store = DepthCodes(data)
    assert (store.camera, store.grid) == ("front", (10, 10))
    for episode, length in enumerate(LENGTHS):
        codes = store.of_episode(episode)
        assert list(codes) == list(range(length))
        for frame in codes:
            metres = cell_depths(depth_of(episode, frame)) / 1000
            wanted = [min(range(5), key=lambda code: abs(store.codebook().values[code] - value)) for value in metres]
            assert codes[frame].dtype == np.int16
            assert codes[frame].tolist() == wanted
            box = codes[frame].reshape(10, 10)[3:6, max(1, box_at(frame)) : box_at(frame) + 2]
            assert store.codebook().decode(box.astype(int)).values.max() < 0.4
    assert "codes of 10 frames" in capsys.readouterr().out


def test_the_companion_has_the_columns_that_other_readers_expect(data):
    assert depth("annotate", data) == 0
    rows = Companion(data, "depth_codes").rows(1)
    assert [row["frame_index"] for row in rows] == [0, 1, 2, 3]
    assert {row["camera"] for row in rows} == {"front"}
    assert {len(row["codes"]) for row in rows} == {100}


def test_training_frames_come_with_their_codes(data):
    assert depth("annotate", data) == 0
    (frame,) = Source(Share(data), horizon=2).frames(Dataset(data).episodes[1], [3])
    assert frame.depth_codes.tolist() == DepthCodes(data).of_episode(1)[3].tolist()


def test_a_fitted_codebook_is_metric_has_128_entries_and_its_error_is_told(data, tmp_path, capsys):
    assert depth("fit", data, "-o", tmp_path / "depth_codebook.json", "--every", 1) == 0
    told = capsys.readouterr().out
    assert "codebook of 128 distances, 0.300 to 0.8" in told and "from 10 frames" in told
    assert "mm mean" in told and "mm at 95 %" in told
    assert depth("annotate", data, "--fit", "--every", 1) == 0
    codebook = DepthCodes(data).codebook()
    assert (codebook.unit, codebook.values.size) == (METRES, 128)
    assert codebook.values.tolist() == json_values(tmp_path / "depth_codebook.json")
    assert depth("fit", data, "-o", tmp_path / "depth_codebook.json") == 2
    assert "is there already; remove it or choose another file" in capsys.readouterr().err
    codes = DepthCodes(data).of_episode(0)[2].astype(int)
    measured = cell_depths(depth_of(0, 2)) / 1000
    np.testing.assert_allclose(codebook.decode(codes.reshape(10, 10)).values.ravel(), measured, atol=0.002)


def json_values(path):
    return np.array(json.loads(path.read_text())["values"], np.float32).tolist()


def test_a_frame_of_which_nothing_was_measured_has_no_codes_and_is_counted(tmp_path, capsys):
    def blind(episode, frame):
        return np.zeros_like(depth_of(episode, frame)) if (episode, frame) == (0, 2) else depth_of(episode, frame)

    data = depth_set(tmp_path / "data", LENGTHS, blind)
    assert depth("annotate", data) == 0
    assert "codes of 9 frames; 1 without a measurement have none" in capsys.readouterr().out
    assert list(DepthCodes(data).of_episode(0)) == [0, 1, 3, 4, 5]
    assert DepthCodes(data).about["frames_without_codes"] == 1


def test_a_data_set_of_which_nothing_was_measured_is_refused(tmp_path, capsys):
    data = depth_set(tmp_path / "data", (3,), lambda episode, frame: np.zeros((30, 40), np.uint16))
    file = codebook_file(tmp_path / "book.json", [0.3, 0.6])
    assert depth("annotate", data, "--codebook", file) == 2
    assert "no frame has a depth measurement" in capsys.readouterr().err
    assert not (data / "annotations").exists()


# --- whole or not at all ----------------------------------------------------------------------------------------------
def test_codes_that_are_there_are_replaced_only_when_told(data, tmp_path, capsys):
    assert depth("annotate", data) == 0
    before = content(data)
    file = codebook_file(tmp_path / "book.json", [0.3, 0.6])
    assert depth("annotate", data, "--codebook", file) == 2
    assert "--force replaces them" in capsys.readouterr().err
    assert content(data) == before
    assert depth("annotate", data, "--codebook", file, "--force") == 0
    assert DepthCodes(data).codebook().values.tolist() == pytest.approx([0.3, 0.6])
    assert max(DepthCodes(data).of_episode(0)[0]) == 1


def spoil(data, change):
    """Changes the depth column of the data file."""
    (path,) = (data / "data").rglob("*.parquet")
    table = parquet.read_table(path)
    column = table.column_names.index("observation.depth.front")
    cells = table[column].to_pylist()
    change(cells)
    field = table.schema.field(column)
    parquet.write_table(table.set_column(column, field, pyarrow.array(cells, field.type)), path)


def png(image) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ({"bytes": b"no picture", "path": None}, "not a PNG of 16 bits"),
        ({"bytes": png(np.zeros((30, 40), np.uint8)), "path": None}, "not a PNG of 16 bits"),
        ({"bytes": png(np.ones((20, 40), np.uint16)), "path": None}, r"shape (20, 40), (30, 40) is stated"),
        ({"bytes": None, "path": "depth/8.png"}, "images that lie in files of their own are not read"),
    ],
)
def test_a_wrong_depth_image_is_named_and_what_was_there_stays(data, tmp_path, capsys, cell, named):
    file = codebook_file(tmp_path / "book.json", [0.3, 0.6])
    assert depth("annotate", data) == 0
    spoil(data, lambda cells: cells.__setitem__(8, cell))
    before = content(data)
    assert depth("annotate", data, "--codebook", file, "--force") == 2
    error = capsys.readouterr().err
    assert named in error and "episode 1, frame 2" in error
    assert content(data) == before


def test_codes_of_a_run_that_was_cut_short_count_as_none_and_are_replaced(data):
    assert depth("annotate", data) == 0
    (data / "meta/depth_codes.json").unlink()
    with pytest.raises(DatasetError, match="has no depth codes; make them: molmoact2 depth annotate"):
        DepthCodes(data)
    assert depth("annotate", data) == 0
    assert len(DepthCodes(data).of_episode(0)) == 6


def test_codes_that_do_not_fit_their_description_are_refused(data):
    assert depth("annotate", data) == 0
    about = data / "meta/depth_codes.json"
    wrong = json.loads(about.read_text())
    for change, named in (({"format": "v2"}, "format is 'v2'"), ({"cells": {}}, "cells.grid")):
        about.write_text(json.dumps({**wrong, **change}))
        with pytest.raises(DatasetError, match=named):
            DepthCodes(data)
    about.write_text(json.dumps({**wrong, "cells": {"grid": [4, 4]}}))
    with pytest.raises(DatasetError, match="frame 0 has 100 depth codes, not 16"):
        DepthCodes(data).of_episode(0)


# --- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--camera", "wrist"), "has no observation.depth.wrist; cameras with depth: front"),
        (("--quantile", 2), "quantile is 2.0"),
        (("--every", 0), "--every is 0"),
        (("--farthest", -1), "--farthest is -1.0"),
        (("--buffer", -3), "--buffer is -3"),
        (("--codebook", "none.json"), "none.json is missing"),
        (("--vqvae", "none.pt"), "none.pt: no such file"),
        (("--vqvae", "/dev/null"), "/dev/null: cannot be read as weights: EOFError"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(data, capsys, options, named):
    before = content(data)
    assert depth("annotate", data, *options) == 2
    assert named in capsys.readouterr().err
    assert content(data) == before


@pytest.mark.parametrize(
    "change", [{"dtype": "float32"}, {"shape": [30, 40, 3]}, {"info": {"unit": "m"}}, {"info": {"depth_unit": "m"}}]
)
def test_depth_images_of_another_kind_are_refused(data, capsys, change):
    info = json.loads((data / "meta/info.json").read_text())
    info["features"]["observation.depth.front"].update(change)
    (data / "meta/info.json").write_text(json.dumps(info))
    assert depth("annotate", data) == 2
    assert "expected 'image' of shape [h, w, 1] in mm" in capsys.readouterr().err


def test_a_codebook_without_a_scale_cannot_code_distances(data, tmp_path, capsys):
    file = codebook_file(tmp_path / "book.json", [0.3, 0.6], "relative")
    assert depth("annotate", data, "--codebook", file) == 2
    assert "unit is 'relative'" in capsys.readouterr().err


def test_all_data_sets_are_looked_at_before_the_first_is_annotated(data, tmp_path, capsys):
    assert depth("annotate", data, tmp_path / "nothing") == 2
    assert "is no LeRobot dataset" in capsys.readouterr().err
    assert not (data / "annotations").exists()


def test_a_buffer_needs_the_images_of_the_camera(tmp_path, capsys):
    data = depth_set(tmp_path / "data", LENGTHS, camera="above")
    assert depth("annotate", data, "--camera", "above", "--buffer") == 2
    assert "has no images of camera 'above', which --buffer compares; it has: front" in capsys.readouterr().err


# --- several data sets ------------------------------------------------------------------------------------------------
def test_data_sets_that_are_named_together_are_coded_alike_and_others_are_not_mixed(data, tmp_path):
    other = depth_set(tmp_path / "other", (3,), lambda episode, frame: depth_of(episode, frame) * 2)
    assert depth("annotate", data, other) == 0
    stores = [DepthCodes(data), DepthCodes(other)]
    assert common_codebook(stores).values[-1] > 1.5
    assert depth("annotate", other, "--force") == 0
    with pytest.raises(DatasetError, match="depth codes by another codebook; one model cannot learn both"):
        common_codebook([DepthCodes(data), DepthCodes(other)])


# --- the buffer -------------------------------------------------------------------------------------------------------
def test_codes_are_kept_and_taken_anew_where_adaptive_inference_would():
    """The reference policy of inference, run over the same frames, is asked which codes it generates."""
    rng = np.random.default_rng(3)
    frames = [image_of(frame) for frame in (0, 0, 1, 2, 4, 4, 6)]
    own = rng.integers(0, 128, (len(frames), 100)).astype(np.int16)
    policy, buffer, wanted = ReferencePolicy(10), CodeBuffer(10), None
    for image, codes in zip(frames, own, strict=True):
        request = Request(image, (image.shape,), "", "", 0.0)
        decision = policy.decide(request)
        wanted = np.where(decision.refreshed, codes, wanted if wanted is not None else codes)
        policy.commit(request, decision, Codes(wanted, np.ones(100), np.zeros(100)), 0.0)
        given, kept = buffer.step(image, codes)
        assert given.tolist() == wanted.tolist()
        assert kept == (~decision.refreshed).sum()


def test_a_buffer_of_several_frames_compares_with_the_inference_before():
    frames = [image_of(frame) for frame in (0, 6, 0, 6)]
    buffer = CodeBuffer(10, every=2)
    codes = [buffer.step(image, np.full(100, index, np.int16)) for index, image in enumerate(frames)]
    assert [set(row.tolist()) for row, _ in codes] == [{0}, {1}, {0}, {1}]
    assert [kept for _, kept in codes] == [0, 0, 100, 100]


def test_after_a_frame_without_codes_the_next_has_its_own():
    image, buffer = image_of(0), CodeBuffer(10)
    own = [np.full(100, index, np.int16) for index in range(4)]
    given = [buffer.step(image, codes)[0] for codes in (own[0], None, own[2], own[3])]
    assert given[1] is None
    assert [given[index][0] for index in (0, 2, 3)] == [0, 2, 2]


def test_buffered_codes_change_only_where_the_image_did(tmp_path, capsys):
    """Depth sinks everywhere from frame to frame; the image changes only where the box moves."""
    data = depth_set(tmp_path / "data", (4, 4), lambda episode, frame: depth_of(episode, frame) + np.uint16(40 * frame))
    assert depth("annotate", data, "--buffer") == 0
    assert "% of the codes kept from earlier ones" in capsys.readouterr().out
    about = DepthCodes(data).about
    assert about["buffer"] == {"every": 1, "similarity_threshold": 0.996}
    for episode in (0, 1):
        codes = DepthCodes(data).of_episode(episode)
        assert (codes[0] == codes[1]).all()    # the box moves with every other frame
        moved = (codes[1] != codes[2]).reshape(10, 10)
        assert moved[3:6, 0:3].any() and not moved[:, 4:].any() and not moved[:2].any() and not moved[7:].any()
    assert depth("annotate", data, "--force") == 0
    assert (DepthCodes(data).of_episode(0)[0] != DepthCodes(data).of_episode(0)[1]).mean() > 0.5


# --- the picture ------------------------------------------------------------------------------------------------------
def test_the_picture_shows_image_depth_and_codes_side_by_side(data, tmp_path):
    file = codebook_file(tmp_path / "book.json", [0.3, 0.6, 0.9])
    assert depth("annotate", data, "--codebook", file) == 0
    out = tmp_path / "picture.png"
    assert depth("show", data, "--episode", 1, "--frame", 2, "-o", out) == 0
    picture = np.asarray(Image.open(out))
    width = 480 * IMAGE[1] // IMAGE[0]
    assert picture.shape == (506, 3 * width + 2 * 12, 3)
    image, depth_panel, codes = (picture[:480, left : left + width] for left in (0, width + 12, 2 * (width + 12)))
    row, col = 4 * 48 + 24, int((box_at(2) + 1) * width / 10)
    assert image[row, col, 0] > 200 and image[row, col, 1] < 90    # the red box
    nearest = scale_colours(np.array([1.0]))
    assert (depth_panel[row, col] == nearest).all() and (codes[row, col] == nearest).all()
    assert (depth_panel[row, 5] == 200).all()    # not measured
    below, above = codes[470, width - 20].astype(int), codes[10, width - 20].astype(int)
    assert below.sum() > above.sum()    # near is bright


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--episode", 2, "--frame", 0, "-o", "a.png"), "no episode 2, frame 0; it has 2 episodes"),
        (("--episode", 1, "--frame", 4, "-o", "a.png"), "no episode 1, frame 4; it has frames 0 to 3"),
        (("--episode", 0, "--frame", 0, "-o", "a.jpg"), "pictures are written as .png"),
        (("--episode", 0, "--frame", 0, "-o", "nowhere/a.png"), "cannot be written"),
    ],
)
def test_a_frame_that_is_not_there_is_named(data, capsys, options, named):
    assert depth("annotate", data) == 0
    assert depth("show", data, *options) == 2
    assert named in capsys.readouterr().err


# --- the data set -----------------------------------------------------------------------------------------------------
def test_an_interruption_leaves_what_was_there(data):
    """Ctrl-C comes with the second episode; the run is a process of its own."""
    before = content(data)
    program = """
import os, signal, sys
from molmoact2_contract import cli
from molmoact2_data.reader import Dataset
real = Dataset.depth
def depth(dataset, episode, camera):
    if episode.index == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return real(dataset, episode, camera)
Dataset.depth = depth
sys.exit(cli.main(["depth", "annotate", sys.argv[1], "--codebook", sys.argv[2]]))
"""
    file = codebook_file(data.parent / "book.json", [0.3, 0.6])
    # As at a terminal: whoever runs tests in the background has them ignore Ctrl-C.
    command = ["env", "--default-signal=INT", sys.executable, "-c", program, data, file]
    done = subprocess.run(command, check=False, env=os.environ)
    assert done.returncode == 130
    assert content(data) == before
    assert sorted(path.name for path in data.iterdir()) == ["data", "meta", "videos"]


def test_the_data_set_itself_is_not_touched(data):
    before = content(data)
    assert depth("annotate", data, "--buffer") == 0
    after = content(data)
    assert {name: after[name] for name in before} == before
    assert len(list(Dataset(data).samples(Dataset(data).episodes[1]))) == 4
