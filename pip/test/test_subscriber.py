# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""message_filters.Subscriber on a real node, over DDS."""

import os
import time
from collections.abc import Callable

import pytest
import rclpy
from builtin_interfaces.msg import Time
from message_filters import ApproximateTimeSynchronizer, Subscriber
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

# Only against waiting for ever; nothing is measured with it.
GIVE_UP_AFTER = 30.0


@pytest.fixture
def ros(monkeypatch):
    """A node and its executor in a ROS domain of this process, on this machine only."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = Context()
    rclpy.init(context=context, domain_id=30 + os.getpid() % 70)
    node = rclpy.create_node("message_filters_test", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def spin_until(executor: SingleThreadedExecutor, done: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + GIVE_UP_AFTER
    while not done():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        executor.spin_once(timeout_sec=0.1)


def test_two_subscribed_topics_are_matched_by_their_stamps(ros):
    node, executor = ros
    camera = Subscriber(node, Image, "camera/image_raw", qos_profile=qos_profile_sensor_data)
    joints = Subscriber(node, JointState, "joint_states")
    sync = ApproximateTimeSynchronizer([camera, joints], 10, 0.010)
    alone, sets = [], []
    camera.registerCallback(alone.append)
    sync.registerCallback(lambda image, state, own: sets.append((image, state, own)), "own argument")
    images = node.create_publisher(Image, "camera/image_raw", qos_profile_sensor_data)
    states = node.create_publisher(JointState, "joint_states", 10)
    spin_until(
        executor,
        lambda: images.get_subscription_count() == states.get_subscription_count() == 1,
        "the connections",
    )

    image = Image(header=Header(stamp=Time(sec=7, nanosec=5_000_000)), height=1, width=2, encoding="mono8", step=2)
    image.data = bytes([1, 2])
    far = JointState(header=Header(stamp=Time(sec=7, nanosec=20_000_000)))
    near = JointState(header=Header(stamp=Time(sec=7, nanosec=1_000_000)), name=["elbow"], position=[0.5])
    images.publish(image)
    spin_until(executor, lambda: alone != [], "the image")
    states.publish(far)
    states.publish(near)
    spin_until(executor, lambda: sets != [], "the set")
    assert alone == [image]
    assert sets == [(image, near, "own argument")]


def test_a_subscriber_takes_the_keywords_of_create_subscription_and_shows_its_subscription(ros):
    node, _ = ros
    group = rclpy.callback_groups.ReentrantCallbackGroup()
    qos = QoSProfile(depth=3, reliability=ReliabilityPolicy.BEST_EFFORT)
    subscriber = Subscriber(node, Image, "camera/image_raw", qos_profile=qos, callback_group=group)
    assert subscriber.getTopic() == "camera/image_raw"
    assert subscriber.topic_name == "/camera/image_raw"
    assert subscriber.qos_profile.depth == 3
    assert subscriber.callback_group is group
    assert subscriber.sub in node.subscriptions
    assert Subscriber(node, Image, "other").qos_profile.depth == 10
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = subscriber.no_such_thing


def test_a_refused_subscription_says_why(ros):
    node, _ = ros
    with pytest.raises(rclpy.exceptions.InvalidTopicNameException):
        Subscriber(node, Image, "not a topic")
