# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The matcher behind real topics. Stamps are the test's own; each message is awaited before the next is sent."""

import os
import threading
import time

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage, Image, JointState
from tiny_robot import CONTRACT, LOWER, SECOND, TAG, UPPER, compressed, image, joint_state, picture

from molmoact2_contract.qos import SENSOR_PUBLISH
from molmoact2_policy.ingest import Ingest, stamp_ns
from molmoact2_policy.matcher import Matcher

NOW = 1000 * SECOND
MS = 1_000_000
PATIENCE = 30.0    # seconds; only a failing test waits that long
TOP, WRIST, JOINTS = "top/image_raw", "wrist/image_raw/compressed", "joint_states"
PICTURE = picture()


class Robot:
    """Sends single messages, stamped relative to NOW [ms], each once the matcher has had the one before."""

    def __init__(self):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=30 + os.getpid() % 36)
        self._sender = rclpy.create_node("robot", context=self._context)
        self._node = rclpy.create_node("listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.matcher = Matcher(self._node, CONTRACT, TAG, JOINTS)
        kinds = {TOP: Image, WRIST: CompressedImage, JOINTS: JointState}
        self._publishers = {t: self._sender.create_publisher(k, t, SENSOR_PUBLISH) for t, k in kinds.items()}
        self._spin_until(lambda: all(p.get_subscription_count() for p in self._publishers.values()))

    def _spin_until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "nothing came"
            self._executor.spin_once(timeout_sec=0.1)

    def _send(self, topic: str, message) -> None:
        self._publishers[topic].publish(message)
        self._spin_until(lambda: self.matcher.stamps[topic] == stamp_ns(message))

    def top(self, ms: int) -> None:
        self._send(TOP, image(PICTURE, NOW + ms * MS))

    def wrist(self, ms: int) -> None:
        self._send(WRIST, compressed(PICTURE, NOW + ms * MS))

    def joints(self, ms: int, **changed) -> None:
        self._send(JOINTS, joint_state(NOW + ms * MS, **changed))

    def tops_at_once(self, *ms: int) -> None:
        """Sends them all before the matcher looks, and waits for the last."""
        for each in ms:
            self._publishers[TOP].publish(image(PICTURE, NOW + each * MS))
        self._spin_until(lambda: self.matcher.stamps[TOP] == NOW + ms[-1] * MS)

    def close(self) -> None:
        self.matcher.close(self._node)
        self._executor.shutdown()
        for node in (self._sender, self._node):
            node.destroy_node()
        self._context.shutdown()


@pytest.fixture
def robot():
    robot = Robot()
    yield robot
    robot.close()


def milliseconds(messages) -> list[float]:
    return [(stamp_ns(m) - NOW) / MS for m in messages]


def test_the_newest_set_comes_out_once_with_the_joint_state_nearest_to_the_main_image(robot):
    sends = [(t, robot.joints) for t in range(0, 400, 10)]
    sends += [(t, robot.top) for t in range(3, 400, 33)] + [(t, robot.wrist) for t in range(17, 400, 66)]
    for ms, send in sorted(sends, key=lambda item: item[0]):
        send(ms)
    newest = robot.matcher.wait(0)
    assert milliseconds(newest.images) == [333, 347]
    assert milliseconds(newest.joint_states) == [330]
    assert robot.matcher.wait(0) is None
    Ingest(CONTRACT, TAG).observation(newest.images, newest.joint_states, JOINTS)


def test_images_captured_together_stay_together_although_the_frame_before_is_within_the_limit(robot):
    for ms in (0, 33, 66):
        robot.joints(ms)
        robot.top(ms)
        robot.wrist(ms)
        assert milliseconds(robot.matcher.wait(0).images) == [ms, ms]


def test_after_a_stall_what_was_seen_long_ago_is_not_taken_for_new(robot):
    robot.joints(0)
    robot.tops_at_once(0, 100, 200, 300)
    robot.wrist(0)
    assert robot.matcher.wait(0) is None
    robot.joints(200)
    robot.wrist(205)
    assert milliseconds(robot.matcher.wait(0).images) == [200, 205]


def test_a_wrist_image_that_comes_late_still_finds_its_set(robot):
    robot.joints(0)
    robot.top(0)
    assert robot.matcher.wait(0) is None
    robot.joints(10)
    robot.wrist(5)
    assert milliseconds(robot.matcher.wait(0).images) == [0, 5]


def test_the_parts_of_two_controllers_are_put_together(robot):
    robot.joints(-2, names=LOWER)
    robot.joints(2, names=UPPER)
    robot.joints(8, names=LOWER)
    robot.top(10)
    robot.wrist(11)
    joint_states = robot.matcher.wait(0).joint_states
    assert {tuple(m.name): milliseconds([m])[0] for m in joint_states} == {tuple(LOWER): 8, tuple(UPPER): 2}


def test_a_set_waits_for_the_joint_state_that_arrives_after_its_images(robot):
    robot.joints(-60, names=LOWER)
    robot.joints(-60, names=UPPER)
    robot.top(0)
    robot.wrist(0)
    robot.joints(-5, names=LOWER)
    assert robot.matcher.wait(0) is None
    robot.joints(-4, names=UPPER)
    assert sorted(milliseconds(robot.matcher.wait(0).joint_states)) == [-5, -4]


def test_joints_whose_controller_has_ended_are_missing_from_the_set(robot):
    robot.joints(0, names=UPPER)
    robot.joints(1500, names=LOWER)
    robot.top(1500)
    robot.wrist(1500)
    assert [tuple(m.name) for m in robot.matcher.wait(0).joint_states] == [tuple(LOWER)]


def test_inputs_further_apart_than_the_skew_limit_make_no_set_and_it_says_why(robot):
    robot.joints(0)
    robot.top(0)
    robot.wrist(51)
    assert robot.matcher.wait(0) is None
    robot.top(200)
    robot.wrist(200)
    assert robot.matcher.wait(0) is None
    assert "do not lie within 0.05 s of each other" in robot.matcher.explain(NOW + 300 * MS)


def test_a_silent_or_stale_or_unstamped_input_is_named(robot):
    explain = robot.matcher.explain
    robot.joints(0)
    assert explain(NOW) == f"nothing has come on {TOP}, {WRIST}"
    robot.top(0)
    robot.wrist(900)
    assert explain(NOW + 1500 * MS) == f"no stamp within the last 1 s on {TOP}, {JOINTS}"


def test_unstamped_images_are_named(robot):
    robot.joints(0)
    robot.wrist(0)
    robot.top(-NOW // MS)
    assert robot.matcher.wait(0) is None
    assert robot.matcher.explain(NOW).startswith(f"stamps are zero on {TOP};")


def test_matching_goes_on_after_a_stamp_from_the_future_and_after_the_clock_was_set_back(robot):
    robot.joints(0)
    robot.top(3_600_000)
    robot.wrist(0)
    assert robot.matcher.wait(0) is None
    for ms in (100, -60_000):
        robot.top(ms)
        robot.joints(ms + 1)
        robot.wrist(ms + 1)
        robot.top(ms + 2)
        robot.joints(ms + 3)
        robot.wrist(ms + 3)
        assert milliseconds(robot.matcher.wait(0).images)[0] == ms + 2


def test_closing_ends_the_wait(robot):
    results = []
    waiting = threading.Thread(target=lambda: results.append(robot.matcher.wait(PATIENCE)))
    waiting.start()
    robot.matcher.close(robot._node)
    waiting.join(PATIENCE)
    assert results == [None]
