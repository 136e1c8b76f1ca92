# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The visualizer over real DDS, beside a robot that publishes what a running system does."""

import json
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import Image, JointState
from tf2_msgs.msg import TFMessage
from tiny_robot import image
from view_samples import CONTRACT, chunk
from viewed_robot import OUTPUTS, Robot
from visualization_msgs.msg import Marker, MarkerArray

from molmoact2_contract import ContractError
from molmoact2_contract.qos import TF
from molmoact2_model import CheckpointError
from molmoact2_model.depth import CODEBOOK_FORMAT
from molmoact2_msgs.msg import PolicyStatus
from molmoact2_policy.ingest import stamp_ns
from molmoact2_policy.view import node as visualizer
from molmoact2_policy.view.overlay import HEAD

METRIC = [0.2 + 0.01 * code for code in range(128)]


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
