# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 replay BAG --into-ros`: as a process of its own, heard over DDS."""

import os
import signal
import subprocess

import pytest
import rclpy
from bag_samples import CHUNKS, JOINTS, STATUSES, TOP, TRACES, record_a_run
from live_robot import DOMAINS
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import SetBool

from molmoact2_contract.qos import CHUNK, SENSOR_PUBLISH, STATUS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace
from molmoact2_policy.bags.bag import Bag, stamp_ns
from molmoact2_policy.play.pacing import Pacing

PATIENCE = 60.0


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return record_a_run(tmp_path_factory.mktemp("run") / "bag", 3)


class Audience:
    """A node that hears some topics, and starts the player."""

    def __init__(self):
        self.domain = next(DOMAINS)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.node = rclpy.create_node("audience", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list] = {}
        kinds = {
            TOP: (Image, SENSOR_PUBLISH), JOINTS: (JointState, SENSOR_PUBLISH), TRACES: (ReasoningTrace, TRACE),
            CHUNKS: (ActionChunk, CHUNK), STATUSES: (PolicyStatus, STATUS), "/clock": (Clock, SENSOR_PUBLISH),
        }
        for topic, (kind, profile) in kinds.items():
            heard = self.heard.setdefault(topic, [])
            self.node.create_subscription(kind, topic, heard.append, profile)
        self.player: subprocess.Popen | None = None

    def play(self, *arguments: str) -> None:
        env = {**os.environ, "ROS_DOMAIN_ID": str(self.domain)}
        self.player = subprocess.Popen(
            ["molmoact2", "replay", "--into-ros", *arguments], env=env,
            stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
        )

    def until(self, condition) -> None:
        end = self.node.get_clock().now().nanoseconds + PATIENCE * 1e9
        while not condition():
            assert self.node.get_clock().now().nanoseconds < end, {t: len(h) for t, h in self.heard.items()}
            self.executor.spin_once(timeout_sec=0.1)

    def ended(self) -> tuple[int, str]:
        self.until(lambda: self.player.poll() is not None)
        return self.player.returncode, self.player.stdout.read()

    def call(self, kind, name, request):
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        return future.result()

    def close(self) -> None:
        if self.player is not None and self.player.poll() is None:
            self.player.kill()
            self.player.wait()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def audience():
    audience = Audience()
    yield audience
    audience.close()


def test_what_was_recorded_is_heard_again_with_its_stamps_and_a_clock_that_covers_it(bag, audience):
    with Bag(bag) as opened:
        recorded = [(topic, message) for topic, _, message, _ in opened.messages({TRACES, TOP})]
        span = opened.span_ns
    audience.play(str(bag), "--rate", "2")
    code, printed = audience.ended()
    assert code == 0, printed
    traces = [stamp_ns(m.header.stamp) for t, m in recorded if t == TRACES]
    assert [stamp_ns(m.header.stamp) for m in audience.heard[TRACES]] == traces
    images = {stamp_ns(m.header.stamp): bytes(m.data) for t, m in recorded if t == TOP}
    heard = audience.heard[TOP]
    assert len(heard) > len(images) / 2, "sensors may be dropped, not many"
    assert all(bytes(m.data) == images[stamp_ns(m.header.stamp)] for m in heard)
    clock = [m.clock.sec * 10**9 + m.clock.nanosec for m in audience.heard["/clock"]]
    assert clock == sorted(clock) and span[0] <= clock[0] and clock[-1] == span[1]


def test_it_can_be_paused_and_its_rate_changed_while_it_plays(bag, audience):
    audience.play(str(bag), "--paused")
    assert audience.call(SetBool, "player/pause", SetBool.Request(data=True)).success
    assert audience.heard[JOINTS] == []
    rate = Parameter(name="rate", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=-1.0))
    refused = audience.call(SetParameters, "player/set_parameters", SetParameters.Request(parameters=[rate]))
    assert "expected 0.01 to 100" in refused.results[0].reason
    rate.value.double_value = 50.0
    answer = audience.call(SetParameters, "player/set_parameters", SetParameters.Request(parameters=[rate]))
    assert answer.results[0].successful
    assert audience.call(SetBool, "player/pause", SetBool.Request(data=False)).success
    assert audience.ended()[0] == 0
    assert audience.heard[JOINTS]


def test_nothing_is_played_into_a_system_that_runs(bag, audience):
    audience.node.create_publisher(JointState, JOINTS, SENSOR_PUBLISH)
    audience.play(str(bag))
    code, printed = audience.ended()
    assert code == 1 and "published by node 'audience'" in printed and "Traceback" not in printed
    assert not audience.heard[CHUNKS]
    audience.play(str(bag), "--without", JOINTS, "--rate", "10")
    assert audience.ended()[0] == 0


def test_nothing_is_played_where_an_arm_is_controlled_even_if_the_bag_says_nothing_of_it(bag, audience):
    audience.node.create_publisher(ControllerStatus, "elbow/status", STATUS)
    audience.play(str(bag))
    code, printed = audience.ended()
    assert code == 1 and "node 'audience' controls an arm here (/elbow/status)" in printed
    assert not audience.heard[CHUNKS]


def test_ctrl_c_ends_it_and_bad_input_is_named(bag, audience, tmp_path):
    audience.play(str(bag), "--paused")
    audience.until(lambda: audience.heard["/clock"])
    audience.player.send_signal(signal.SIGINT)
    assert audience.ended()[0] == 0
    for arguments in ([str(tmp_path / "nothing")], [str(bag), "--rate", "0"]):
        audience.play(*arguments)
        code, printed = audience.ended()
        assert code == 2 and printed.startswith("error: ") and "Traceback" not in printed


def test_bag_time_stands_while_paused_and_runs_on_at_another_rate_from_where_it_is():
    pacing = Pacing(1_000, 2.0)
    pacing.begin(10.0)
    assert pacing.now_ns(10.5) == 1_000_001_000
    pacing.pause(True, 10.5)
    assert pacing.now_ns(99.0) == 1_000_001_000 and pacing.wait(2_000_001_000, 99.0) is None
    pacing.set_rate(0.5, 99.0)
    pacing.pause(False, 100.0)
    assert pacing.wait(2_000_001_000, 100.0) == pytest.approx(2.0)
    assert pacing.now_ns(102.0) == 2_000_001_000 and pacing.wait(2_000_001_000, 102.0) == 0.0
