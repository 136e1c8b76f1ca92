# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire: arrays, pictures, traces; and what is refused, with fuzz from fixed seeds."""

import base64
import json
import random
import threading
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from golden_set import textured
from PIL import Image

from molmoact2_model.results import Trace
from molmoact2_model.serving import checks, pictures, wire
from molmoact2_model.serving.cameras import Cameras, read_names
from molmoact2_model.serving.extension import Extra, SessionSettings, read_extra, write_extra
from molmoact2_model.serving.fields import Expected, read_request
from molmoact2_model.serving.traces import read_trace, write_trace
from molmoact2_model.serving.wire import WireError, dumps, loads

EXPECTED = Expected(
    {"tiny_arm": Cameras("tiny_arm", ("observation.images.top", "observation.images.wrist"))}, "tiny_arm", 1,
    SessionSettings(),
)
IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
STATE = np.linspace(-1, 1, 7, dtype=np.float32)


def entry(data=b"\0\0\0\0", dtype="<f4", shape=(1,)):
    """An array as json_numpy writes it."""
    return {"__numpy__": base64.b64encode(data).decode(), "dtype": dtype, "shape": list(shape)}


def request(**fields):
    return {"top_cam": IMAGE, "wrist_cam": IMAGE + 1, "instruction": "pick up the cube", "state": STATE, **fields}


def read_one(value):
    return pictures.read_pictures({"top": value})[0]


def read(fields):
    return read_request(dumps(fields), EXPECTED)


@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (2, 3, 1, 2)])
def test_arrays_come_back_bit_for_bit(dtype, shape):
    array = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    back = loads(dumps({"a": array}))["a"]
    assert np.shape(back) == shape and (back.dtype == array.dtype or not shape)    # numpy's scalars have native order
    np.testing.assert_array_equal(back, array)


def test_an_array_is_written_as_json_numpy_writes_it():
    assert json.loads(dumps(np.array([1.5, -2.0], "<f4"))) == entry(np.array([1.5, -2.0], "<f4").tobytes(), "<f4", [2])


