# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Relays over real DDS: what a robot sends, and what of it arrives under the spoilt names."""

import array
import threading
from pathlib import Path

import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState

from molmoact2_bringup.faults import spoil
from molmoact2_bringup.faults.relay import JOINTS, PREFIX, Relays, relayed, remap
from molmoact2_contract import ContractError, load_contract
from molmoact2_contract.qos import SENSOR_PUBLISH, SENSOR_SUBSCRIBE

EMBODIMENTS = Path(__file__).parents[3] / "config/embodiments"
CONTRACT = load_contract(EMBODIMENTS / "so101.yaml")
FRONT, WRIST = (camera.topic for camera in CONTRACT.cameras.values())
DOMAIN, PATIENCE = 68, 30.0    # PATIENCE [s]: only a failing test waits that long


class Robot:
    """Sends as sensors do, and hears what a policy would; the relays run on a node of another context."""

    def __init__(self):
        self._contexts, self._executors, nodes = [], [], []
        for name in ("robot", "relays"):
            context = rclpy.Context()
            rclpy.init(context=context, domain_id=DOMAIN)
            node, executor = rclpy.create_node(name, context=context), SingleThreadedExecutor(context=context)
            executor.add_node(node)
            nodes.append(node)
            self._contexts.append(context)
            self._executors.append(executor)
        self._news = threading.Condition()
        self.heard = {topic: [] for topic in relayed(CONTRACT)}
        self._publishers = {}
        for topic, kind in relayed(CONTRACT).items():
            self._publishers[topic] = nodes[0].create_publisher(kind, topic, SENSOR_PUBLISH)
            nodes[0].create_subscription(kind, PREFIX + topic, lambda m, t=topic: self._on(t, m), SENSOR_SUBSCRIBE)
        self.relays = Relays(nodes[1], CONTRACT)
        self._nodes = nodes
        self._threads = [threading.Thread(target=e.spin, daemon=True) for e in self._executors]
        for thread in self._threads:
            thread.start()
        for topic, kind in relayed(CONTRACT).items():    # until both halves of its way are there
            while not self.heard[topic]:
                self._publishers[topic].publish(kind())
                with self._news:
                    self._news.wait_for(lambda t=topic: self.heard[t], 0.1)

    def _on(self, topic, message):
        with self._news:
            self.heard[topic].append(message)
            self._news.notify_all()

    def send(self, topic, message):
        self._publishers[topic].publish(message)

    def hears(self, topic, stamp):
        """The message with that stamp [s] on a spoilt topic."""

        def found():
            return next((m for m in self.heard[topic] if m.header.stamp.sec == stamp), None)

        with self._news:
            assert self._news.wait_for(found, PATIENCE), f"nothing with stamp {stamp} came on {topic}"
        return found()

    def stamps(self, topic):
        return [m.header.stamp.sec for m in self.heard[topic] if m.header.stamp.sec]

    def close(self):
        for executor in self._executors:
            executor.shutdown()
        for thread in self._threads:
            thread.join()
        for node in self._nodes:
            node.destroy_node()
        for context in self._contexts:
            context.shutdown()


@pytest.fixture
def robot():
    robot = Robot()
    yield robot
    robot.close()


def image(stamp, level=100, frame="front_optical_frame"):
    message = Image(height=2, width=4, encoding="rgb8", step=12)
    message.header.stamp, message.header.frame_id = Time(sec=stamp), frame
    message.data = array.array("B", [level] * 24)
    return message


def joints(stamp):
    message = JointState(name=["pan", "lift"], position=[0.1, 0.2])
    message.header.stamp = Time(sec=stamp)
    return message


def test_what_is_sound_goes_through_as_it_is(robot):
    robot.send(FRONT, image(1))
    robot.send(JOINTS, joints(2))
    assert robot.hears(FRONT, 1) == image(1)
    assert robot.hears(JOINTS, 2) == joints(2)


def test_a_fault_acts_on_its_topic_alone_until_all_is_sound_again(robot):
    robot.relays.spoil(FRONT, spoil.filled(0))
    for topic in (FRONT, WRIST):
        robot.send(topic, image(1))
    assert set(robot.hears(FRONT, 1).data) == {0}
    assert robot.hears(WRIST, 1) == image(1)
    robot.relays.sound()
    robot.send(FRONT, image(2))
    assert robot.hears(FRONT, 2) == image(2)


def test_what_is_dropped_does_not_arrive_and_what_follows_does(robot):
    robot.relays.spoil(JOINTS, spoil.dropped)
    robot.send(JOINTS, joints(1))
    robot.send(WRIST, image(1))    # on the same executor after it: once this is there, the other would be
    robot.hears(WRIST, 1)
    robot.relays.sound()
    robot.send(JOINTS, joints(2))
    robot.hears(JOINTS, 2)
    assert robot.stamps(JOINTS) == [2]


def test_exchanged_cameras_swap_topics_and_keep_their_frames(robot):
    robot.relays.exchange(FRONT, WRIST)
    robot.send(FRONT, image(1, frame="front_optical_frame"))
    robot.send(WRIST, image(2, frame="wrist_optical_frame"))
    assert robot.hears(WRIST, 1).header.frame_id == "front_optical_frame"
    assert robot.hears(FRONT, 2).header.frame_id == "wrist_optical_frame"


def test_what_is_held_back_arrives_in_order_under_its_own_stamp_and_holds_up_nothing_else(robot):
    robot.relays.hold_back(FRONT, 1.0)
    for stamp in (1, 2, 3):
        robot.send(FRONT, image(stamp))
    robot.send(WRIST, image(4))
    robot.hears(WRIST, 4)
    assert robot.stamps(FRONT) == []
    robot.hears(FRONT, 3)
    assert robot.stamps(FRONT) == [1, 2, 3]


def test_what_is_still_held_back_when_all_is_sound_again_is_lost_and_comes_not_after_its_successors(robot):
    robot.relays.hold_back(FRONT, 2.0)
    robot.send(FRONT, image(1))
    robot.send(WRIST, image(1))
    robot.hears(WRIST, 1)
    robot.relays.sound()
    robot.relays.hold_back(FRONT, 2.0)    # what is lost would be due before this
    robot.send(FRONT, image(2))
    robot.hears(FRONT, 2)
    assert robot.stamps(FRONT) == [2]


def test_what_is_not_relayed_and_topics_of_two_types_are_refused_by_name(robot):
    with pytest.raises(KeyError, match="side/image_raw is not relayed"):
        robot.relays.spoil("side/image_raw", spoil.dropped)
    with pytest.raises(ValueError, match=f"{FRONT} and {JOINTS} are of different types"):
        robot.relays.exchange(FRONT, JOINTS)


def test_the_policy_reads_every_relay_under_its_spoilt_name():
    assert remap(CONTRACT) == {t: f"spoilt/{t}" for t in (FRONT, WRIST, "joint_states")}


def test_a_camera_that_sends_no_raw_images_is_refused_by_name(tmp_path):
    contract = tmp_path / "compressed.yaml"
    text = (EMBODIMENTS / "so101.yaml").read_text()
    contract.write_text(text.replace("transport: raw", "transport: compressed", 1))
    with pytest.raises(ContractError, match=r"camera front of compressed.yaml sends compressed images"):
        relayed(load_contract(contract))
