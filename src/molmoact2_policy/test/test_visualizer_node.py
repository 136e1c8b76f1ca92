# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The visualizer over real DDS, beside a robot that publishes what a running system does."""

import json
import threading
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2
from sides import Side
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from tiny_robot import compressed, image, joint_state, time_of
from view_samples import ARM, CONTRACT, HOME, chunk, status, trace
from visualization_msgs.msg import Marker, MarkerArray

from molmoact2_contract import ContractError
from molmoact2_contract.qos import CHUNK, LATCHED, SENSOR_PUBLISH, STATUS, TF, TRACE, VIEW
from molmoact2_model import CheckpointError
from molmoact2_model.depth import CODEBOOK_FORMAT
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, InputStamp, PolicyStatus, ReasoningTrace
from molmoact2_policy.ingest import stamp_ns
from molmoact2_policy.view import node as visualizer
from molmoact2_policy.view.node import VisualizerNode
from molmoact2_policy.view.overlay import HEAD

DOMAIN = 96
PATIENCE = 30.0    # seconds; only a failing test waits that long
OUTPUTS = {
    "policy/depth/image": (Image, VIEW),
    "policy/depth/image_mono": (Image, VIEW),
    "policy/depth/image_metres": (Image, VIEW),
    "policy/depth/refreshed": (Image, VIEW),
    "policy/depth/points": (PointCloud2, VIEW),
    "policy/depth/points_relative": (PointCloud2, VIEW),
    "policy/path": (MarkerArray, VIEW),
    "robot_description": (String, LATCHED),
    "/tf": (TFMessage, TF),
    "/tf_static": (TFMessage, LATCHED),
}
METRIC = [0.2 + 0.01 * code for code in range(128)]


