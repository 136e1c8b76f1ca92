# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder over real DDS."""

import json
import platform
import threading
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from recording_graph import CONTRACT, PATIENCE, Graph, trace
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, String

from molmoact2_contract import load_system
from molmoact2_contract.qos import CHUNK, DIAGNOSTICS, LATCHED, SENSOR_PUBLISH, STATUS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace
from molmoact2_policy.bags.bag import Bag, BagError, read_bag
from molmoact2_policy.bags.facts import facts_of
from molmoact2_policy.bags.node import RecorderNode
from molmoact2_policy.bags.options import Options
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


def test_what_it_was_recorded_with_is_in_the_bag_and_in_each_file_of_it(graph, tmp_path):
    system = load_system(Path(__file__).parents[3] / "config/systems/so101_sim.yaml")
    topics = {"policy/status": PolicyStatus}
    with BagRecorder(graph.recorder, tmp_path / "bag", topics, facts=facts_of(system.contract, system)) as recorder:
        publisher = graph.connect(PolicyStatus, "policy/status", STATUS)
        publisher.publish(PolicyStatus(checkpoint="tiny", checkpoint_fingerprint="abc", norm_tag="tag"))
        graph.spin_until(lambda: recorder.received["/policy/status"])
    (file,) = (tmp_path / "bag").glob("*.mcap")
    for path in (tmp_path / "bag", file):
        with Bag(path) as bag:
            facts = bag.facts
            assert not bag.lossy
        assert facts["system_file"] == system.path.read_text() and facts["system"] == "so101_sim"
        assert facts["contract_file"] == CONTRACT.path.read_text() and facts["contract"] == "so101"
        assert (facts["checkpoint"], facts["checkpoint_fingerprint"], facts["norm_tag"]) == ("tiny", "abc", "tag")
        versions = json.loads(facts["versions"])
        assert versions["python"] == platform.python_version() and versions["torch"] and versions["molmoact2_policy"]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_lossless_images_keep_their_topic_and_bytes(graph, tmp_path, storage):
    topics = {"image": Image}
    with BagRecorder(graph.recorder, tmp_path / "bag", topics, storage=storage, images="lossless") as recorder:
        publisher = graph.connect(Image, "image", SENSOR_PUBLISH)
        publisher.publish(Image(height=2, width=2, step=6, encoding="rgb8", data=bytes(range(12))))
        publisher.publish(Image(height=1, width=2, step=8, encoding="32FC1", data=bytes(range(8))))
        graph.spin_until(lambda: recorder.received["/image"] == 2)
    with Bag(tmp_path / "bag") as bag:
        read = [(topic, typename, m.encoding, m.data.tobytes()) for topic, typename, m, _ in bag.messages()]
        assert bag.counts == {"/image": 2} and bag.problems == [] and not bag.lossy
    kind = "sensor_msgs/msg/Image"
    assert read == [("/image", kind, "rgb8", bytes(range(12))), ("/image", kind, "32FC1", bytes(range(8)))]


def test_what_is_kept_for_those_who_come_late_is_recorded_of_any_type(graph, tmp_path):
    publisher = graph.publisher.create_publisher(String, "robot_description", LATCHED)
    publisher.publish(String(data="<robot/>"))
    graph.spin_until(lambda: graph.recorder.get_publishers_info_by_topic("/robot_description"))
    with BagRecorder(graph.recorder, tmp_path / "bag", {"robot_description": String}) as recorder:
        graph.spin_until(lambda: recorder.received["/robot_description"])
    ((_, _, message, _),) = read_bag(tmp_path / "bag")
    assert message.data == "<robot/>"


