# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Images on their way into a bag and out of it."""

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from molmoact2_policy.bags.bag import Bag, BagError
from molmoact2_policy.bags.definitions import definitions_of
from molmoact2_policy.bags.metadata import Topic
from molmoact2_policy.bags.pictures import COMPRESSED, IMAGE, JPEG, LOSSLESS, SUFFIX, Pictures
from molmoact2_policy.bags.writer import STORAGES, BagWriter

STORE = get_typestore(Stores.ROS2_JAZZY)
HEIGHT, WIDTH = 24, 32


def image(encoding: str, channels: int, depth: int = 1, padding: int = 0, big: int = 0):
    step = WIDTH * channels * depth + padding
    data = np.random.default_rng(7).integers(0, 256, HEIGHT * step, np.uint8)
    stamp = STORE.types["builtin_interfaces/msg/Time"](12, 34)
    header = STORE.types["std_msgs/msg/Header"](stamp, "front")
    return STORE.types[IMAGE](header, HEIGHT, WIDTH, encoding, big, step, data)


def through_a_bag(path, mode, message, storage="mcap"):
    """(the bag's topics and types, the image that is read, whether the bag says that it is lossy)."""
    definitions = definitions_of([IMAGE, COMPRESSED])
    writer = None

    def as_it_came(topic):
        writer.add_topic(Topic(topic, definitions[IMAGE]))

    pictures = Pictures(mode, 90, {"/cam"}, as_it_came)
    writer = BagWriter(path, storage, facts=pictures.facts)
    writer.add_topic(Topic("/cam" + SUFFIX, definitions[COMPRESSED]))
    topic, data = pictures.change("/cam", bytes(STORE.serialize_cdr(message, IMAGE)))
    writer.write(topic, 10**9, data)
    writer.close()
    with AnyReader([path]) as reader:
        stored = {c.topic: c.msgtype for c in reader.connections if c.msgcount}
    with Bag(path) as bag:
        assert bag.problems == [] and bag.counts["/cam"] == 1 and bag.types == {"/cam": IMAGE}
        ((topic, typename, read, _),) = bag.messages({"/cam"})
        assert (topic, typename) == ("/cam", IMAGE)
        return stored, read, bag.lossy


def same(a, b) -> bool:
    def of(i):
        stamp = i.header.stamp.sec, i.header.stamp.nanosec, i.header.frame_id
        return *stamp, i.height, i.width, i.encoding, i.is_bigendian, i.step, i.data.tobytes()

    return of(a) == of(b)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("encoding", "channels", "depth"),
    [("rgb8", 3, 1), ("bgr8", 3, 1), ("rgba8", 4, 1), ("bgra8", 4, 1), ("mono8", 1, 1), ("bayer_rggb8", 1, 1),
     ("16UC1", 1, 2), ("mono16", 1, 2), ("8UC3", 3, 1)],
)
def test_a_lossless_image_is_read_byte_for_byte_as_it_came(tmp_path, storage, encoding, channels, depth):
    message = image(encoding, channels, depth)
    stored, read, lossy = through_a_bag(tmp_path / "bag", LOSSLESS, message, storage)
    assert stored == {"/cam/compressed": COMPRESSED} and same(read, message) and not lossy


@pytest.mark.parametrize(
    "message",
    [image("yuv422_yuy2", 2), image("32FC1", 1, 4), image("rgb8", 3, padding=4), image("16UC1", 1, 2, big=1)],
    ids=["two channels", "floats", "padded rows", "big endian"],
)
def test_an_image_that_png_cannot_hold_is_recorded_as_it_came(tmp_path, message):
    stored, read, lossy = through_a_bag(tmp_path / "bag", LOSSLESS, message)
    assert stored == {"/cam": IMAGE} and same(read, message) and not lossy


@pytest.mark.parametrize(("encoding", "channels"), [("rgb8", 3), ("bgr8", 3), ("mono8", 1)])
def test_a_jpeg_is_nearly_the_image_and_the_bag_says_that_it_is_lossy(tmp_path, encoding, channels):
    message = image(encoding, channels)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = np.stack([rows * 10, columns * 7, 255 - rows * 10][:channels], axis=-1)
    message.data = smooth.astype(np.uint8).reshape(-1)
    _, read, lossy = through_a_bag(tmp_path / "bag", JPEG, message)
    assert lossy and read.encoding == encoding and len(read.data) == len(message.data)
    assert np.abs(read.data.astype(int) - message.data.astype(int)).mean() < 5, "colours are not exchanged"


def test_jpeg_keeps_depth_images_as_they_came(tmp_path):
    message = image("16UC1", 1, 2)
    stored, read, _ = through_a_bag(tmp_path / "bag", JPEG, message)
    assert stored == {"/cam": IMAGE} and same(read, message)


def test_what_cannot_be_is_refused():
    for mode, quality, text in (("gif", 90, "images 'gif' is not known; there are: exact, lossless, jpeg"),
                                (JPEG, 0, "it must be 1")):
        with pytest.raises(BagError, match=text):
            Pictures(mode, quality, (), print)
