# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A bag of three episodes, to be made a dataset of."""

import numpy as np
from bag_samples import JOINTS, STATUSES, TOP
from sensor_msgs.msg import CompressedImage, Image, JointState
from tiny_robot import CONTRACT, compressed, image, joint_state, time_of

from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import ControllerStatus, PolicyStatus
from molmoact2_policy.bags.definitions import typename_of, typestore_of
from molmoact2_policy.bags.offline import cdr, open_writer

NAMES = CONTRACT.joint_names
HZ, BEGIN = 20, 1_800_000_000_000_000_000
R = RunTask.Result
LENGTHS = {"first": 30, "second": 25, "third": 15}
ENDS = {"first": R.ENDED_SUCCEEDED, "second": R.ENDED_FAULT, "third": R.ENDED_UNKNOWN}
SPEED = 0.01    # [rad] of every joint from frame to frame
DEPTH = "/top/aligned_depth_to_color/image_raw"


def angle(tick: int) -> float:
    return 0.1 + SPEED * (tick % 100)


def write_run(path, without=(), missing_frames=(), depth=lambda tick, now: None):
    """Three episodes, one after the other: cameras at HZ, joints that move evenly and are told where to be next.
    depth: an image for a tick."""
    kinds = (PolicyStatus, ControllerStatus, JointState, Image, CompressedImage)
    store = typestore_of({typename_of(kind) for kind in kinds})
    writer, connections = open_writer(path), {}

    def say(topic, message, now):
        if topic in without:
            return
        if topic not in connections:
            connections[topic] = writer.add_connection(topic, typename_of(type(message)), typestore=store)
        writer.write(connections[topic], now, cdr(message, store))

    tick, ended, ended_id = 0, R.ENDED_UNKNOWN, ""
    for number, (episode, length) in enumerate(LENGTHS.items()):
        for _ in range(length):
            now = BEGIN + tick * 1_000_000_000 // HZ
            status = PolicyStatus(state=PolicyStatus.ACTIVE, episode_id=episode, instruction=f"task {number % 2}")
            status.ended, status.ended_episode_id = int(ended), ended_id
            say(STATUSES, status, now - 2000)
            for arm in CONTRACT.arms:
                names = list(CONTRACT.arm(arm).joints)
                told = ControllerStatus(state=ControllerStatus.FOLLOWING, joint_names=names)
                told.header.stamp, told.setpoint = time_of(now), [angle(tick)] * len(names)
                say(f"/{arm}/status", told, now - 1000)
            say(JOINTS, joint_state(now, **dict.fromkeys(NAMES, angle(tick))), now)
            if tick not in missing_frames:
                say(TOP, image(np.full((60, 80, 3), 2 * tick, np.uint8), now), now + 1000)
                say("/wrist/image_raw/compressed", compressed(np.full((60, 80, 3), 50, np.uint8), now), now + 2000)
            measured = depth(tick, now)
            if measured is not None:
                say(DEPTH, measured, now + 500)
            tick += 1
        ended, ended_id = ENDS[episode], episode if ENDS[episode] else ended_id
    writer.close()
    return path
