# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Bags for tests: a run of the real policy node over DDS, and copies of a bag with something changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from live_robot import ACTIVATE, CONFIGURE, DEACTIVATE, Robot
from sides import Side
from tiny_robot import CONTRACT, picture

from molmoact2_contract import cli
from molmoact2_contract.qos import STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus
from molmoact2_msgs.srv import ResetEpisode
from molmoact2_policy.bags.bag import Bag
from molmoact2_policy.bags.facts import facts_of
from molmoact2_policy.bags.offline import open_writer
from molmoact2_policy.bags.recorder import BagRecorder
from molmoact2_policy.bags.topics import LARGE_DEPTH, topics_of

TOP, WRIST, JOINTS = "/top/image_raw", "/wrist/image_raw/compressed", "/joint_states"
TRACES, CHUNKS, STATUSES = "/policy/reasoning_trace", "/policy/action_chunk", "/policy/status"


def record_a_run(path: Path, inferences: int, **parameters) -> Path:
    """A policy that is activated, makes some inferences, is reset, and makes as many again. Both arms take its chunks
    and join them by real-time chunking."""
    robot = Robot()
    listener = Side(robot.domain, lambda context: rclpy.create_node("recorder", context=context))
    try:
        follow(robot)
        robot.top = scene
        robot.start_policy(**parameters)
        assert robot.transition(CONFIGURE)
        with BagRecorder(listener.node, path, topics_of(CONTRACT), facts=facts_of(CONTRACT, None)) as recorder:
            robot.wait_until(lambda: all(recorder.received[topic] for topic in (TOP, WRIST, JOINTS, STATUSES)))
            assert robot.transition(ACTIVATE)
            for _ in range(2):
                enough = len(robot.traces) + inferences
                robot.wait(lambda enough=enough: len(robot.traces) >= enough)
                assert robot.call(ResetEpisode, "policy/reset", ResetEpisode.Request()).success
            robot.wait_until(lambda: recorder.received[TRACES] >= 2 * inferences)
            assert robot.transition(DEACTIVATE)
            # What was used may still wait in the recorder's queues, which are so long.
            enough = {topic: recorder.received[topic] + LARGE_DEPTH for topic in (TOP, WRIST, JOINTS)}
            robot.wait_until(lambda: all(recorder.received[topic] >= count for topic, count in enough.items()))
    finally:
        listener.close()
        robot.close()
    return path


def scene(frame: int) -> np.ndarray:
    """A still picture in which a small thing moves and never looks the same: however many frames lie between two
    inferences, the camera is not frozen."""
    image = picture(3)
    image[20:28, 4 + 3 * (frame % 20):12 + 3 * (frame % 20)] = picture(4 + frame, 8, 8)
    return image


def follow(robot: Robot) -> None:
    """Has both controllers say that they follow each chunk as it comes, of which two waypoints are over."""
    publishers = [robot.node.create_publisher(ControllerStatus, f"{arm}/status", STATUS) for arm in CONTRACT.arms]

    def accept(chunk: ActionChunk) -> None:
        for publisher in publishers:
            status = ControllerStatus(
                joining="rtc", chunk_id=chunk.chunk_id, episode_id=chunk.episode_id, waypoints_consumed_at_acceptance=2
            )
            status.header.stamp = chunk.header.stamp
            publisher.publish(status)

    robot.node.create_subscription(ActionChunk, "policy/action_chunk", accept, 10)


def replayed(bag: Path, out: Path, capsys, *arguments: str) -> tuple[int, dict | None, str]:
    """Runs `molmoact2 replay` without a video; its exit code, its summary (None without one), and what it printed."""
    code = cli.main(["replay", str(bag), "--out", str(out), "--video-seconds", "0", *arguments])
    printed = capsys.readouterr()
    summary = out / "summary.json"
    return code, json.loads(summary.read_text()) if summary.exists() else None, printed.out + printed.err


Change = Callable[[str, Any], Any | None]


def copied(
    bag: Path, path: Path, change: Change, renamed: Mapping[str, tuple[str, str]] | None = None,
    left_out: tuple[str, ...] = (),
) -> Path:
    """A copy of a bag with each message as `change(topic, message)` gives it back; None leaves it out.

    renamed: topic -> its name and type in the copy. left_out: topics that are not even named there.
    """
    with Bag(bag) as old:
        writer, connections = open_writer(path), {}
        for topic, kind in old.types.items():
            if topic not in left_out:
                name, kind = (renamed or {}).get(topic, (topic, kind))
                connections[topic] = writer.add_connection(name, kind, typestore=old.typestore)
        for topic, _, message, receive_ns in old.messages(set(connections)):
            changed = change(topic, deepcopy(message))    # what the reader gives cannot be written to
            if changed is not None:
                data = old.typestore.serialize_cdr(changed, connections[topic].msgtype)
                writer.write(connections[topic], receive_ns, bytes(data))
        writer.close()
    return path