WRONG_DOCUMENTS = {
    "truncated": (b'{"a": [1, 2', "not JSON"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "NaN": (b'{"a": NaN}', "NaN is no JSON number"),
    "key twice": (b'{"a": 1, "a": 2}', "'a' comes twice"),
    "many keys": (json.dumps(dict.fromkeys(map(str, range(wire.MOST_KEYS + 1)))).encode(), "an object has 513 keys"),
    "many keys and one twice": (b"{" + b'"%d": 0,' * 100_000 % tuple(range(100_000)) + b'"99999": 0}', "100001 keys"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "many lists": (b"[" + b"[]," * wire.MOST_CONTAINERS + b"[]]", "lists and objects"),
    "many numbers": (b"[" + b"1," * (wire.MOST_VALUES + 1) + b"1]", "commas"),
    "endless number": (b'{"a": ' + b"1" * 10_000 + b"}", "not JSON"),
    "object array": (json.dumps(entry(b"\x80\x04N.", "|O", [1])).encode(), "dtype '|O'"),
    "text array": (json.dumps(entry(b"abcd", "<U1", [1])).encode(), "dtype '<U1'"),
    "record array": (json.dumps(entry(b"abcd", [["a", "<f4"]], [1])).encode(), "expected plain numbers"),
    "too few bytes": (json.dumps(entry(shape=[2])).encode(), "needs 8 bytes, 4 came"),
    "absurd shape": (json.dumps(entry(shape=[2**39, 2**39])).encode(), "bytes, 4 came"),
    "negative shape": (json.dumps(entry(shape=[-1])).encode(), "shape [-1]"),
    "five dimensions": (json.dumps(entry(shape=[1] * 5)).encode(), "at most 4"),
    "no base64": (b'{"__numpy__": "%%%", "dtype": "<f4", "shape": [1]}', "not base64"),
    "no shape": (b'{"__numpy__": "AAAAAA==", "dtype": "<f4"}', "expected __numpy__, dtype and shape"),
    "booleans of 2": (json.dumps(entry(b"\x02", "|b1", [1])).encode(), "other than 0 and 1"),
}


@pytest.mark.parametrize("name", WRONG_DOCUMENTS)
def test_a_document_that_is_wrong_is_refused_in_words(name):
    body, said = WRONG_DOCUMENTS[name]
    with pytest.raises(WireError) as refused:
        loads(body)
    assert said in str(refused.value) and len(str(refused.value)) < 400


def test_what_cannot_be_sent_is_refused_by_the_sender():
    for value in ({"a": float("nan")}, {"a": np.array([object()])}, {"a": b"bytes"}, {"a": {1, 2}}):
        with pytest.raises((TypeError, ValueError)):
            dumps(value)


# --- pictures ---------------------------------------------------------------------------------------------------------
def test_pictures_come_back_the_same_raw_and_as_png_and_nearly_so_as_jpeg():
    image = textured(3, size=(48, 64))
    for encoding in ("raw", "png"):
        back = read_one(loads(dumps(pictures.write_picture(image, encoding))))
        np.testing.assert_array_equal(back, image)
    lossy = read_one(pictures.write_picture(image, "jpeg")).astype(int)
    assert 0 < np.abs(lossy - image).mean() < 3
    np.testing.assert_array_equal(read_one(IMAGE.tolist()), IMAGE)
    bare = pictures.write_picture(image, "png").partition(",")[2]
    np.testing.assert_array_equal(read_one(bare), image)


def headed(width, height):
    """A PNG whose head says so many pixels, and whose data are of far fewer: whoever unpacks it finds it broken."""
    png = bytearray(base64.b64decode(pictures.write_picture(IMAGE, "png").partition(",")[2]))
    png[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    return base64.b64encode(png).decode()


WRONG_PICTURES = {
    "float": (IMAGE.astype(np.float32), "dtype float32, expected uint8"),
    "grey": (IMAGE[..., 0], "shape (4, 5)"),
    "channels first": (IMAGE.transpose(2, 0, 1), "shape (3, 4, 5)"),
    "empty": (np.zeros((0, 5, 3), np.uint8), "shape (0, 5, 3)"),
    "too wide": (np.zeros((1, 9000, 3), np.uint8), "over 8192 a side"),
    "a number": (5, "expected uint8"),
    "ragged": ([[[1, 2, 3]], [[1, 2]]], "expected"),
    "five dimensions": ([[[[[1]]]]], "over 4 dimensions"),
    "truth": ([[[True, 2, 3]]], "something other than numbers"),
    "half a list": ([[[1, 2, 3]], 4], "something other than numbers"),
    "out of range": ([[[1, 2, 300]]], "0 .. 255"),
    "a path": ("/etc/hostname", "paths are not opened"),
    "a data URI of text": ("data:text/plain,hello", "expected data:image/jpeg;base64"),
    "not a picture": (base64.b64encode(b"GIF89a" + bytes(64)).decode(), "no JPEG or PNG"),
    "cut off": (pictures.write_picture(textured(1, size=(64, 64)), "jpeg")[:-400], "top"),
    "a bomb": (headed(60000, 60000), "exceeds limit"),
    "a wide file": (headed(8193, 1), "top has 8193 x 1 pixels, over 8192 a side"),
    "too many pixels": (headed(8192, 2049), "(8192 x 2049) have 16785408 pixels, over 16777216 in all"),
    "a file without its pixels": (headed(64, 64), "no JPEG or PNG that can be read"),
}


@pytest.mark.parametrize("name", WRONG_PICTURES)
def test_a_picture_that_is_wrong_is_refused_by_name(name):
    value, said = WRONG_PICTURES[name]
    with pytest.raises(WireError) as refused:
        read_one(value)
    assert "top" in str(refused.value) and said in str(refused.value)


def test_the_pixels_of_all_images_of_a_request_are_counted_before_any_is_unpacked():
    within = {"instruction": "go", "state": STATE, "images": [IMAGE] * 8}
    assert len(read(within).images) == 8
    for images, last in (
        ([headed(4096, 2049), IMAGE.tolist(), headed(4096, 2048)], 2), ([headed(2048, 2048)] * 4 + [IMAGE], 4),
        ([IMAGE, np.zeros((1, 8192, 3), np.uint8), headed(8192, 2047)], 2),
    ):
        with pytest.raises(WireError, match=rf"the images up to images\[{last}\] .* in all; send smaller ones"):
            read({**within, "images": images})
    named = {"top_cam": headed(4096, 4095), "wrist_cam": headed(4096, 2)}
    with pytest.raises(WireError, match=r"up to wrist_cam \(4096 x 2\) have 16781312 pixels, over 16777216 in all"):
        read(request(**named))


def test_pictures_read_in_two_threads_leave_what_becomes_of_warnings_as_it_was(monkeypatch):
    """Filters of warnings belong to the whole process. The second is read from within the first, and outlasts it."""
    sent, before, plain = pictures.write_picture(textured(2, size=(64, 64)), "jpeg"), list(warnings.filters), Image.open
    inside, ended = threading.Event(), threading.Event()

    def opened(*given, **named):
        if threading.current_thread() is second:
            inside.set()
            assert ended.wait(60)
        elif second.ident is None:
            second.start()
            assert inside.wait(60)
        return plain(*given, **named)

    second = threading.Thread(target=read_one, args=(sent,))
    monkeypatch.setattr(Image, "open", opened)
    read_one(sent)
    ended.set()
    second.join(60)
    assert warnings.filters == before


def test_texts_among_numbers_cost_no_more_memory_than_they_came_with():
    texts = ["x" * 20_000, *["y"] * 2_000]    # 160 MB as an array of texts
    tracemalloc.start()
    try:
        for value in (texts, [texts], [[[1, 2, 3], texts[:3]]]):
            for read_list in (read_one, lambda v: checks.floats(v, "state", (None,))):
                with pytest.raises(WireError, match="top|state"):
                    read_list(value)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_lists_of_numbers_are_read_as_arrays_of_them():
    np.testing.assert_array_equal(checks.floats([[1, 2.5], [3, -4]], "a", (None, 2)), [[1, 2.5], [3, -4]])
    np.testing.assert_array_equal(checks.floats([np.float32(1.5), 2], "a", (2,)), [1.5, 2])


# --- requests ---------------------------------------------------------------------------------------------------------
def test_images_are_taken_in_the_models_order_under_any_of_the_names():
    for names in (("top_cam", "wrist_cam"), ("wrist", "top"), ("observation.images.wrist", "observation.images.top")):
        fields = {"instruction": "go", "state": STATE, **{n: IMAGE + ("wrist" in n) for n in names}}
        images = read(fields).images
        np.testing.assert_array_equal(images[0], IMAGE)
        np.testing.assert_array_equal(images[1], IMAGE + 1)


def test_the_usual_names_of_a_robot_serve_where_they_contradict_none_of_the_tags_own():
    droid = ("external_cam", "wrist_cam")
    assert Cameras("any", ("a.front", "a.wrist")).order(droid) == droid
    with pytest.raises(WireError, match="missing required field"):
        Cameras("any", ("a.wrist", "a.front")).order(droid)
    assert Cameras("franka_droid", ("e1", "e2", "w")).order(droid) == droid
    assert Cameras("any", ("a", "b"), read_names("libero")).orders == [("image", "wrist_image")]
    with pytest.raises(WireError, match="a,a"):
        read_names("a,a")


def test_the_general_kind_of_request_is_understood_in_all_its_spellings():
    general = read({"images": [IMAGE, IMAGE], "states": [STATE.tolist()], "task": "go", "action_chunk": "yes",
                    "session_id": "a"})
    assert (general.general, general.keeps, general.single, general.session) == (True, True, False, "a")
    np.testing.assert_array_equal(general.state, STATE)
    inner = dumps({"image": IMAGE, "state": STATE, "question": "go"}).decode()
    encoded = read({"encoded": inner, "single_action": True})
    assert encoded.single and len(encoded.images) == 1 and encoded.instruction == "go"
    assert not read(request(timestamp=1.0, enable_cuda_graph=False, normalization_tag="x", num_steps=10)).general
    assert read(request(norm_tag="tiny_arm")).general and read(request(tag="tiny_arm")).general


WRONG_REQUESTS = {
    "unknown field": ({"flavour": 1}, "unknown fields: 'flavour'; known are"),
    "no image": ({"top_cam": None, "wrist_cam": None, "images": []}, "images"),
    "tag": ({"norm_tag": "yam"}, "'yam' is not in this checkpoint; it has tiny_arm"),
    "state of two rows": ({"state": np.zeros((2, 7))}, "state has shape (2, 7)"),
    "state of words": ({"state": ["a"]}, "state is"),
    "state of truth": ({"state": [1.0, True]}, "state is a list of something other than numbers"),
    "state beyond numbers": ({"state": [1.5, 10**400]}, "state"),
    "state far too long": ({"state": [0] * 300_000}, "over 4 dimensions or 256000 numbers"),
    "state too long": ({"state": np.zeros(1000)}, "over 256"),
    "state not finite": ({"state": np.array([np.inf] * 7)}, "not finite"),
    "instruction": ({"instruction": 5}, "instruction is 5, expected text"),
    "instruction too long": ({"instruction": "a" * 5000}, "at most 4096"),
    "half a character": ({"instruction": "go \ud800"}, "instruction has '\\ud800' at 3, which is no character"),
    "half a character in encoded": ({"encoded": "\ud800"}, "encoded has '\\ud800' at 0, which is no character"),
    "num_steps": ({"num_steps": 0}, "num_steps is 0, expected a whole number 1 .. 100"),
    "too many num_steps": ({"num_steps": 101}, "num_steps is 101, expected a whole number 1 .. 100"),
    "num_steps of a word": ({"num_steps": "ten"}, "num_steps"),
    "n_obs_steps": ({"n_obs_steps": 2}, "the checkpoint takes 1"),
    "two sets of images": ({"images": [IMAGE]}, "send one of the two"),
    "session": ({"session_id": "a\nb"}, "printable"),
    "extension": ({"molmoact2": {"name": "molmoact2_act.v9"}}, "this server speaks molmoact2_act.v1"),
    "extension's field": (
        {"molmoact2": {"name": "molmoact2_act.v1", "request": "1", "session": "s", "x": 1}}, "unknown fields: 'x'"
    ),
    "setting": (
        {"molmoact2": {"name": "molmoact2_act.v1", "request": "1", "session": "s", "settings": {"beside": True}}},
        "unknown fields: 'beside'",
    ),
    "prefix": (
        {"molmoact2": {"name": "molmoact2_act.v1", "request": "1", "session": "s", "prefix": np.array([1.0])}},
        "prefix has shape (1,)",
    ),
}


@pytest.mark.parametrize("name", WRONG_REQUESTS)
def test_a_request_that_is_wrong_is_refused_by_the_field(name):
    changed, said = WRONG_REQUESTS[name]
    with pytest.raises(WireError) as refused:
        read(request(**changed))
    assert said in str(refused.value)


@pytest.mark.parametrize("missing", ["top_cam", "wrist_cam", "state"])
def test_a_missing_field_is_named(missing):
    fields = request()
    del fields[missing]
    with pytest.raises(WireError, match=f"missing required field: '{missing}'"):
        read(fields)


def test_the_extension_comes_back_as_it_was_sent():
    noise, prefix = np.ones((30, 32), np.float32), np.zeros((3, 7), np.float32)
    settings = SessionSettings(depth="adaptive", rtc_beta=2.0, noise_scale=0.5)
    sent = Extra("7", "robot", settings, "reset", 1.5, 2**62, noise, prefix, 2, 3)
    back = read_extra(loads(dumps(write_extra(sent))), SessionSettings())
    np.testing.assert_array_equal(back.noise, noise)
    np.testing.assert_array_equal(back.prefix, prefix)
    for name in ("request", "session", "settings", "reset", "deadline", "seed", "frozen", "overlap"):
        assert getattr(back, name) == getattr(sent, name)


# --- traces -----------------------------------------------------------------------------------------------------------
def trace(cells=4):
    return Trace(
        prompt="<image> go", input_ids=np.arange(5), generated_token_ids=np.arange(3), depth_codes=np.arange(cells),
        refreshed=np.ones(cells, bool), cell_ages=np.zeros(cells, np.int64), code_probs=np.ones(cells, np.float32),
        depth_mode="forced", cause="reset", decoder_steps=6, reused_runs=1, seed=2**62, timings={"total": 0.5},
        warnings=("a", "b"), clock=(1.0, 2.0),
    )


def test_a_trace_comes_back_as_it_was_sent():
    back = read_trace(loads(dumps(write_trace(trace()))))
    for name, value in vars(trace()).items():
        np.testing.assert_array_equal(getattr(back, name), value, err_msg=name)


@pytest.mark.parametrize(
    "changed",
    [{"depth_codes": np.arange(3)}, {"refreshed": np.ones(4)}, {"depth_mode": "deep"}, {"seed": -1}, {"timings": {}},
     {"code_probs": np.full(4, np.nan, np.float32)}, {"clock": [1.0]}, {"warnings": "none"}, {"more": 1},
     {"input_ids": np.array([2**40])}, {"depth_codes": np.array([0, 1, 2, 70000])}, {"timings": {"total": -1.0}}],
    ids=str,
)
def test_a_trace_that_contradicts_itself_is_refused(changed):
    with pytest.raises(WireError):
        read_trace(write_trace(trace()) | changed)


# --- fuzz -------------------------------------------------------------------------------------------------------------
EXTRA = write_extra(Extra("1", "s", SessionSettings(), seed=3))
GOOD = dumps(request(num_steps=2, norm_tag="tiny_arm", molmoact2=EXTRA))
SPICE = [b"[", b"{", b"}", b'"', b"\\", b"\0", b"\xff", b"null", b"1e999", b"-1", b'"__numpy__":', b"{}", b"NaN"]


def spoil(body, dice):
    """The body with a few bytes changed, cut out, repeated or put in."""
    spoilt = bytearray(body)
    for _ in range(dice.randint(1, 4)):
        at, kind = dice.randrange(len(spoilt) + 1), dice.randrange(4)
        if kind == 0 and at < len(spoilt):
            spoilt[at] = dice.randrange(256)
        elif kind == 1:
            del spoilt[at:at + dice.choice((1, 3, 50))]
        elif kind == 2:
            spoilt[at:at] = spoilt[at:at + dice.choice((1, 20))]
        else:
            spoilt[at:at] = dice.choice(SPICE)
    return spoilt


VALUES = [None, True, -1, 2**70, 1.5, "", "\ud800", "x" * 300, [], [[]], {}, [1, "a"], {"__numpy__": 1},
          entry(shape=[0]), entry(), np.zeros((2, 2, 3), np.uint8), np.zeros(7), np.float32(3),
          np.array(["a"] * 2).view("<i4")]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_bytes_come_they_are_understood_or_refused_in_words(seed):
    dice, refused = random.Random(seed), 0
    for _ in range(200):
        try:
            read_request(spoil(GOOD, dice), EXPECTED)
        except WireError as error:
            refused += 1
            assert str(error) and len(str(error)) < 1500
    assert refused > 100


@pytest.mark.parametrize("seed", range(6))
def test_whatever_values_the_fields_have_they_are_understood_or_refused_in_words(seed):
    dice, refused = random.Random(seed), 0
    names = [*request(), "images", "image", "encoded", "states", "task", "tag", "norm_tag", "num_steps", "n_obs_steps",
             "n_action_steps", "action_chunk", "single_action", "session_id", "molmoact2"]
    for _ in range(200):
        fields = request()
        for _ in range(dice.randint(1, 3)):
            fields[dice.choice(names)] = dice.choice(VALUES)
        try:
            read(fields)
        except WireError as error:
            refused += 1
            assert str(error) and len(str(error)) < 1500
    assert refused > 50


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_trace_holds_it_is_understood_or_refused_in_words(seed):
    dice = random.Random(seed)
    for _ in range(200):
        fields = write_trace(trace())
        fields[dice.choice(list(fields))] = dice.choice(VALUES)
        try:
            read_trace(loads(dumps(fields)))
        except WireError as error:
            assert str(error)