class Robot:
    """Publishes image, state, chunk and trace of one moment, ten times a second; hears the visualizer."""

    def __init__(self):
        self._sides = [Side(DOMAIN, lambda context: rclpy.create_node("robot", context=context))]
        self.node = self._sides[0].node
        self.heard: dict[str, list] = defaultdict(list)
        self.sent: dict[int, np.ndarray] = {}
        self._news = threading.Condition()
        self.checkpoint, self.order, self.image_late_ns, self.changed = "", "image first", 0, {}
        self.transport, self.calibrated, self.bad = "raw", True, ()
        create = self.node.create_publisher
        self._images = create(Image, "front/image_raw", SENSOR_PUBLISH)
        self._compressed = create(CompressedImage, "front/compressed", SENSOR_PUBLISH)
        self._infos = create(CameraInfo, "front/camera_info", SENSOR_PUBLISH)
        self._joints = create(JointState, "joint_states", SENSOR_PUBLISH)
        self._traces = create(ReasoningTrace, "policy/reasoning_trace", TRACE)
        self._chunks = create(ActionChunk, "policy/action_chunk", CHUNK)
        self._policy = create(PolicyStatus, "policy/status", STATUS)
        self._status = create(ControllerStatus, "arm/status", STATUS)
        self._listeners: dict = {}
        self._frame = 0
        self.node.create_timer(0.1, self._publish)

    def start(self, **parameters) -> VisualizerNode:
        given = [Parameter(name, value=value) for name, value in {"contract": "so101", **parameters}.items()]
        side = Side(DOMAIN, lambda context: VisualizerNode(context=context, parameter_overrides=given))
        self._sides.append(side)
        return side.node

    def beside(self, name: str):
        """Another node in the graph."""
        self._sides.append(Side(DOMAIN, lambda context: rclpy.create_node(name, context=context)))
        return self._sides[-1].node

    def leave(self, node) -> None:
        side = next(side for side in self._sides if side.node is node)
        self._sides.remove(side)
        side.close()

    def listen(self, *topics: str) -> None:
        for topic in topics or OUTPUTS:
            kind, profile = OUTPUTS[topic]
            keep = partial(self._keep, topic)
            self._listeners[topic] = self.node.create_subscription(kind, topic, keep, profile)

    def stop_listening(self, topic: str) -> None:
        self.node.destroy_subscription(self._listeners.pop(topic))

    def _keep(self, topic: str, message) -> None:
        with self._news:
            self.heard[topic].append(message)
            self._news.notify_all()

    def _publish(self) -> None:
        self._frame += 1
        now = self.node.get_clock().now().nanoseconds
        said = {"norm_tag": "so101_sim_molmoact2_tiny", "checkpoint": self.checkpoint}
        self._policy.publish(PolicyStatus(depth_mode=ReasoningTrace.DEPTH_ADAPTIVE, **said))
        self._joints.publish(joint_state_at_home(now))
        self._info(now)
        self._chunks.publish(chunk(1 + self._frame % 5, now, chunk_id=self._frame))
        self._status.publish(status(self._frame, acceptance_latency=0.1))
        rgb = np.full((48, 64, 3), self._frame * 7 % 200, np.uint8)
        self.sent[now] = rgb
        if self.order == "trace late":
            self._trace(sorted(self.sent)[-2:][0])    # that of the period before
        elif self.order == "trace first":
            self._trace(now)
        self._image(rgb, now)
        if self.order == "image first":
            self._trace(now)
        for publisher, message in self.bad:
            getattr(self, publisher).publish(message)

    def _image(self, rgb: np.ndarray, now: int) -> None:
        stamp = now + self.image_late_ns
        if self.transport == "compressed":
            self._compressed.publish(compressed(rgb, stamp))
        else:
            self._images.publish(image(rgb, stamp, frame_id="front_optical_frame"))

    def _info(self, now: int) -> None:
        info = CameraInfo(width=64, height=48, distortion_model="plumb_bob", d=[0.0] * 5)
        if self.calibrated:
            info.k = [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]
        info.header.stamp, info.header.frame_id = time_of(now), "front_optical_frame"
        self._infos.publish(info)

    def _trace(self, now: int) -> None:
        topic = "/front/compressed" if self.transport == "compressed" else "/front/image_raw"
        message = trace(instruction="wave", chunk_id=self._frame, **self.changed)
        message.header.stamp, message.header.frame_id = time_of(now), "front_optical_frame"
        message.inputs = [InputStamp(topic=topic, stamp=time_of(now))]
        self._traces.publish(message)

    def wait(self, condition):
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), {topic: len(m) for topic, m in self.heard.items()}
            return condition()

    def next(self, topic: str, condition=lambda message: True, count: int = 1):
        """The count-th message heard from now on for which the condition holds."""
        start = len(self.heard[topic])
        return self.wait(lambda: dict(enumerate(m for m in self.heard[topic][start:] if condition(m))).get(count - 1))

    def until(self, condition) -> None:
        """Waits for something of the graph, which tells of no changes."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the graph did not change"
            time.sleep(0.05)

    def publishers(self, topic: str) -> set[str]:
        return {info.node_name for info in self.node.get_publishers_info_by_topic(topic)}

    def close(self) -> None:
        for side in reversed(self._sides):
            side.close()


def joint_state_at_home(now: int) -> JointState:
    return joint_state(now, names=ARM.joints, **dict(zip(ARM.joints, HOME, strict=True)))


def pixels(message: Image) -> np.ndarray:
    kind, channels = {"rgb8": (np.uint8, 3), "mono8": (np.uint8, 1), "32FC1": (np.float32, 1)}[message.encoding]
    return np.frombuffer(bytes(message.data), kind).reshape(message.height, message.width, channels)


def checkpoint(folder: Path, **codebook) -> str:
    (folder / "config.json").write_text(json.dumps({"num_depth_tokens": 128}))
    (folder / "depth_codebook.json").write_text(json.dumps({"format": CODEBOOK_FORMAT, **codebook}))
    return str(folder)


@pytest.fixture
def robot():
    robot = Robot()
    yield robot
    robot.close()


# --- what is shown ----------------------------------------------------------------------------------------------------
def test_every_picture_of_a_trace_carries_its_stamp_and_the_camera_s_frame(robot):
    robot.listen()
    robot.start()
    stamp = stamp_ns(robot.next("policy/depth/refreshed"))
    assert stamp in robot.sent
    for topic in ("policy/depth/image", "policy/depth/image_mono", "policy/depth/points_relative"):
        message = robot.next(topic)
        assert stamp_ns(message) in robot.sent
        assert message.header.frame_id == "front_optical_frame"
    for shown in list(robot.heard["policy/depth/refreshed"]):
        middle = pixels(shown)[HEAD + 48 * 5 + 24, 20].astype(int)
        assert np.abs(middle - robot.sent[stamp_ns(shown)][0, 0]).max() <= 2, "the picture is that of its stamp"


@pytest.mark.parametrize("order", ["trace late", "image first", "trace first"])
@pytest.mark.parametrize("late_ns", [1, -1])
def test_an_image_of_another_moment_is_never_used(robot, order, late_ns):
    robot.order, robot.image_late_ns = order, late_ns
    robot.listen()
    robot.start()
    robot.until(lambda: robot._images.get_subscription_count() == 1)
    robot.next("policy/depth/image", count=10)
    assert robot.heard["policy/depth/refreshed"] == []
    robot.image_late_ns = 0
    robot.next("policy/depth/refreshed")


@pytest.mark.parametrize("order", ["trace late", "trace first"])
def test_the_image_is_found_whether_it_comes_before_or_after_its_trace(robot, order):
    robot.order = order
    robot.listen("policy/depth/refreshed")
    robot.start()
    assert stamp_ns(robot.next("policy/depth/refreshed")) in robot.sent


def test_compressed_cameras_are_shown(robot, tmp_path):
    text = CONTRACT.path.read_text().replace("front/image_raw", "front/compressed", 1)
    contract = tmp_path / "so101_compressed.yaml"
    contract.write_text(text.replace("transport: raw", "transport: compressed", 1))
    robot.transport = "compressed"
    robot.listen("policy/depth/refreshed")
    robot.start(contract=str(contract))
    shown = robot.next("policy/depth/refreshed")
    middle = pixels(shown)[HEAD + 48 * 5 + 24, 20].astype(int)
    assert np.abs(middle - robot.sent[stamp_ns(shown)][0, 0]).max() <= 4


def test_the_path_the_text_the_frames_and_the_robot_model_are_published(robot):
    robot.listen()
    robot.start()
    assert len(running(robot.next("policy/path", lambda m: running(m) is not None)).points) == 20
    text = caption(robot.next("policy/path", lambda m: "wave" in caption(m).text))
    assert text.header.frame_id == "base_link" and "depth adaptive, 10 of 100 cells anew" in text.text
    moving = {t.child_frame_id: t.header.frame_id for t in robot.next("/tf").transforms}
    assert moving["gripper_link"] == "wrist_link" and moving["moving_jaw_so101_v1_link"] == "gripper_link"
    fixed = robot.wait(lambda: robot.heard["/tf_static"])[-1].transforms
    assert {"front_optical_frame", "wrist_optical_frame", "gripper_frame_link"} == {t.child_frame_id for t in fixed}
    assert "<robot" in robot.wait(lambda: robot.heard["robot_description"])[0].data
    for topic in OUTPUTS:
        assert robot.publishers(topic) == {"visualizer"}, topic


def running(message: MarkerArray) -> Marker | None:
    return next((m for m in message.markers if m.ns == "arm/running" and m.action == Marker.ADD), None)


def caption(message: MarkerArray) -> Marker:
    return next(m for m in message.markers if m.ns == "text")


# --- metres and what is none ------------------------------------------------------------------------------------------
def test_depth_in_metres_is_published_in_metres(robot, tmp_path):
    robot.checkpoint = checkpoint(tmp_path, unit="m", values=METRIC)
    robot.listen()
    robot.start()
    cloud = robot.next("policy/depth/points")
    z = np.frombuffer(bytes(cloud.data), np.float32).reshape(-1, 4)[:, 2].reshape(40, 40)
    np.testing.assert_allclose(z[::4, ::4].ravel(), METRIC[:100], rtol=1e-5)
    metres = robot.next("policy/depth/image_metres")
    assert (metres.encoding, metres.width, metres.height) == ("32FC1", 64, 48)
    assert pixels(metres)[0, 0, 0] == pytest.approx(METRIC[0])
    assert pixels(metres)[-1, -1, 0] == pytest.approx(METRIC[99])
    robot.next("policy/depth/image", count=3)
    assert not [m for m in robot.heard["policy/depth/points_relative"] if stamp_ns(m) >= stamp_ns(cloud)]


@pytest.mark.parametrize("codebook", [None, {"unit": "relative", "larger": "nearer", "values": METRIC}])
def test_relative_depth_and_codes_never_claim_metres(robot, tmp_path, codebook):
    if codebook is not None:
        robot.checkpoint = checkpoint(tmp_path, **codebook)
    robot.listen()
    robot.start()
    relative = robot.next("policy/depth/points_relative", count=5)
    robot.next("policy/depth/image", count=5)
    assert robot.heard["policy/depth/points"] == robot.heard["policy/depth/image_metres"] == []
    z = np.frombuffer(bytes(relative.data), np.float32).reshape(-1, 4)[:, 2]
    assert z.min() >= 0.3 and z.max() <= 1.0 + 1e-6
    assert robot.next("policy/depth/image_mono").encoding == "mono8"


def test_a_codebook_that_does_not_fit_the_checkpoint_is_not_used(robot, tmp_path):
    robot.checkpoint = checkpoint(tmp_path, unit="m", values=METRIC[:-1])
    robot.listen()
    robot.start()
    robot.next("policy/depth/points_relative", count=3)
    assert robot.heard["policy/depth/points"] == robot.heard["policy/depth/image_metres"] == []
    robot.next("policy/path", lambda m: "code index" in caption(m).text)


def test_a_camera_without_calibration_gives_no_points_but_pictures(robot):
    robot.calibrated = False
    robot.listen()
    robot.start()
    robot.next("policy/depth/image", count=3)
    robot.next("policy/depth/refreshed")
    assert robot.heard["policy/depth/points_relative"] == []


# --- never in the way -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("publisher", "topic"),
    [("_images", "policy/depth/refreshed"), ("_infos", "policy/depth/points_relative"), ("_joints", "/tf")],
)
def test_what_comes_often_is_received_only_while_somebody_looks(robot, publisher, topic):
    robot.listen("policy/path")
    robot.start()
    robot.next("policy/path", lambda m: "wave" in caption(m).text)
    robot.until(lambda: robot.publishers("/tf") == {"visualizer"})
    received = getattr(robot, publisher).get_subscription_count
    assert received() == 0
    robot.listen(topic)
    robot.next(topic)
    assert received() == 1
    robot.stop_listening(topic)
    robot.until(lambda: received() == 0)


def test_bad_messages_are_left_out_and_the_next_good_ones_are_shown(robot):
    robot.listen()
    robot.start()
    robot.next("policy/depth/refreshed")
    robot.changed = {"codes": [1, 2, 3]}
    robot.bad = (
        ("_chunks", chunk(2, positions=[float("nan")] * 120)),
        ("_joints", JointState(name=["shoulder_pan"], position=[])),
        ("_joints", JointState(name=["shoulder_pan"], position=[float("nan")])),
        ("_images", image(np.zeros((4, 4, 3), np.uint8), 5, encoding="no such encoding")),
        ("_policy", PolicyStatus(norm_tag="no_such_tag", checkpoint="/no/such/folder")),
    )
    before = len(robot.sent)
    robot.until(lambda: len(robot.sent) > before + 10)
    robot.changed, robot.bad = {}, ()
    stamp = max(robot.sent)
    for topic in ("policy/depth/image", "policy/depth/refreshed", "policy/depth/points_relative"):
        robot.next(topic, lambda m: stamp_ns(m) > stamp)
    frames = robot.next("/tf").transforms
    assert all(np.isfinite(t.transform.rotation.w) for t in frames)
    robot.next("policy/path", lambda m: running(m) is not None)


# --- frames of others -------------------------------------------------------------------------------------------------
def test_frames_are_left_to_a_robot_state_publisher(robot):
    robot.listen("/tf")
    robot.start()
    robot.next("/tf")
    other = robot.beside("robot_state_publisher")
    robot.until(lambda: "visualizer" not in robot.publishers("/tf") | robot.publishers("/tf_static"))
    robot.leave(other)
    robot.next("/tf")


@pytest.mark.parametrize(("child", "stays"), [("wrist_link", False), ("cart", True)])
def test_frames_are_left_to_whoever_publishes_them_already(robot, child, stays):
    rival = robot.beside("rival")
    publisher = rival.create_publisher(TFMessage, "/tf", TF)
    message = TFMessage(transforms=[TransformStamped(child_frame_id=child)])
    rival.create_timer(0.1, lambda: publisher.publish(message))
    robot.until(lambda: robot.publishers("/tf") == {"rival"})
    robot.listen("/tf")
    node = robot.start()
    if stays:
        robot.next("/tf", lambda m: len(m.transforms) > 1)
    else:
        robot.until(lambda: "/rival publishes wrist_link" in node.broadcaster.why)
        assert robot.publishers("/tf") == {"rival"}


# --- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("parameters", "error", "named"),
    [
        ({"contract": ""}, ContractError, "contract is empty"),
        ({"publish_tf": "perhaps"}, ContractError, "publish_tf is 'perhaps'"),
        ({"display_near": 2.0, "display_far": 1.0}, ContractError, "display_near .* must be less"),
        ({"depth_decoder": "/no/such/codebook.json"}, CheckpointError, "codebook.json is missing"),
        ({"depth_decoder": "/no/such/vae.pt"}, CheckpointError, "vae.pt: no such file"),
        ({"depth_decoder": "/no/such/vae.onnx"}, CheckpointError, "vae.onnx"),
        ({"urdf": "/no/such/robot.urdf"}, ContractError, "robot.urdf: cannot be read"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused_by_name(robot, parameters, error, named):
    with pytest.raises(error, match=named):
        robot.start(**parameters)


def test_the_executable_says_what_it_refuses_and_ends(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["visualizer", "--ros-args", "-p", "contract:=no_such_robot"])
    assert visualizer.main() == 1
    assert "error: visualizer: no_such_robot" in capsys.readouterr().err
