# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of traces and depth, without a graph."""

import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from tiny_robot import time_of
from view_samples import START, trace

from molmoact2_model.depth import CODE, METRES, RELATIVE, DepthMap
from molmoact2_msgs.msg import ReasoningTrace
from molmoact2_policy.view import depth_views
from molmoact2_policy.view.depth_views import Intrinsics
from molmoact2_policy.view.draw import REFRESHED
from molmoact2_policy.view.images import ImageStore
from molmoact2_policy.view.messages import cloud_message
from molmoact2_policy.view.overlay import HEAD, overlay

CAMERA = Intrinsics.of(320, 240, [300, 0, 160, 0, 300, 120, 0, 0, 1], [0.0] * 5, "plumb_bob")


def cell(pixels: np.ndarray, row: int, col: int) -> np.ndarray:
    """(48, 64, 3): one cell of an overlay 640 wide."""
    return pixels[HEAD + 48 * row : HEAD + 48 * (row + 1), 64 * col : 64 * (col + 1)]


def test_the_overlay_tints_refreshed_cells_shows_ages_and_marks_unsure_codes_red():
    grey = np.full((240, 320, 3), 128, np.uint8)
    pixels = overlay(grey, trace()).astype(int)
    assert pixels.shape[1] == 640
    middle = np.array([[cell(pixels, row, col)[24, 20] for col in range(10)] for row in range(10)])
    assert (np.abs(middle[1:] - 128) <= 2).all(), "the image itself can be seen in reused cells"
    assert (middle[0, :, 0] - middle[0, :, 2] > 30).all() and REFRESHED[0] > REFRESHED[2]
    corners = np.array([cell(pixels, row, 5)[6, 40:60] for row in range(10)])
    assert np.abs(corners[1:] - 128).max(axis=(1, 2)).min() > 60, "each reused cell has an age chip"
    chips = [int(cell(pixels, row, 5)[4, 58:60].sum()) for row in (1, 5, 9)]
    assert chips[0] > chips[1] > chips[2], "which darkens with age"
    reddest = np.array([(cell(pixels, row, 3)[..., 0] - cell(pixels, row, 3)[..., 1]).max() for row in range(1, 10)])
    assert reddest[-1] > 150 and (reddest[:-1] < 130).all()


def test_the_overlay_says_mode_and_cause_and_why_a_chunk_was_held_back():
    image = np.zeros((240, 320, 3), np.uint8)
    heads = [
        overlay(image, trace(**changed))[:HEAD].tobytes()
        for changed in ({}, {"cause": "main_image_changed"}, {"withheld": "camera front is black"})
    ]
    assert len(set(heads)) == 3


def test_the_overlay_of_a_trace_without_depth_is_the_image():
    image = np.full((240, 320, 3), 90, np.uint8)
    empty = {"codes": [], "refreshed": [], "cell_ages": [], "code_probs": [], "grid_rows": 0, "grid_cols": 0}
    pixels = overlay(image, trace(depth_mode=ReasoningTrace.DEPTH_OFF, **empty))
    assert (pixels[HEAD : HEAD + 480] == 90).all()


# --- depth ------------------------------------------------------------------------------------------------------------
def depth_map(unit: str, larger: str = "") -> DepthMap:
    values = np.linspace(0.2, 2.0, 100, dtype=np.float32).reshape(10, 10)
    return DepthMap(values, unit, larger, (0.2, 2.0), "a test")