def test_a_disk_with_little_space_ends_the_recording_and_the_bag_is_whole(graph, tmp_path):
    recorder = BagRecorder(graph.recorder, tmp_path / "bag", {"t": ReasoningTrace}, min_free=0)
    publisher = graph.connect(ReasoningTrace, "t", TRACE)
    recorder._thread.min_free = 2**60    # as if others had filled the disk
    graph.spin_until(lambda: recorder.error)
    publisher.publish(trace(1))
    graph.spin_until(lambda: recorder.received["/t"])
    with pytest.raises(BagError, match="MB are free where the bag is written, less than .* make space"):
        recorder.close()
    with Bag(tmp_path / "bag") as bag:
        assert bag.problems == [] and bag.counts == {"/t": 0} and bag.dropped == {"/t": 1}


def test_a_disk_with_too_little_space_is_refused_at_the_begin(graph, tmp_path):
    with pytest.raises(BagError, match="cannot be created: only .* MB are free .* make space or record elsewhere"):
        BagRecorder(graph.recorder, tmp_path / "new/bag", {"t": ReasoningTrace}, min_free=2**60)
    assert not (tmp_path / "new").exists()


class Node:
    """The node `recorder`, spun as its process spins it."""

    def __init__(self, graph: Graph, options: Options):
        self.node = RecorderNode(options, context=graph.recorder.context)
        self.executor = SingleThreadedExecutor(context=graph.recorder.context)
        self.executor.add_node(self.node)

    def spin_until(self, condition) -> None:
        deadline = self.node.get_clock().now().nanoseconds + PATIENCE * 1e9
        while not condition():
            assert self.node.get_clock().now().nanoseconds < deadline, "nothing came"
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self.node.close()
        self.executor.shutdown()
        self.node.destroy_node()


def test_the_node_tells_of_drops_in_diagnostics(graph, tmp_path):
    node = Node(graph, Options(tmp_path / "bag", topics=("image",), queue_bytes=1000))
    heard = []
    graph.publisher.create_subscription(DiagnosticArray, "/diagnostics", heard.append, DIAGNOSTICS)
    images = graph.publisher.create_publisher(Image, "image", SENSOR_PUBLISH)
    node.spin_until(lambda: graph.recorder.get_publishers_info_by_topic("/image"))
    node.node.begin(node.executor)
    node.spin_until(images.get_subscription_count)
    images.publish(Image(height=1, width=2000, step=6000, encoding="rgb8", data=bytes(6000)))
    listener = SingleThreadedExecutor(context=graph.publisher.context)
    listener.add_node(graph.publisher)

    def told() -> bool:
        listener.spin_once(timeout_sec=0.0)
        return any("1 messages were dropped" in status.message for message in heard for status in message.status)

    node.spin_until(told)
    values = {v.key: v.value for v in heard[-1].status[0].values}
    assert values["dropped"] == values["dropped of /image"] == "1" and values["bag"] == str(tmp_path / "bag")
    listener.shutdown()
    node.close()
    with Bag(tmp_path / "bag") as bag:
        assert bag.dropped == {"/image": 1} and bag.counts == {"/image": 0}


def test_a_topic_that_gets_a_second_type_ends_the_recording_with_both_named(graph, tmp_path):
    graph.publisher.create_publisher(String, "mixed", 1)
    node = Node(graph, Options(tmp_path / "bag", topics=("mixed",)))
    node.node.begin(node.executor)
    graph.add("another").create_publisher(Bool, "mixed", 1)
    node.spin_until(lambda: node.node.failure)
    assert node.node.bad_input
    assert "/mixed has the types std_msgs/msg/Bool, std_msgs/msg/String; end or remap" in node.node.failure
    node.close()


def test_a_topic_with_two_types_is_refused(graph, tmp_path):
    graph.publisher.create_publisher(String, "mixed", 1)
    graph.add("another").create_publisher(Bool, "mixed", 1)
    node = Node(graph, Options(tmp_path / "bag", topics=("mixed",)))
    node.spin_until(lambda: len(dict(node.node.get_topic_names_and_types()).get("/mixed", [])) == 2)
    with pytest.raises(BagError, match="/mixed has several types: std_msgs/msg/Bool, std_msgs/msg/String"):
        node.node.begin(node.executor)
    node.close()
    assert not (tmp_path / "bag").exists()
