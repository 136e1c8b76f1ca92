# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What users of cv_bridge may rely on, with compressed images."""

import cv2
import numpy as np
import pytest
from cv_bridge import CvBridge, CvBridgeError
from sensor_msgs.msg import CompressedImage

BRIDGE = CvBridge()


def gradient(channels: int, dtype: str = "uint8") -> np.ndarray:
    """A smooth picture (24, 32[, channels]), which JPEG keeps well; channels differ."""
    ramp = np.add.outer(np.arange(24) * 4, np.arange(32) * 3)
    planes = [ramp // (index + 1) + 20 * index for index in range(channels)]
    image = planes[0] if channels == 1 else np.stack(planes, axis=-1)
    return image.astype(dtype) * np.array(200 if dtype == "uint16" else 1, dtype)


@pytest.mark.parametrize("dst_format", ["jpg", "jpeg", "jpe", "png", "bmp", "dib", "tif", "tiff", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_survives_each_format_which_is_written_in_the_message(dst_format, channels):
    original = gradient(channels)
    msg = BRIDGE.cv2_to_compressed_imgmsg(original, dst_format)
    assert msg.format == dst_format
    image = BRIDGE.compressed_imgmsg_to_cv2(msg)
    if dst_format == "webp" and channels == 1:
        # WebP has no grey.
        image = image[..., 0]
    assert image.shape == original.shape and image.dtype == np.uint8
    loss = 6 if dst_format in ("jpg", "jpeg", "jpe", "webp") else 0
    assert np.abs(image.astype(int) - original).max() <= loss


def test_the_default_is_jpg():
    msg = BRIDGE.cv2_to_compressed_imgmsg(gradient(3))
    assert msg.format == "jpg" and bytes(msg.data[:2]) == b"\xff\xd8"


def test_png_keeps_alpha_and_16_bit_depth():
    for original in (gradient(4), gradient(1, "uint16"), gradient(3, "uint16")):
        back = BRIDGE.compressed_imgmsg_to_cv2(BRIDGE.cv2_to_compressed_imgmsg(original, "png"))
        assert back.dtype == original.dtype
        np.testing.assert_array_equal(back, original)


def test_big_endian_pixels_are_encoded_by_value():
    original = gradient(1, "uint16")
    msg = BRIDGE.cv2_to_compressed_imgmsg(original.astype(">u2"), "png")
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(msg), original)


def test_float_depth_is_kept_by_tiff():
    original = np.linspace(0, 3, 24 * 32, dtype=np.float32).reshape(24, 32)
    back = BRIDGE.compressed_imgmsg_to_cv2(BRIDGE.cv2_to_compressed_imgmsg(original, "tiff"))
    np.testing.assert_array_equal(back, original)
    wanted = BRIDGE.compressed_imgmsg_to_cv2(BRIDGE.cv2_to_compressed_imgmsg(original, "tiff"), "64FC1")
    np.testing.assert_array_equal(wanted, original.astype(np.float64))


def test_decoded_colours_are_converted_from_opencvs_order():
    bgr = gradient(3)
    msg = BRIDGE.cv2_to_compressed_imgmsg(bgr, "png")
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(msg, "bgr8"), bgr)
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(msg, "rgb8"), bgr[..., ::-1])
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(msg, "rgba8")[..., 3], 255)
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(msg, "mono8"), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))


def test_grey_alpha_and_16_bit_pictures_are_converted_from_what_they_are():
    grey = BRIDGE.cv2_to_compressed_imgmsg(gradient(1), "png")
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(grey, "rgb8"), np.stack([gradient(1)] * 3, -1))
    alpha = BRIDGE.cv2_to_compressed_imgmsg(gradient(4), "png")
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(alpha, "rgb8"), gradient(4)[..., 2::-1])
    deep = BRIDGE.cv2_to_compressed_imgmsg(gradient(1, "uint16"), "png")
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(deep, "mono16"), gradient(1, "uint16"))
    np.testing.assert_array_equal(BRIDGE.compressed_imgmsg_to_cv2(deep, "16UC1"), gradient(1, "uint16"))
    assert BRIDGE.compressed_imgmsg_to_cv2(deep, "mono8").dtype == np.uint8


def test_what_cannot_be_decoded_is_an_error_and_not_none():
    whole = BRIDGE.cv2_to_compressed_imgmsg(gradient(3), "png")
    for data in (b"", b"no picture", bytes(whole.data[:20]), b"\0" * 12 + bytes(whole.data)):
        with pytest.raises(CvBridgeError, match="cannot decode"):
            BRIDGE.compressed_imgmsg_to_cv2(CompressedImage(format="16UC1; compressedDepth png", data=data))


def test_a_format_that_cannot_keep_the_depth_is_refused():
    with pytest.raises(CvBridgeError, match=r"\[jpg\] cannot keep uint16 pixels; use one of .*png"):
        BRIDGE.cv2_to_compressed_imgmsg(gradient(1, "uint16"))
    with pytest.raises(CvBridgeError, match=r"\[png\] cannot keep float32"):
        BRIDGE.cv2_to_compressed_imgmsg(gradient(1, "float32"), "png")
    with pytest.raises(CvBridgeError, match=r"\[png\] cannot keep int16"):
        BRIDGE.cv2_to_compressed_imgmsg(gradient(1, "int16"), "png")


def test_what_cannot_be_encoded_is_refused():
    for image, dst_format in ((gradient(3), "no_such_format"), (gradient(2), "jpg")):
        with pytest.raises(CvBridgeError, match="encode this image"):
            BRIDGE.cv2_to_compressed_imgmsg(image, dst_format)
    with pytest.raises(CvBridgeError, match="expected a numpy array"):
        BRIDGE.cv2_to_compressed_imgmsg("picture")