def test_points_of_metric_depth_lie_where_the_camera_sees_them():
    xyz, colours = depth_views.points(depth_map(METRES, "farther"), CAMERA, (0.3, 1.0))
    xyz, side = xyz.reshape(40, 40, 3), 40
    assert colours.shape == (1600, 3)
    for row, col in ((0, 0), (17, 30), (39, 39)):
        u, v = (col + 0.5) / side * 320, (row + 0.5) / side * 240
        z = depth_map(METRES, "farther").values[row // 4, col // 4]
        np.testing.assert_allclose(xyz[row, col], [(u - 160) / 300 * z, (v - 120) / 300 * z, z], rtol=1e-4, atol=1e-6)


def test_points_of_relative_depth_stay_within_the_display_range_and_codes_lie_on_one_plane():
    nearer, _ = depth_views.points(depth_map(RELATIVE, "nearer"), CAMERA, (0.3, 1.0))
    farther, _ = depth_views.points(depth_map(RELATIVE, "farther"), CAMERA, (0.3, 1.0))
    assert (nearer[:, 2].min(), nearer[:, 2].max()) == pytest.approx((0.3, 1.0))
    np.testing.assert_allclose(nearer[:, 2], farther[::-1, 2], atol=1e-5)
    codes, _ = depth_views.points(depth_map(CODE), CAMERA, (0.3, 1.0))
    assert (codes[:, 2] == 1.0).all()


def test_lens_distortion_is_taken_out_of_the_rays():
    k, d = [300, 0, 160, 0, 300, 120, 0, 0, 1], [-0.2, 0.05, 0.001, -0.001, 0.0]
    bent = Intrinsics.of(320, 240, k, d, "plumb_bob").rays(40)
    matrix = np.array(k, float).reshape(3, 3)
    pixels, _ = cv2.projectPoints(bent.reshape(-1, 3), np.zeros(3), np.zeros(3), matrix, np.array(d))
    steps = (np.arange(40) + 0.5) / 40
    wanted = np.stack(np.meshgrid(steps * 320, steps * 240), axis=-1).reshape(-1, 2)
    assert np.abs(pixels[:, 0] - wanted).max() < 0.1
    assert np.abs(bent - CAMERA.rays(40)).max() > 0.005


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((320, 240, [0.0] * 9, [], "plumb_bob"), "has no calibration"),
        ((0, 0, [300, 0, 160, 0, 300, 120, 0, 0, 1], [], "plumb_bob"), "has no calibration"),
        ((320, 240, [float("nan"), 0, 160, 0, 300, 120, 0, 0, 1], [], ""), "has no calibration"),
        ((320, 240, [300, 0, 160, 0, 300, 120, 0, 0, 1], [0.1] * 4, "equidistant"), "distortion model 'equidistant'"),
    ],
)
def test_a_camera_that_is_not_calibrated_gives_no_points(arguments, named):
    with pytest.raises(ValueError, match=named):
        Intrinsics.of(*arguments)


def test_each_picture_of_depth_says_what_it_is():
    assert depth_views.words(depth_map(METRES, "farther")) == ("2.00 m", "0.20 m", "depth in metres (a test)")
    for depth in (depth_map(RELATIVE, "nearer"), depth_map(CODE)):
        said = " ".join(depth_views.words(depth))
        assert "metres" not in said and " m" not in said
    assert "not depth" in depth_views.words(depth_map(CODE))[2]


@pytest.mark.parametrize(("unit", "larger"), [(METRES, "farther"), (RELATIVE, "nearer"), (CODE, "")])
def test_the_grey_and_the_colour_picture_are_brighter_where_it_is_nearer(unit, larger):
    depth = depth_map(unit, larger)
    grey = depth_views.grey(depth, (320, 240)).astype(int)
    assert grey.shape == (240, 320)
    nearest = 0 if larger == "farther" else 239
    assert grey[nearest].mean() > 200 > 60 > grey[239 - nearest].mean()
    picture = depth_views.colour(depth, (640, 480)).astype(int)
    assert picture.shape == (480 + depth_views.FOOT, 640, 3)
    top, bottom = picture[2, 2:-2].sum(), picture[477, 2:-2].sum()
    assert (top > bottom) == (larger == "farther")


def test_a_smooth_map_is_shown_smoothly_and_cells_keep_their_edges():
    steps = np.array([[0.0, 1.0]], np.float32)
    assert set(np.unique(depth_views.resized(steps, (64, 8)))) == {0.0, 1.0}
    smooth = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    assert len(np.unique(depth_views.resized(smooth, (640, 64)))) > 100


def test_a_cloud_message_carries_points_and_colours_as_displays_read_them():
    xyz = np.arange(6, dtype=np.float32).reshape(2, 3)
    message = cloud_message(xyz, np.array([[255, 128, 0], [1, 2, 3]], np.uint8), trace().header)
    read = np.frombuffer(bytes(message.data), np.dtype([("xyz", "<f4", 3), ("rgb", "<u4")]))
    np.testing.assert_array_equal(read["xyz"], xyz)
    assert [hex(value) for value in read["rgb"]] == ["0xff8000", "0x10203"]
    assert [field.name for field in message.fields] == ["x", "y", "z", "rgb"]
    assert message.width * message.point_step == message.row_step == len(message.data)


# --- images -----------------------------------------------------------------------------------------------------------
def wire(stamp: int, pixels: int = 1000) -> bytes:
    message = Image(data=bytes(pixels))
    message.header.stamp, message.header.frame_id = time_of(stamp), "front"
    return serialize_message(message)


def test_images_are_found_by_exactly_their_stamp():
    store = ImageStore()
    assert store.put(wire(START)) == START
    assert store.get(START) is not None
    assert store.get(START + 1) is None and store.get(START - 1) is None


def test_images_take_a_bounded_amount_of_memory_and_the_oldest_go_first():
    one = len(wire(START))
    store = ImageStore(limit_bytes=3 * one)
    for index in range(10):
        store.put(wire(START + index))
        store.put(wire(START + index))    # the same twice counts once
        assert store.bytes <= 3 * one
    assert [store.get(START + index) is not None for index in range(10)] == [False] * 7 + [True] * 3
    store.drop_before(START + 9)
    assert store.bytes == one and store.get(START + 9) is not None
