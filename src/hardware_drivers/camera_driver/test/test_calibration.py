# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from calibration_file import TEXT

from camera_driver.calibration import check_fits, load_calibration
from camera_driver.source import CameraError


def load(tmp_path, text: str):
    path = tmp_path / "front.yaml"
    path.write_text(text)
    return load_calibration(path)


def test_a_file_of_cameracalibrator_is_read_as_it_is(tmp_path):
    found = load(tmp_path, TEXT)
    assert (found.width, found.height, found.distortion_model) == (640, 480, "plumb_bob")
    assert found.k == (610.5, 0, 320.25, 0, 611, 240.75, 0, 0, 1)
    assert found.d == (0.1, -0.2, 0.001, 0.002, 0)
    assert found.p[:4] == (600, 0, 321, 0) and len(found.p) == 12


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("image_width: 640", "image_width: -1", "image_width is -1"),
        ("image_height: 480", "", "image_height is None"),
        ("610.5", "0", "focal lengths 0 and 611"),
        ("320.25", "900", "centre at 900, 240.75, outside 640 x 480"),
        ("610.5", ".nan", "camera_matrix holds something that is no finite number"),
        ("data: [1, 0, 0, 0, 1, 0, 0, 0, 1]", "data: [1, 0]", "rectification_matrix has 2 numbers"),
        ("cols: 4", "cols: 3", "projection_matrix has 12 numbers in data, and rows 3 and cols 3"),
        ("plumb_bob", "fisheye", "distortion_model is 'fisheye'; it must be one of plumb_bob"),
        ("plumb_bob", "equidistant", "distortion_coefficients has 5 numbers; equidistant has 4"),
        (TEXT, "front", "holds no keys"),
        (TEXT, "a: [", "is no YAML"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_with_its_path_and_the_key(tmp_path, old, new, named):
    with pytest.raises(CameraError) as refused:
        load(tmp_path, TEXT.replace(old, new, 1))
    assert named in str(refused.value) and "front.yaml" in str(refused.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(CameraError, match="nothing.yaml cannot be read: No such file"):
        load_calibration("/nowhere/nothing.yaml")


def test_a_calibration_of_another_size_is_refused_with_both_sizes(tmp_path):
    calibration = load(tmp_path, TEXT)
    check_fits(calibration, "front.yaml", "camera x", 640, 480)
    with pytest.raises(CameraError, match="front.yaml is for 640 x 480 px, camera x delivers 320 x 240"):
        check_fits(calibration, "front.yaml", "camera x", 320, 240)
