# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder over real DDS."""

import threading

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from recording_graph import CONTRACT, PATIENCE, Graph, trace
from sensor_msgs.msg import Image, JointState

from molmoact2_contract.qos import CHUNK, SENSOR_PUBLISH, STATUS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, ReasoningTrace
from molmoact2_policy.bags.bag import Bag, BagError, read_bag
from molmoact2_policy.bags.recorder import BagRecorder
from molmoact2_policy.bags.topics import topics_of


@pytest.fixture
def graph():
    graph = Graph(domain=100)
    yield graph
    graph.close()


def test_what_is_published_is_in_the_bag_with_its_own_types(graph, tmp_path):
    topics = topics_of(CONTRACT)
    with BagRecorder(graph.recorder, tmp_path / "bag", topics) as recorder:
        traces = graph.connect(ReasoningTrace, "policy/reasoning_trace", TRACE)
        chunks = graph.connect(ActionChunk, "policy/action_chunk", CHUNK)
        images = graph.connect(Image, "front/image_raw", SENSOR_PUBLISH)
        joints = graph.connect(JointState, "joint_states", SENSOR_PUBLISH)
        before = graph.recorder.get_clock().now().nanoseconds
        picture = Image(height=240, width=320, step=960, encoding="rgb8", data=bytes(range(256)) * 900)
        joints.publish(JointState(name=["a", "b"], position=[0.5, -0.5]))
        images.publish(picture)
        traces.publish(trace(7))
        chunks.publish(ActionChunk(chunk_id=7, joint_names=["a", "b"], horizon=2, positions=[1.0, 2.0, 3.0, 4.0]))
        graph.spin_until(lambda: sum(recorder.received.values()) == 4)
        after = graph.recorder.get_clock().now().nanoseconds
    found = {topic: (typename, message) for topic, typename, message, _ in read_bag(tmp_path / "bag")}
    assert all(before <= receive_ns <= after for *_, receive_ns in read_bag(tmp_path / "bag"))
    typename, read = found["/policy/reasoning_trace"]
    assert typename == "molmoact2_msgs/msg/ReasoningTrace"
    assert (read.trace_id, read.depth_mode, read.warnings) == ("t7", ReasoningTrace.DEPTH_ADAPTIVE, ["größer"])
    assert read.codes.tolist() == list(range(100)) and read.refreshed.tolist() == trace(7).refreshed
    assert read.timings[0].seconds == 0.125 and read.inputs[0].topic == "/front/image_raw"
    assert found["/policy/action_chunk"][1].positions.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found["/front/image_raw"][1].data.tobytes() == bytes(picture.data)
    assert found["/joint_states"][1].position.tolist() == [0.5, -0.5]
    with Bag(tmp_path / "bag") as bag:
        assert bag.dropped == dict.fromkeys((graph.recorder.resolve_topic_name(t) for t in topics), 0)
        assert bag.counts["/arm/status"] == 0, "a topic on which nothing came is named all the same"


def test_a_status_sent_before_recording_began_is_recorded(graph, tmp_path):
    publisher = graph.publisher.create_publisher(ControllerStatus, "arm/status", STATUS)
    publisher.publish(ControllerStatus(accepted_chunks=5))
    with BagRecorder(graph.recorder, tmp_path / "bag", {"arm/status": ControllerStatus}) as recorder:
        graph.spin_until(lambda: recorder.received["/arm/status"])
    ((_, _, status, _),) = read_bag(tmp_path / "bag")
    assert status.accepted_chunks == 5


def test_a_best_effort_publisher_is_recorded_too(graph, tmp_path):
    with BagRecorder(graph.recorder, tmp_path / "bag", {"front/image_raw": Image}) as recorder:
        profile = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        publisher = graph.connect(Image, "front/image_raw", profile)

        def published_and_seen() -> bool:
            publisher.publish(Image(height=1, width=1, step=3, encoding="rgb8", data=b"abc"))
            return recorder.received["/front/image_raw"] > 0

        graph.spin_until(published_and_seen)
    assert next(read_bag(tmp_path / "bag"))[2].data.tobytes() == b"abc"


def test_an_exception_leaves_a_readable_bag(graph, tmp_path):
    path = tmp_path / "bag"
    with pytest.raises(ZeroDivisionError), BagRecorder(graph.recorder, path, {"t": ReasoningTrace}) as recorder:
        publisher = graph.connect(ReasoningTrace, "t", TRACE)
        publisher.publish(trace(1))
        graph.spin_until(lambda: recorder.received["/t"])
        raise ZeroDivisionError
    assert [m.trace_id for _, _, m, _ in read_bag(tmp_path / "bag")] == ["t1"]


class Stall:
    """A storage that lets nothing through until told; stands between a recorder and its disk."""

    def __init__(self, recorder: BagRecorder, error: OSError | None = None):
        self.reached, self.go_on = threading.Event(), threading.Event()
        write = recorder.writer.write

        def stalled(*args):
            self.reached.set()
            assert self.go_on.wait(PATIENCE)
            if error is not None:
                raise error
            write(*args)

        recorder.writer.write = stalled


def test_a_slow_disk_never_blocks_and_what_does_not_fit_is_counted(graph, tmp_path):
    with BagRecorder(graph.recorder, tmp_path / "bag", {"image": Image}, queue_bytes=2500) as recorder:
        publisher = graph.connect(Image, "image", SENSOR_PUBLISH)
        stall = Stall(recorder)

        def send(number: int) -> None:
            publisher.publish(Image(height=1, width=333, step=999, encoding="rgb8", data=bytes([number]) * 999))
            graph.spin_until(lambda: recorder.received["/image"] == number)

        send(1)
        assert stall.reached.wait(PATIENCE)
        for number in (2, 3, 4, 5):
            send(number)
        assert recorder.dropped == {"/image": 2}, "one is being written, two wait, two did not fit"
        stall.go_on.set()
    assert [m.data[0] for _, _, m, _ in read_bag(tmp_path / "bag")] == [1, 2, 3]
    with Bag(tmp_path / "bag") as bag:
        assert bag.dropped == {"/image": 2}


def test_a_full_disk_is_named_on_closing_and_the_bag_stays_readable(graph, tmp_path):
    recorder = BagRecorder(graph.recorder, tmp_path / "bag", {"t": ReasoningTrace})
    publisher = graph.connect(ReasoningTrace, "t", TRACE)
    publisher.publish(trace(1))
    graph.spin_until(lambda: recorder.received["/t"] == 1)
    stall = Stall(recorder, OSError(28, "No space left on device"))
    stall.go_on.set()
    publisher.publish(trace(2))
    graph.spin_until(lambda: recorder.received["/t"] == 2)
    with pytest.raises(BagError, match="No space left on device"):
        recorder.close()
    recorder.close()
    assert [m.trace_id for _, _, m, _ in read_bag(tmp_path / "bag")] in (["t1"], [])
    with Bag(tmp_path / "bag") as bag:
        assert sum(bag.counts.values()) + bag.dropped["/t"] == 2


def test_an_existing_bag_is_not_overwritten(graph, tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match="exists already"):
        BagRecorder(graph.recorder, tmp_path / "bag", {"t": ReasoningTrace})
