# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Replay of bags from elsewhere: without traces, with other names, of another robot."""

import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from bag_samples import CHUNKS, JOINTS, STATUSES, TOP, TRACES, WRIST, copied, record_a_run, replayed
from tiny_robot import CHECKPOINT, CONTRACT, TAG

from molmoact2_contract import load_contract
from molmoact2_policy.bags.bag import Bag, stamp_ns
from molmoact2_policy.replay.embodied import embody
from molmoact2_policy.replay.fresh import Timing, read_sets
from molmoact2_policy.replay.recorded import read_needs, read_recorded

INFERENCES = 6
RUN_BY = ("--contract", str(CONTRACT.path), "--checkpoint", str(CHECKPOINT), "--norm-tag", TAG.name)
SETTINGS = ("--num-steps", "2", "--instruction", "pick up the cube")


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return record_a_run(tmp_path_factory.mktemp("run") / "bag", INFERENCES)


@pytest.fixture(scope="module")
def images_only(bag, tmp_path_factory):
    """A bag of cameras and joints, as any recorder makes it."""
    path = tmp_path_factory.mktemp("images") / "bag"
    return copied(bag, path, lambda topic, m: m, left_out=(TRACES, CHUNKS, STATUSES))


@pytest.fixture
def replay(tmp_path, capsys):
    return lambda path, *arguments: replayed(path, tmp_path / "out", capsys, *arguments)


def messages(bag, topic):
    with Bag(bag) as opened:
        return [message for _, _, message, _ in opened.messages({topic})]


def images_of(trace):
    return [(i.topic, stamp_ns(i.stamp), bytes(bytearray(i.digest))) for i in trace.inputs if i.kind == i.IMAGE]


def test_fresh_input_sets_are_those_that_the_live_node_formed(bag, images_only, replay, tmp_path):
    code, summary, printed = replay(images_only, *RUN_BY, *SETTINGS, "--fresh")
    assert code == 0, printed
    made = {stamp_ns(t.header.stamp): t for t in messages(tmp_path / "out/bag", "/replay" + TRACES)}
    tops = [stamp_ns(m.header.stamp) for m in messages(images_only, TOP)]
    assert len(tops) - 3 <= len(made) <= len(tops), "every frame of the main camera but those at the ends"
    live = [t for t in messages(bag, TRACES) if stamp_ns(t.header.stamp) in made]
    assert len(live) >= INFERENCES
    for trace in live:
        twin = made[stamp_ns(trace.header.stamp)]
        assert images_of(twin) == images_of(trace)
        assert np.array_equal(twin.model_state, trace.model_state), "the arms do not move"
        apart = [abs(stamp_ns(i.stamp) - stamp_ns(twin.header.stamp)) for i in twin.inputs if i.kind == i.JOINT_STATE]
        assert len(apart) == len(CONTRACT.arms) and max(apart) <= CONTRACT.skew_limit * 1e9
    assert summary["runs"]["replayed"]["open_loop_error"]["gripper"] >= 0


def test_with_a_latency_only_those_frames_are_taken_that_the_live_node_would_have_taken(images_only, replay, tmp_path):
    code, _, printed = replay(images_only, *RUN_BY, *SETTINGS, "--realtime-latency", "0.22")
    assert code == 0, printed
    made = messages(tmp_path / "out/bag", "/replay" + TRACES)
    starts = np.array([stamp_ns(t.started) for t in made])
    assert len(made) > 2 and (np.diff(starts) >= 220_000_000).all()
    tops = np.array([stamp_ns(m.header.stamp) for m in messages(images_only, TOP)])
    for trace, start in zip(made, starts, strict=True):
        passed_over = (tops > stamp_ns(trace.header.stamp)) & (tops < start - 100_000_000)
        assert not passed_over.any(), "it took the newest that was there"


