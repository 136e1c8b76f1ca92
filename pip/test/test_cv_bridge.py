# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What users of cv_bridge may rely on, with raw images."""

import struct
from array import array

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from cv_bridge import CvBridge, CvBridgeError, getCvType
from sensor_msgs.msg import Image
from std_msgs.msg import Header

BRIDGE = CvBridge()
COLOURS = [f"{name}{bits}" for name in ("mono", "rgb", "bgr", "rgba", "bgra") for bits in (8, 16)]
BAYER = [f"bayer_{pattern}{bits}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)]
YUV = ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"]
GENERIC = [f"{depth}C{n}" for depth in ("8U", "8S", "16U", "16S", "32S", "32F", "64F") for n in (1, 2, 3, 4, 5)]
EVERY_ENCODING = COLOURS + BAYER + YUV + GENERIC + ["8U", "16U", "32F"]
RED, GREEN, BLUE = 200, 100, 50


def message(encoding: str, width: int, height: int, step: int, data: bytes, is_bigendian: bool = False) -> Image:
    msg = Image(encoding=encoding, width=width, height=height, step=step, is_bigendian=int(is_bigendian))
    msg.data = data
    return msg


def flat(encoding: str, dtype: str, *values: int) -> Image:
    """An image of 4 x 2 pixels, all alike."""
    pixels = np.full((2, 4, len(values)), values, dtype=dtype)
    return message(encoding, 4, 2, pixels.nbytes // 2, pixels.tobytes())


def random_image(encoding: str, seed: int = 0) -> np.ndarray:
    dtype, channels = BRIDGE.encoding_to_dtype_with_channels(encoding)
    data = np.random.default_rng(seed).integers(0, 256, 6 * 8 * channels * np.dtype(dtype).itemsize, dtype=np.uint8)
    image = data.view(dtype).reshape((6, 8) if channels == 1 else (6, 8, channels))
    return np.nan_to_num(image)


# --- messages of hand-made bytes ----------------------------------------------------------------------------
def test_pixels_of_rgb_are_rows_columns_channels():
    image = BRIDGE.imgmsg_to_cv2(message("rgb8", 2, 2, 6, bytes(range(12))))
    assert image.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert image.dtype == np.uint8


def test_padding_at_the_end_of_rows_is_left_out_even_if_no_whole_pixel_fits_in_it():
    rows = bytes([1, 2, 3, 4, 5, 6, 255, 255, 7, 8, 9, 10, 11, 12, 255, 255])
    image = BRIDGE.imgmsg_to_cv2(message("bgr8", 2, 2, 8, rows))
    assert image.tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    odd = struct.pack("<2HB2HB", 1, 2, 9, 3, 4, 9)
    assert BRIDGE.imgmsg_to_cv2(message("mono16", 2, 2, 5, odd)).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("order", "is_bigendian"), [("<", False), (">", True)])
def test_16_bit_float_and_double_pixels_are_read_in_the_byte_order_of_the_message(order, is_bigendian):
    for encoding, code, values in (
        ("16UC1", "H", [0, 1, 256, 65535]),
        ("mono16", "H", [500, 1000, 1500, 65000]),
        ("16SC1", "h", [-32768, -1, 1, 32767]),
        ("32SC1", "i", [-(2**31), -1, 1, 2**31 - 1]),
        ("32FC1", "f", [0.25, -1.5, 3.0, float("inf")]),
        ("64FC1", "d", [1e300, 0.1, -7.0, 2.0]),
    ):
        data = struct.pack(f"{order}4{code}", *values)
        image = BRIDGE.imgmsg_to_cv2(message(encoding, 2, 2, len(data) // 2, data, is_bigendian))
        assert image.ravel().tolist() == values
        assert image.dtype.isnative


def test_big_endian_colours_with_padding_are_converted_like_any_other():
    data = struct.pack(">3H2B3H2B", 1, 2, 3, 9, 9, 4, 5, 6, 9, 9)
    image = BRIDGE.imgmsg_to_cv2(message("rgb16", 1, 2, 8, data, True), "bgr16")
    assert image.tolist() == [[[3, 2, 1]], [[6, 5, 4]]]


def test_float_depth_keeps_metres_and_missing_values():
    data = struct.pack("<4f", 0.5, float("nan"), 1.25, float("inf"))
    depth = BRIDGE.imgmsg_to_cv2(message("32FC1", 2, 2, 8, data))
    np.testing.assert_array_equal(depth, np.array([[0.5, np.nan], [1.25, np.inf]], np.float32))


def test_an_image_without_padding_shares_memory_with_the_message_and_a_converted_one_does_not():
    msg = message("rgb8", 2, 1, 6, bytes(6))
    shared, converted, same = (BRIDGE.imgmsg_to_cv2(msg, to) for to in ("passthrough", "bgr8", "rgb8"))
    msg.data[0] = 77
    assert shared[0, 0, 0] == 77
    assert not converted.any() and not same.any()
    shared[0, 1, 2] = 88
    assert msg.data[5] == 88


def test_padded_and_swapped_images_are_copies():
    for msg in (message("mono8", 2, 2, 3, bytes(6)), message("mono16", 1, 1, 2, bytes(2), True)):
        image = BRIDGE.imgmsg_to_cv2(msg)
        msg.data[0] = 1
        assert not image.any()


def test_read_only_data_give_a_read_only_image():
    msg = Image(encoding="mono8", width=2, height=1, step=2)
    msg._data = bytes(2)
    assert not BRIDGE.imgmsg_to_cv2(msg).flags.writeable
    assert BRIDGE.imgmsg_to_cv2(msg, "bgr8").flags.writeable


# --- messages written ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", EVERY_ENCODING)
def test_every_encoding_goes_there_and_back(encoding):
    original = random_image(encoding)
    header = Header(stamp=Time(sec=3, nanosec=4), frame_id="camera")
    msg = BRIDGE.cv2_to_imgmsg(original, encoding, header)
    assert (msg.encoding, msg.height, msg.width, msg.header) == (encoding, 6, 8, header)
    assert msg.step * msg.height == len(msg.data) == original.nbytes
    back = BRIDGE.imgmsg_to_cv2(msg)
    assert back.dtype == original.dtype
    np.testing.assert_array_equal(back, original)


@pytest.mark.parametrize("encoding", [name for name in EVERY_ENCODING if not name.startswith("8")])
def test_every_encoding_goes_there_and_back_in_big_endian(encoding):
    original = random_image(encoding)
    msg = BRIDGE.cv2_to_imgmsg(original.astype(original.dtype.newbyteorder(">")), encoding)
    assert bool(msg.is_bigendian) == (original.itemsize > 1)
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(msg), original)


def test_passthrough_names_the_type_of_the_array():
    for shape, dtype, encoding in (
        ((2, 3), "uint8", "8UC1"),
        ((2, 3, 1), "uint16", "16UC1"),
        ((2, 3, 3), "uint8", "8UC3"),
        ((2, 3, 4), "float32", "32FC4"),
        ((2, 3), "float64", "64FC1"),
    ):
        assert BRIDGE.cv2_to_imgmsg(np.zeros(shape, dtype)).encoding == encoding


def test_the_pixels_are_copied_also_from_views_that_are_not_contiguous():
    original = random_image("bgr8")
    view = original[::2, ::-1]
    msg = BRIDGE.cv2_to_imgmsg(view, "bgr8")
    expected = view.copy()
    original[:] = 0
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(msg), expected)


# --- conversions --------------------------------------------------------------------------------------------
def colour_values(name: str, scale: int) -> list[int]:
    values = {"r": RED * scale, "g": GREEN * scale, "b": BLUE * scale, "a": 255 * scale}
    return [values[letter] for letter in name]


@pytest.mark.parametrize("source", [name for name in COLOURS if not name.startswith("mono")])
@pytest.mark.parametrize("target", [name for name in COLOURS if not name.startswith("mono")])
def test_colours_are_reordered_alpha_is_opaque_and_8_and_16_bit_mean_the_same_range(source, target):
    names = [encoding.rstrip("0123456789") for encoding in (source, target)]
    bits = [int(encoding[len(name) :]) for encoding, name in zip((source, target), names, strict=True)]
    scales = [1 if depth == 8 else 257 for depth in bits]
    msg = flat(source, f"uint{bits[0]}", *colour_values(names[0], scales[0]))
    image = BRIDGE.imgmsg_to_cv2(msg, target)
    assert image.shape == (2, 4, len(names[1])) and image.dtype == f"uint{bits[1]}"
    assert image[1, 2].tolist() == colour_values(names[1], scales[1])


@pytest.mark.parametrize("source", [name for name in COLOURS if not name.startswith("mono")])
def test_colours_become_grey_by_their_weights_and_grey_becomes_colour(source):
    name, scale = source.rstrip("0123456789"), 257 if source.endswith("16") else 1
    grey = BRIDGE.imgmsg_to_cv2(flat(source, f"uint{16 if scale > 1 else 8}", *colour_values(name, scale)), "mono8")
    assert grey.shape == (2, 4)
    assert abs(int(grey[0, 0]) - (0.299 * RED + 0.587 * GREEN + 0.114 * BLUE)) <= 1
    back = BRIDGE.imgmsg_to_cv2(flat("mono8", "uint8", 90), source)
    assert back[0, 0].tolist() == [90 * scale] * 3 + ([255 * scale] if "a" in name else [])


def test_16_bit_is_rounded_to_8_as_opencv_does_and_8_bit_becomes_16_exactly():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    down = BRIDGE.imgmsg_to_cv2(BRIDGE.cv2_to_imgmsg(every, "mono16"), "mono8")
    np.testing.assert_array_equal(down, cv2.convertScaleAbs(every, alpha=255.0 / 65535.0))
    up = BRIDGE.imgmsg_to_cv2(BRIDGE.cv2_to_imgmsg(np.array([[0, 1, 128, 255]], np.uint8), "mono8"), "mono16")
    assert up.tolist() == [[0, 257, 128 * 257, 65535]]


@pytest.mark.parametrize("encoding", BAYER)
def test_a_bayer_mosaic_of_one_colour_becomes_that_colour(encoding):
    pattern, bits = encoding[6:10], int(encoding[10:])
    scale = 1 if bits == 8 else 257
    tile = np.array(colour_values(pattern, scale), f"uint{bits}").reshape(2, 2)
    msg = BRIDGE.cv2_to_imgmsg(np.tile(tile, (4, 4)), encoding)
    for target in ("rgb", "bgr"):
        image = BRIDGE.imgmsg_to_cv2(msg, f"{target}{bits}")
        assert image[3, 3].tolist() == image[4, 5].tolist() == colour_values(target, scale)
    with pytest.raises(CvBridgeError, match="unsupported conversion"):
        BRIDGE.imgmsg_to_cv2(msg, "bgra8")


@pytest.mark.parametrize(("encoding", "layout"), list(zip(YUV, ("UYVY", "UYVY", "YUYV", "YUYV"), strict=True)))
def test_yuv422_has_its_brightness_where_its_name_says(encoding, layout):
    bright = {"U": 128, "V": 128, "Y": 180}
    data = bytes(bright[letter] for letter in layout) * 4
    msg = message(encoding, 4, 2, 8, data)
    assert (BRIDGE.imgmsg_to_cv2(msg, "mono8") == 180).all()
    for target, channels in (("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("bgra8", 4)):
        image = BRIDGE.imgmsg_to_cv2(msg, target)
        assert image.shape == (2, 4, channels)
        # Video range: 16 is black and 235 white.
        assert np.ptp(image[..., :3]) == 0 and abs(int(image[0, 0, 0]) - round((180 - 16) * 255 / 219)) <= 1
    red = {"U": 90, "V": 240, "Y": 81}
    image = BRIDGE.imgmsg_to_cv2(message(encoding, 4, 2, 8, bytes(red[letter] for letter in layout) * 4), "rgb8")
    assert image[0, 0, 0] > 240 and image[0, 0, 1:].max() < 20


def test_numbers_without_colour_change_depth_but_never_turn_into_colours():
    depth = BRIDGE.cv2_to_imgmsg(np.array([[0, 1500, 65535]], np.uint16), "16UC1")
    assert BRIDGE.imgmsg_to_cv2(depth, "32FC1").tolist() == [[0.0, 1500.0, 65535.0]]
    metres = BRIDGE.cv2_to_imgmsg(np.array([[1.4, 2.5, -3.0, 7e4, np.nan]], np.float32), "32FC1")
    assert BRIDGE.imgmsg_to_cv2(metres, "16UC1").tolist() == [[1, 2, 0, 65535, 0]]
    with pytest.raises(CvBridgeError, match="says nothing about colour"):
        BRIDGE.imgmsg_to_cv2(depth, "mono8")
    with pytest.raises(CvBridgeError, match="1 and 3 channels"):
        BRIDGE.imgmsg_to_cv2(depth, "16UC3")
    colour = flat("bgr8", "uint8", 1, 2, 3)
    assert BRIDGE.imgmsg_to_cv2(colour, "8UC3")[0, 0].tolist() == [1, 2, 3]
    with pytest.raises(CvBridgeError, match="3 and 1 channels"):
        BRIDGE.imgmsg_to_cv2(colour, "8UC1")


# --- errors -------------------------------------------------------------------------------------------------
def test_malformed_messages_are_refused_and_the_error_names_what_is_wrong():
    for msg, said in (
        (message("rgb8", 2, 2, 5, bytes(10)), "a row takes 6 bytes, but step is 5"),
        (message("rgb8", 2, 2, 6, bytes(11)), "height \\* step is 12, but there are 11 bytes"),
        (message("rgb8", 2, 2, 6, bytes(13)), "but there are 13 bytes"),
        (message("rgb8", 0, 2, 6, bytes(12)), "the image is empty"),
        (message("", 2, 2, 6, bytes(12)), "unrecognized image encoding \\[\\]"),
        (message("8UC0", 2, 2, 6, bytes(12)), "unrecognized image encoding"),
        (message("nv21", 2, 2, 2, bytes(6)), "unrecognized image encoding \\[nv21\\]"),
    ):
        with pytest.raises(CvBridgeError, match=said):
            BRIDGE.imgmsg_to_cv2(msg)


def test_conversions_that_make_no_sense_are_refused():
    for msg, target, said in (
        (flat("rgb8", "uint8", 1, 2, 3), "no_such_encoding", "unrecognized image encoding"),
        (
            flat("rgb8", "uint8", 1, 2, 3),
            "bayer_rggb8",
            "unsupported conversion from \\[rgb8\\] to \\[bayer_rggb8\\]",
        ),
        (flat("rgb8", "uint8", 1, 2, 3), "yuv422", "unsupported conversion"),
        (message("yuv422", 3, 1, 6, bytes(6)), "rgb8", "cannot convert this image"),
    ):
        with pytest.raises(CvBridgeError, match=said):
            BRIDGE.imgmsg_to_cv2(msg, target)


def test_arrays_that_do_not_fit_their_encoding_are_refused():
    for array_, encoding, said in (
        (np.zeros((2, 2, 3), np.uint8), "rgba8", "8UC3 cannot be sent as \\[rgba8\\], which is 8UC4"),
        (np.zeros((2, 2), np.uint16), "mono8", "16UC1 cannot be sent as \\[mono8\\]"),
        (np.zeros((2, 2), bool), "passthrough", "no image encoding has bool pixels"),
        (np.zeros((2, 2), np.int64), "passthrough", "int64"),
        (np.zeros((2,), np.uint8), "passthrough", "expected \\(height, width\\)"),
        (np.zeros((0, 2), np.uint8), "passthrough", "no zero"),
        ([[1, 2]], "mono8", "expected a numpy array, got list"),
    ):
        with pytest.raises(CvBridgeError, match=said):
            BRIDGE.cv2_to_imgmsg(array_, encoding)
    assert issubclass(CvBridgeError, TypeError)


# --- types --------------------------------------------------------------------------------------------------
def test_types_are_opencvs():
    assert BRIDGE.encoding_to_cvtype2("bgr8") == getCvType("rgb8") == cv2.CV_8UC3
    assert getCvType("8U") == getCvType("mono8") == getCvType("bayer_rggb8") == cv2.CV_8UC1
    assert getCvType("32FC4") == cv2.CV_32FC4
    for encoding in COLOURS + BAYER + YUV + GENERIC:
        assert BRIDGE.cvtype2_to_dtype_with_channels(BRIDGE.encoding_to_cvtype2(encoding)) == (
            BRIDGE.encoding_to_dtype_with_channels(encoding)
        )
    assert BRIDGE.dtype_with_channels_to_cvtype2(np.dtype("uint16"), 3) == "16UC3"
    assert BRIDGE.encoding_to_dtype_with_channels("bgr8") == ("uint8", 3)


def test_data_that_are_a_list_or_an_array_of_bytes_read_alike():
    msg = Image(encoding="mono8", width=2, height=1, step=2)
    for data in ([1, 2], array("B", [1, 2]), np.array([1, 2], np.uint8), memoryview(b"\x01\x02")):
        msg._data = data
        assert BRIDGE.imgmsg_to_cv2(msg).tolist() == [[1, 2]]
