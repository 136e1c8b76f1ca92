# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Each cell of a depth image has one distance, and a codebook fitted to them loses little of it."""

import json

import numpy as np
import pytest

from molmoact2_model.depth import METRES, read_codebook, write_codebook
from molmoact2_model.errors import InputError
from molmoact2_model.training.depth_cells import cell_depths, rule
from molmoact2_model.training.depth_codebook import DepthCounts, coding_error, encode, fit


def flat(depth=800, size=(40, 50)):
    return np.full(size, depth, np.uint16)


def slow_cell(image, row, col, quantile):
    """The rule of one cell, pixel by pixel."""
    height, width = image.shape
    pixels = [
        int(image[y, x])
        for y in range(height) for x in range(width)
        if int((y + 0.5) * 10 / height) == row and int((x + 0.5) * 10 / width) == col
    ]
    measured = sorted(pixel for pixel in pixels if pixel)
    assert len(measured) >= 0.1 * len(pixels)
    return measured[int(quantile * (len(measured) - 1))]


@pytest.mark.parametrize("size", [(40, 50), (37, 53), (10, 17)])
@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.5, 1.0])
def test_a_cell_is_an_equal_share_of_the_image_whatever_its_aspect(size, quantile):
    rng = np.random.default_rng(0)
    image = rng.integers(1, 65536, size).astype(np.uint16)
    if size[0] > 10:
        image[rng.random(size) < 0.2] = 0
    wanted = [slow_cell(image, row, col, quantile) for row in range(10) for col in range(10)]
    assert cell_depths(image, quantile).tolist() == wanted


def test_what_fills_more_than_a_quarter_of_a_cell_shows_and_a_single_wrong_pixel_does_not():
    image = flat()
    image[4:8, 5:7] = 500    # 8 of 20 pixels of cell (1, 1)
    image[0, 0] = 20    # one of 20 of cell (0, 0)
    depths = cell_depths(image).reshape(10, 10)
    assert depths[1, 1] == 500
    depths[1, 1] = 800
    assert (depths == 800).all()


def test_a_distance_is_one_that_was_measured_not_a_mean_of_near_and_far():
    image = flat(size=(40, 40))
    image[:, ::2] = 400
    assert set(cell_depths(image).tolist()) <= {400, 800}


def test_a_hole_takes_the_farthest_of_the_measured_cells_nearest_to_it():
    image = flat()
    image[4:8] = 0    # the second row of cells
    image[0:4, 10:15] = 300    # the cell above (1, 2)
    image[8:12, 10:15] = 600    # the one below it
    image[8:12, 20:25] = 700
    depths = cell_depths(image).reshape(10, 10)
    assert depths[1, 2] == 600
    assert depths[1, 4] == 800


def test_a_cell_of_which_hardly_anything_was_measured_counts_as_a_hole():
    image = flat()
    image[4:8, 5:10] = 0
    image[4, 5] = 100    # 1 of 20
    assert cell_depths(image).reshape(10, 10)[1, 1] == 800
    image[4, 6] = 100    # 2 of 20
    assert cell_depths(image).reshape(10, 10)[1, 1] == 100


def test_an_image_of_which_nothing_was_measured_has_no_distances():
    assert cell_depths(flat(0)) is None


@pytest.mark.parametrize("image", [flat(size=(9, 50)), flat().astype(np.float32), flat()[..., None]])
def test_what_is_no_depth_image_is_refused(image):
    with pytest.raises(InputError, match="expected uint16"):
        cell_depths(image)


@pytest.mark.parametrize("quantile", [-0.1, 1.1, float("nan")])
def test_a_quantile_that_is_no_share_is_refused(quantile):
    with pytest.raises(InputError, match="quantile is"):
        rule(quantile)


# --- the codebook -----------------------------------------------------------------------------------------------------
def counted(depths):
    seen = DepthCounts()
    seen.add(np.asarray(depths, np.uint16))
    return seen


@pytest.fixture(scope="module")
def scene():
    """Much between 0.3 and 0.5 m, some at 1 m, a wall at 2 m."""
    rng = np.random.default_rng(1)
    parts = rng.normal(400, 30, 60_000), rng.normal(1000, 80, 6_000), rng.normal(2000, 5, 3_000)
    return np.concatenate(parts).round().astype(np.uint16)


def test_larger_codes_are_farther_and_no_two_are_the_same(scene):
    values = fit(counted(scene)).values
    assert values.size == 128 and values.dtype == np.float32
    assert (np.diff(values) > 0).all()
    assert scene.min() / 1000 <= values[0] and values[-1] <= scene.max() / 1000


def test_each_entry_is_the_mean_of_the_distances_that_are_coded_with_it(scene):
    codebook = fit(counted(scene))
    codes = encode(scene, codebook)
    assert codes.dtype == np.int16
    for code in np.unique(codes):
        assert codebook.values[code] == pytest.approx(scene[codes == code].mean() / 1000, abs=2e-6)


def test_entries_stand_where_the_data_are_and_the_error_is_far_below_even_steps(scene):
    seen = counted(scene)
    codebook = fit(seen)
    even = type(codebook)(np.linspace(scene.min(), scene.max(), 128, dtype=np.float32) / 1000, METRES, "farther", "")
    assert (codebook.values < 0.5).sum() > 3 * (even.values < 0.5).sum()
    assert coding_error(seen, codebook).mean < coding_error(seen, even).mean / 3


def test_the_error_that_is_told_is_that_of_the_codes(scene):
    seen = counted(scene)
    codebook = fit(seen, entries=12)
    errors = np.abs(scene - codebook.values[encode(scene, codebook)].astype(np.float64) * 1000)
    told = coding_error(seen, codebook)
    assert told.mean == pytest.approx(errors.mean())
    assert told.largest == pytest.approx(errors.max())
    assert told.p95 == pytest.approx(np.quantile(errors, 0.95, method="inverted_cdf"))


def test_fewer_distances_than_entries_are_coded_without_error():
    seen = counted([300] * 50 + [301] * 20 + [950] * 9)
    codebook = fit(seen)
    assert coding_error(seen, codebook).largest < 0.01
    assert (np.diff(codebook.values) > 0).all()


def test_what_is_beyond_the_farthest_counts_as_that_far(scene):
    codebook = fit(counted(scene), farthest=1.2)
    assert codebook.values[-1] == pytest.approx(1.2, abs=1e-3)
    assert encode(np.array([60_000], np.uint16), codebook) == [127]


@pytest.mark.parametrize(("depths", "named"), [([], "no cell was measured"), ([750] * 9, "every cell is 0.750 m away")])
def test_nothing_to_tell_apart_is_nothing_to_fit(depths, named):
    with pytest.raises(InputError, match=named):
        fit(counted(depths))


def test_a_fitted_codebook_is_read_back_to_the_last_bit(tmp_path, scene):
    codebook = fit(counted(scene))
    write_codebook(tmp_path / "depth_codebook.json", codebook)
    again = read_codebook(tmp_path / "depth_codebook.json")
    np.testing.assert_array_equal(again.values, codebook.values)
    assert again.unit == METRES
    assert [path.name for path in tmp_path.iterdir()] == ["depth_codebook.json"]
    assert "larger" not in json.loads((tmp_path / "depth_codebook.json").read_text())
