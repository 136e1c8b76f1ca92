# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The camera node over real DDS, in a domain of its own: recordings and videos in place of devices, and faults."""

import os
import signal
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from ament_index_python.packages import get_package_prefix
from calibration_file import TEXT
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from realsense_recording import FOCAL, SERIAL, colour, depth_mm, record
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from videos import HEIGHT, RATE, WIDTH, UvcDouble, write_video

import camera_driver.settings as settings_module
from camera_driver.camera_node import CameraNode
from camera_driver.capture import UvcSource
from camera_driver.devices import VideoDevices
from camera_driver.source import CameraError
from molmoact2_contract.qos import DIAGNOSTICS, SENSOR_SUBSCRIBE

DOMAIN = 78
CONTRACT = Path(__file__).resolve().parents[4] / "config/embodiments/so101.yaml"
IMAGE, INFO, DEPTH = "front/image_raw", "front/camera_info", "front/depth/image_raw"
SIZE = {"width": WIDTH, "height": HEIGHT, "rate": float(RATE)}


class Listener:
    """Hears what a camera says; the messages of a topic are in `seen`."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.seen: dict[str, list] = {}
        self.nodes: list[CameraNode] = []
        self.listen(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        for kind, topic in ((Image, IMAGE), (CameraInfo, INFO), (Image, DEPTH)):
            self.listen(kind, topic, SENSOR_SUBSCRIBE)

    def listen(self, kind, topic, qos) -> None:
        self.seen[topic] = []
        self.node.create_subscription(kind, topic, self.seen[topic].append, qos)

    def camera(self, **parameters) -> CameraNode:
        """A camera node in this process. Errors: CameraError."""
        values = {"camera": "front", **SIZE, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        node = CameraNode(context=self.context, parameter_overrides=overrides)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def until(self, condition, what: str) -> None:
        deadline = self.node.get_clock().now().nanoseconds + 120 * 10**9
        while not condition():
            assert self.node.get_clock().now().nanoseconds < deadline, what
            self.executor.spin_once(timeout_sec=0.1)

    def next(self, topic: str, count: int = 1) -> list:
        before = len(self.seen[topic])
        self.until(lambda: len(self.seen[topic]) >= before + count, f"nothing comes on {topic}")
        return self.seen[topic][before:]

    def diagnosis(self, wanted, what: str) -> DiagnosticStatus:
        """Waits for a diagnosis from now on that is as wanted, and returns it."""
        before, found = len(self.seen["/diagnostics"]), []

        def one() -> bool:
            found[:] = [a.status[0] for a in self.seen["/diagnostics"][before:] if wanted(a.status[0])]
            return bool(found)

        self.until(one, what)
        return found[0]

    def close(self) -> None:
        for node in self.nodes:
            node.close()
            node.destroy_node()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(tmp_path_factory.mktemp("node") / "camera.db3")


@pytest.fixture
def uvc(tmp_path, monkeypatch):
    """A UVC double that a node of kind uvc finds under the name Wrist Camera."""
    folder = tmp_path / "sys/class/video4linux/video0"
    for place in (folder, tmp_path / "dev", tmp_path / "proc"):
        place.mkdir(parents=True)
    (folder / "name").write_text("Wrist Camera")
    (tmp_path / "dev/video0").touch()
    double = UvcDouble(write_video(tmp_path / "scene.avi"))
    double.device = tmp_path / "dev/video0"

    def source(path, wanted, clocks, fourcc):
        return UvcSource(path, wanted, clocks, fourcc, VideoDevices(tmp_path), double)

    monkeypatch.setattr(settings_module, "UvcSource", source)
    return double


def pixels(message: Image) -> np.ndarray:
    kind = np.uint16 if message.encoding == "16UC1" else np.uint8
    return np.frombuffer(message.data, kind).reshape(message.height, message.width, -1)


def stamp(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def value(status: DiagnosticStatus, key: str) -> str:
    return next(pair.value for pair in status.values if pair.key == key)


def error(named: str):
    return lambda s: s.level == DiagnosticStatus.ERROR and named in s.message


def well(status: DiagnosticStatus) -> bool:
    return status.level != DiagnosticStatus.ERROR


def test_a_realsense_is_published_as_its_pixels_are_with_depth_intrinsics_and_one_stamp(listener, recording):
    listener.camera(kind="realsense", serial=SERIAL, playback_file=str(recording), depth=True)
    depth = listener.next(DEPTH, 3)[-1]
    listener.until(lambda: any(stamp(m) == stamp(depth) for m in listener.seen[IMAGE]), "no colour of that stamp")
    image = next(m for m in listener.seen[IMAGE] if stamp(m) == stamp(depth))
    k = (int(pixels(image)[0, 0, 0]) - 20) // 2
    assert image.encoding == "rgb8" and np.array_equal(pixels(image), colour(k))
    assert depth.encoding == "16UC1" and np.median(pixels(depth)) == depth_mm(k)
    assert image.header.frame_id == depth.header.frame_id == "front_optical_frame"
    info = listener.next(INFO)[-1]
    assert info.k[0] == FOCAL and (info.width, info.height) == (WIDTH, HEIGHT)


def test_stamps_go_on_and_are_of_the_recent_past(listener, uvc):
    listener.camera(kind="uvc", path="Wrist Camera")
    stamps = [stamp(m) for m in listener.next(IMAGE, 10)]
    assert stamps == sorted(set(stamps))
    assert 0 < listener.node.get_clock().now().nanoseconds - stamps[-1] < 30 * 10**9


def test_the_diagnosis_says_what_the_stamps_are_and_how_old_images_are_when_published(listener, uvc):
    listener.camera(kind="uvc", path="Wrist Camera")
    status = listener.diagnosis(well, "no diagnosis")
    assert status.name == "camera: front" and "Wrist Camera" in value(status, "source")
    assert "first packet" in value(status, "stamps")
    assert 0.004 <= float(value(status, "age when published [s]")) < 30


def test_the_calibration_file_is_the_camera_info_and_one_of_another_size_is_refused(listener, uvc, tmp_path):
    fitting = tmp_path / "front.yaml"
    text = TEXT.replace("width: 640", f"width: {WIDTH}").replace("height: 480", f"height: {HEIGHT}")
    fitting.write_text(text.replace("320.25", "80.5").replace("240.75", "60.25"))
    listener.camera(kind="uvc", path="Wrist Camera", calibration=str(fitting))
    info = listener.next(INFO)[-1]
    assert list(info.k) == [610.5, 0, 80.5, 0, 611, 60.25, 0, 0, 1] and list(info.d) == [0.1, -0.2, 0.001, 0.002, 0]
    other = tmp_path / "other.yaml"
    other.write_text(TEXT)
    with pytest.raises(CameraError, match="other.yaml is for 640 x 480 px, .* delivers 160 x 120"):
        listener.camera(kind="uvc", path="Wrist Camera", calibration=str(other))


def test_an_uncalibrated_camera_says_so_in_its_camera_info(listener, uvc):
    listener.camera(kind="uvc", path="Wrist Camera")
    info = listener.next(INFO)[-1]
    assert (info.width, info.height) == (WIDTH, HEIGHT) and not any(info.k)


def test_a_stall_is_named_and_images_come_again_when_the_camera_does(listener, uvc):
    listener.camera(kind="uvc", path="Wrist Camera")
    listener.next(IMAGE)
    uvc.stall.set()
    listener.diagnosis(error("Wrist Camera) "), "it is not said")
    uvc.stall.clear()
    listener.next(IMAGE, 2)
    status = listener.diagnosis(well, "its return is not said")
    assert int(value(status, "times it came back")) >= 1


def test_a_realsense_that_stops_sending_is_a_stall_and_is_opened_again(listener, recording):
    node = listener.camera(kind="realsense", serial=SERIAL, playback_file=str(recording))
    listener.next(IMAGE)
    node._source._pipeline.get_active_profile().get_device().as_playback().pause()
    listener.diagnosis(error("stalls: no frame for"), "the stall is not said")
    # Opening it again starts another playback, which runs.
    listener.next(IMAGE, 2)
    listener.diagnosis(well, "its return is not said")


def test_a_realsense_that_is_pulled_out_is_named_until_it_is_plugged_in(listener, tmp_path):
    recording = record(tmp_path / "camera.db3", frames=20)
    node = listener.camera(kind="realsense", serial=SERIAL, playback_file=str(recording))
    listener.next(IMAGE)
    away = recording.rename(tmp_path / "away.db3")
    node._source._pipeline.get_active_profile().get_device().as_playback().pause()
    listener.diagnosis(error("there is no such recording"), "it is not said")
    before = len(listener.seen[IMAGE])
    listener.diagnosis(error("there is no such recording"), "it is not said again")
    assert len(listener.seen[IMAGE]) == before
    away.rename(recording)
    listener.next(IMAGE, 2)
    listener.diagnosis(well, "its return is not said")


@pytest.mark.parametrize("kind", ["uvc", "realsense"])
def test_a_frozen_camera_is_named_and_its_image_is_not_published_on(listener, uvc, tmp_path, kind):
    if kind == "uvc":
        listener.camera(kind="uvc", path="Wrist Camera", frozen_after=0.3)
        listener.next(IMAGE)
        uvc.frozen.set()
    else:
        recording = record(tmp_path / "frozen.db3", frames=20, frozen=True)
        listener.camera(kind="realsense", playback_file=str(recording), frozen_after=0.3)
    listener.diagnosis(error("is frozen: the same bytes for"), "it is not said")
    listener.diagnosis(error("is frozen"), "it is not said again")
    before = len(listener.seen[IMAGE])
    listener.diagnosis(error("is frozen"), "it is not said a third time")
    assert len(listener.seen[IMAGE]) == before
    if kind == "uvc":
        uvc.frozen.clear()
        listener.next(IMAGE, 2)
        listener.diagnosis(well, "its return is not said")


def test_a_uvc_camera_that_is_pulled_out_is_lost_then_missing_then_back(listener, uvc):
    listener.camera(kind="uvc", path="Wrist Camera")
    listener.next(IMAGE)
    name = uvc.device.parent.parent / "sys/class/video4linux/video0/name"
    name.rename(name.parent / "was")
    uvc.gone.set()
    listener.diagnosis(error("no camera is named 'Wrist Camera'"), "it is not said")
    uvc.gone.clear()
    (name.parent / "was").rename(name)
    listener.next(IMAGE, 2)
    listener.diagnosis(well, "its return is not said")


def test_a_camera_that_is_slower_than_asked_for_is_a_warning_with_the_mend(listener, uvc):
    listener.camera(kind="uvc", path="Wrist Camera", rate=200.0)
    status = listener.diagnosis(lambda s: s.level == DiagnosticStatus.WARN, "it is not said")
    assert "not 200 as asked: more light" in status.message


def test_a_contract_that_wants_compressed_images_gets_them(listener, uvc, tmp_path):
    contract = tmp_path / "contract.yaml"
    text = CONTRACT.read_text()
    assert "topic: front/image_raw" in text
    contract.write_text(
        text.replace("topic: front/image_raw", "topic: front/image_raw/compressed", 1).replace(
            "transport: raw", "transport: compressed", 1
        )
    )
    topic = "front/image_raw/compressed"
    listener.listen(CompressedImage, topic, SENSOR_SUBSCRIBE)
    listener.camera(kind="uvc", path="Wrist Camera", contract=str(contract))
    image = cv2.imdecode(np.frombuffer(listener.next(topic)[-1].data, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (HEIGHT, WIDTH, 3) and image.std() < 3


def test_a_folder_of_one_image_is_shown_for_ever_without_being_called_frozen(listener, tmp_path):
    image = np.full((HEIGHT, WIDTH, 3), (10, 20, 30), np.uint8)
    cv2.imwrite(str(tmp_path / "still.png"), image)
    listener.camera(kind="images", path=str(tmp_path), frozen_after=0.1)
    messages = listener.next(IMAGE, 20)
    assert messages[-1].encoding == "bgr8" and np.array_equal(pixels(messages[-1]), image)
    listener.diagnosis(well, "it is called frozen")


# --- as its users start it --------------------------------------------------------------------------------------------
def start(**parameters) -> subprocess.Popen:
    program = Path(get_package_prefix("camera_driver")) / "lib/camera_driver/camera"
    values = {"camera": "front", **SIZE, **parameters}
    arguments = [part for key, value in values.items() for part in ("-p", f"{key}:={value}")]
    return subprocess.Popen(
        [str(program), "--ros-args", *arguments], env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
        stderr=subprocess.PIPE, text=True,
    )


def test_the_program_publishes_and_ends_cleanly_when_asked(listener, tmp_path):
    program = start(kind="video", path=write_video(tmp_path / "scene.avi"), contract=CONTRACT, simulation="true")
    try:
        listener.until(lambda: len(listener.seen[IMAGE]) >= 3 or program.poll() is not None, "nothing comes")
    finally:
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == 0 and "error" not in errors.lower(), errors
    assert len(listener.seen[IMAGE]) >= 3


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"kind": "uvc", "path": "/dev/video99"}, "error: camera: camera /dev/video99 is not there"),
        ({"kind": "realsense", "serial": "'999'"}, "error: camera: RealSense 999 is not there"),
        ({"kind": "video", "path": "/nowhere.mp4"}, "error: camera: video /nowhere.mp4 is not there"),
        ({"kind": "webcam"}, "error: camera: camera front: kind is 'webcam'"),
        ({"kind": "uvc", "path": "x", "rate": "-1.0"}, "rate"),
    ],
)
def test_a_camera_that_cannot_be_had_ends_the_program_with_one_line_that_names_it(parameters, named):
    program = start(**parameters)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 1 and named in errors
