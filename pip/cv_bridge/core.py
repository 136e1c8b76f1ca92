# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""CvBridge: between ROS image messages and numpy arrays as OpenCV uses them."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from .encodings import DEPTHS, CvBridgeError, Layout, convert, getCvType, layout_of, layout_of_cvtype

# What a format keeps as it is. OpenCV silently makes 8 bit of anything else, which would ruin a depth image.
_KEEPS = {
    "uint8": None,
    "uint16": {"png", "tif", "tiff", "pgm", "ppm", "pnm", "jp2"},
    "float32": {"tif", "tiff", "exr", "hdr", "pfm"},
}
_KEEPS_OTHERS = {"tif", "tiff"}


class CvBridge:
    """Converts images; holds no state. All failures are CvBridgeError."""

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> np.ndarray:
        """A sensor_msgs/Image as an array (height, width) or (height, width, channels) in native byte order.

        "passthrough" leaves the pixels as they are. If rows have no padding and the byte order is this
        machine's, the array then shares memory with img_msg.data: writing to one writes to the other, it is
        read-only where the data are, and array.array refuses to be resized while it lives. In all other cases
        the array is a copy.
        """
        layout = layout_of(img_msg.encoding)
        image = _pixels(img_msg, layout)
        if desired_encoding == "passthrough":
            return image
        return convert(image, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(self, cvim: np.ndarray, encoding: str = "passthrough", header: Header | None = None) -> Image:
        """An array (height, width[, channels]) as a sensor_msgs/Image with a copy of the pixels.

        encoding says what the channels mean and must fit the array; nothing is converted. "passthrough"
        writes the generic one (8UC3, ...), which tells receivers nothing about colour.
        """
        cvtype = _checked_cvtype(cvim)
        if encoding == "passthrough":
            encoding = cvtype
        elif layout_of(encoding).cvtype != cvtype:
            raise CvBridgeError(
                f"an image of type {cvtype} cannot be sent as [{encoding}], which is {layout_of(encoding).cvtype}"
            )
        msg = Image(encoding=encoding, height=cvim.shape[0], width=cvim.shape[1])
        if header is not None:
            msg.header = header
        msg.is_bigendian = int(_is_bigendian(cvim.dtype))
        msg.step = cvim.nbytes // cvim.shape[0]
        data = array("B")
        data.frombytes(np.ascontiguousarray(cvim).reshape(-1).view(np.uint8).data)
        msg.data = data
        return msg

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = "passthrough"
    ) -> np.ndarray:
        """Decodes a sensor_msgs/CompressedImage to (height, width) or (height, width, channels).

        "passthrough" gives what OpenCV decodes: BGR, BGRA or grey, 8 or 16 bit as in the file. Another
        encoding is converted from that. The message's format is not read: the data say what they are.
        """
        image = None
        data = _bytes_of(cmprs_img_msg.data)
        if data.size:
            try:
                image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            except cv2.error as error:
                raise CvBridgeError(f"cannot decode an image of format [{cmprs_img_msg.format}]: {error}") from error
        if image is None:
            raise CvBridgeError(
                f"cannot decode {data.size} bytes of format [{cmprs_img_msg.format}]: "
                "damaged, or no format OpenCV reads "
                "(compressedDepth puts a header of its own before the picture)"
            )
        if desired_encoding == "passthrough":
            return image
        channels = 1 if image.ndim == 2 else image.shape[2]
        colour = {1: "mono", 3: "bgr", 4: "bgra"}.get(channels)
        depth = {"uint8": 8, "uint16": 16}.get(image.dtype.name)
        if colour is None or depth is None:
            return convert(image, _checked_cvtype(image), desired_encoding)
        return convert(image, f"{colour}{depth}", desired_encoding)

    def cv2_to_compressed_imgmsg(self, cvim: np.ndarray, dst_format: str = "jpg") -> CompressedImage:
        """Encodes an array (BGR, BGRA or grey); dst_format is OpenCV's file ending and the message's format.

        An array whose depth the format cannot keep is refused. The header is left for the caller to fill.
        """
        _checked_cvtype(cvim)
        keeps = _KEEPS.get(cvim.dtype.name, _KEEPS_OTHERS)
        if keeps is not None and dst_format not in keeps:
            raise CvBridgeError(
                f"format [{dst_format}] cannot keep {cvim.dtype.name} pixels; use one of {', '.join(sorted(keeps))}"
            )
        # OpenCV knows only this machine's byte order.
        native = np.ascontiguousarray(cvim, dtype=cvim.dtype.newbyteorder("="))
        try:
            done, encoded = cv2.imencode(f".{dst_format}", native)
        except cv2.error as error:
            raise CvBridgeError(f"cannot encode this image as [{dst_format}]: {error}") from error
        if not done:
            raise CvBridgeError(f"OpenCV did not encode this image as [{dst_format}]")
        data = array("B")
        data.frombytes(encoded.reshape(-1).data)
        return CompressedImage(format=dst_format, data=data)

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype, n_channels: int) -> str:
        """OpenCV's name of a type: (uint8, 3) is 8UC3."""
        name = np.dtype(dtype).name
        if name not in DEPTHS:
            raise CvBridgeError(f"no image encoding has {name} pixels; convert to one of {', '.join(DEPTHS)}")
        return Layout(name, n_channels).cvtype

    def cvtype2_to_dtype_with_channels(self, cvtype: int) -> tuple[str, int]:
        """numpy dtype name and channels: cv2.CV_8UC3 is ("uint8", 3)."""
        return layout_of_cvtype(cvtype)

    def encoding_to_cvtype2(self, encoding: str) -> int:
        """OpenCV's number: "bgr8" is cv2.CV_8UC3."""
        return getCvType(encoding)

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """numpy dtype name and channels: "bgr8" is ("uint8", 3)."""
        layout = layout_of(encoding)
        return layout.dtype, layout.channels