def test_an_inference_takes_the_newest_set_when_the_one_before_it_is_done():
    second = 1_000_000_000
    sets = [(SimpleNamespace(number=n), n * second // 10) for n in range(20)]
    taken = list(Timing(lambda: 0.35, min_period=0.0).taken(iter(sets)))
    assert [t.messages.number for t in taken] == [0, 3, 7, 10, 14, 17, 19]
    starts = [t.started_ns / second for t in taken]
    assert np.diff(starts) == pytest.approx([0.35] * 6)
    slowed = list(Timing(lambda: 0.05, min_period=0.5).taken(iter(sets)))
    assert [t.messages.number for t in slowed] == [0, 5, 10, 15, 19]


def test_what_such_a_bag_does_not_say_is_asked_for_by_the_option_that_says_it(images_only, replay):
    code, _, printed = replay(images_only)
    assert code == 2 and "--contract" in printed
    code, _, printed = replay(images_only, *RUN_BY)
    assert code == 2 and "no reasoning traces" in printed and "--fresh" in printed
    code, _, printed = replay(images_only, *RUN_BY, "--fresh")
    assert code == 2 and "--instruction" in printed


def renamed_joints(topic, message):
    if topic == JOINTS:
        message.name = [name.replace("joint", "axis") for name in message.name]
    return message


def test_joints_of_another_robot_are_named_and_can_be_renamed(bag, replay, tmp_path):
    other = copied(bag, tmp_path / "other", renamed_joints)
    code, _, printed = replay(other)
    assert code == 2
    assert "is of another robot than tiny_arm.yaml" in printed and "joint_0" in printed and "axis_0" in printed
    names = [f"{name.replace('joint', 'axis')}={name}" for name in CONTRACT.joints if name.startswith("joint")]
    code, summary, printed = replay(other, *(part for name in names for part in ("--joint", name)))
    assert code == 0, printed
    assert summary["equality"]["actions"]["equal"] == summary["repeated"] == summary["traces"]


def test_a_camera_that_is_not_there_is_named_with_those_that_are(bag, replay, tmp_path):
    code, _, printed = replay(copied(bag, tmp_path / "other", lambda topic, m: m, left_out=(WRIST,)))
    assert code == 2
    assert f"no images on {WRIST}, camera 'wrist'" in printed and f"its images: {TOP}" in printed
    code, _, printed = replay(bag, "--topic", f"{WRIST}=/nowhere")
    assert code == 2 and "/nowhere" in printed


def test_another_camera_under_its_own_name_and_losslessly_compressed_gives_the_same_inputs(bag, replay, tmp_path):
    kind = "sensor_msgs/msg/CompressedImage"

    def change(topic, message):
        if topic != TOP:
            return message
        with Bag(bag) as opened:
            compressed = opened.typestore.types[kind]
        pixels = np.asarray(message.data).reshape(message.height, message.width, 3)
        _, data = cv2.imencode(".png", pixels[..., ::-1])
        message.header.frame_id = "camera_color_optical_frame"
        return compressed(header=message.header, format="png", data=data.reshape(-1))

    theirs = "/camera/color/image_raw/compressed"
    other = copied(bag, tmp_path / "other", change, renamed={TOP: (theirs, kind)})
    code, summary, printed = replay(other, "--topic", f"top/image_raw={theirs}")
    assert code == 0, printed
    assert summary["equality"]["images"]["equal"] == summary["equality"]["actions"]["equal"] == summary["traces"]


def test_images_recorded_as_jpeg_are_said_to_be_lossy_and_nothing_is_promised(bag, replay, tmp_path):
    kind = "sensor_msgs/msg/CompressedImage"

    def change(topic, message):
        if topic != TOP:
            return message
        with Bag(bag) as opened:
            compressed = opened.typestore.types[kind]
        pixels = np.asarray(message.data).reshape(message.height, message.width, 3)
        _, data = cv2.imencode(".jpg", pixels[..., ::-1])
        return compressed(header=message.header, format="rgb8; jpeg compressed bgr8", data=data.reshape(-1))

    other = copied(bag, tmp_path / "other", change, renamed={TOP: (f"{TOP}/compressed", kind)})
    code, summary, printed = replay(other)
    assert code == 0, printed
    assert summary["because_not"] == ["the images of camera 'top' were recorded with loss"]
    assert summary["equality"]["images"]["unequal"] == summary["repeated"] == summary["traces"]


def test_memory_does_not_grow_with_the_bag(bag, images_only, monkeypatch):
    """At any time no more images are held than wait for a trace, or in the synchronizer's queue."""
    contract, read, images = load_contract(CONTRACT.path), Bag.messages, []

    def messages_of(self, topics=None):
        for item in read(self, topics):
            if item[0] == TOP:
                images.append(weakref.ref(item[2]))
            yield item

    def held():
        return sum(image() is not None for image in images)

    monkeypatch.setattr(Bag, "messages", messages_of)
    with Bag(bag) as opened:
        robot, needs = embody(opened, contract, TAG, {}, {}), read_needs(opened)
        most = max(held() for _ in read_recorded(opened, needs, {}, robot.joint_topic, lambda m: None))
    assert len(images) > 20 and 0 < most <= 4
    images.clear()
    with Bag(images_only) as opened:
        sets = read_sets(opened, embody(opened, contract, TAG, {}, {}), TAG, lambda m: None)
        counts = [held() for messages, _ in sets if messages is not None]
    assert len(counts) > 20 and 0 < max(counts) <= 12


def test_a_topic_mapped_to_no_images_is_refused(bag, replay):
    code, _, printed = replay(bag, "--topic", f"top/image_raw={JOINTS}")
    assert code == 2 and "no images" in printed