def _checked_cvtype(cvim: Any) -> str:
    if not isinstance(cvim, np.ndarray):
        raise CvBridgeError(f"expected a numpy array, got {type(cvim).__name__}")
    if cvim.ndim not in (2, 3) or cvim.size == 0:
        raise CvBridgeError(f"expected (height, width) or (height, width, channels) and no zero, got {cvim.shape}")
    return CvBridge().dtype_with_channels_to_cvtype2(cvim.dtype, 1 if cvim.ndim == 2 else cvim.shape[2])


def _is_bigendian(dtype: np.dtype) -> bool:
    return dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big")


def _bytes_of(data: Any) -> np.ndarray:
    """A message's uint8[] as an array, shared where it is a buffer."""
    if isinstance(data, (list, tuple)):
        return np.array(data, dtype=np.uint8)
    return np.frombuffer(data, dtype=np.uint8)


def _pixels(msg: Image, layout: Layout) -> np.ndarray:
    """The pixels in native byte order without padding, sharing memory with the message where that can be."""
    native = np.dtype(layout.dtype)
    pixel = native.itemsize * layout.channels
    buffer = _bytes_of(msg.data)
    what = f"{msg.width} x {msg.height} [{msg.encoding}]"
    if msg.width == 0 or msg.height == 0:
        raise CvBridgeError(f"the image is empty: {what}")
    if msg.step < msg.width * pixel:
        raise CvBridgeError(f"{what}: a row takes {msg.width * pixel} bytes, but step is {msg.step}")
    if buffer.size != msg.height * msg.step:
        raise CvBridgeError(
            f"{what}: height * step is {msg.height * msg.step}, but there are {buffer.size} bytes of data"
        )
    shape: tuple[int, ...] = (msg.height, msg.width)
    strides: tuple[int, ...] = (msg.step, pixel)
    if layout.channels > 1:
        shape, strides = (*shape, layout.channels), (*strides, native.itemsize)
    wire = native.newbyteorder(">" if msg.is_bigendian else "<")
    image = np.ndarray(shape, wire, buffer, strides=strides)
    return np.require(image, dtype=native, requirements=("C", "ALIGNED"))
