# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""UVC cameras and video files: the pixels come out of OpenCV's VideoCapture throughout."""

import os
import re
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from videos import HEIGHT, RATE, WIDTH, UvcDouble, grey, write_video

from camera_driver.capture import UvcSource, VideoFileSource
from camera_driver.clock import HostClocks
from camera_driver.devices import VideoDevices
from camera_driver.images import ImageFolderSource
from camera_driver.source import CameraError, Wanted

WANTED = Wanted(WIDTH, HEIGHT, RATE)
TIMEOUT = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"
ROS = 10**18    # ROS time minus steady time, in these tests [ns]


def clocks() -> HostClocks:
    return HostClocks(lambda: time.monotonic_ns() + ROS)


@pytest.fixture
def device(tmp_path):
    """A UVC camera on a machine of its own, with a video behind it."""
    folder = tmp_path / "sys/class/video4linux/video0"
    for place in (folder, tmp_path / "dev", tmp_path / "proc"):
        place.mkdir(parents=True)
    (folder / "name").write_text("Wrist Camera")
    (tmp_path / "dev/video0").touch()
    return UvcDouble(write_video(tmp_path / "scene.avi"))


def uvc(device: UvcDouble, wanted: Wanted = WANTED, fourcc: str = "") -> UvcSource:
    devices = VideoDevices(device.video.parent)
    return UvcSource("Wrist Camera", wanted, clocks(), fourcc=fourcc, devices=devices, open_capture=device)


def shown(image: np.ndarray) -> float:
    return float(image.mean())


def test_a_uvc_camera_is_asked_for_what_is_wanted_and_its_frames_come_in_order(device):
    source = uvc(device, fourcc="MJPG")
    source.open()
    assert device.asked == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"), cv2.CAP_PROP_FRAME_WIDTH: WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT: HEIGHT, cv2.CAP_PROP_FPS: RATE,
    }
    frames = [source.read() for _ in range(5)]
    assert [f.encoding for f in frames] == ["bgr8"] * 5
    assert [shown(f.colour) for f in frames] == pytest.approx([grey(k) for k in range(1, 6)], abs=2)
    assert "video0 (Wrist Camera)" in source.name
    source.close()


def test_the_drivers_stamp_becomes_ros_time_and_not_the_time_of_fetching(device):
    device.offset = -0.4
    source = uvc(device)
    source.open()
    before = time.monotonic_ns()
    frame = source.read()
    after = time.monotonic_ns()
    # The stamp was taken between the two, and is 0.4 s older; double precision of milliseconds rounds.
    assert before - 401_000_000 <= frame.stamp_ns - ROS <= after - 399_000_000
    assert "driver" in source.stamps and "first packet" in source.stamps
    source.close()


@pytest.mark.parametrize("offset", [None, -3600.0, 5.0])
def test_a_driver_without_a_plausible_stamp_gives_the_time_of_fetching_and_that_is_said(device, offset):
    device.offset = offset
    source = uvc(device)
    source.open()
    before = time.monotonic_ns()
    stamp = source.read().stamp_ns - ROS
    assert before <= stamp <= time.monotonic_ns()
    assert source.stamps == "when the frame was fetched (the driver gives none)"
    source.close()


def test_a_camera_that_delivers_another_size_is_refused_with_both(device):
    write_video(device.video, size=(320, 240))
    with pytest.raises(CameraError, match=r"Wrist Camera\) delivers 320 x 240 px, not the 160 x 120 asked for"):
        uvc(device).open()


def test_any_size_is_taken_where_none_is_asked_for(device):
    write_video(device.video, size=(320, 240))
    source = uvc(device, Wanted(0, 0, 0.0))
    source.open()
    assert source.read().colour.shape == (240, 320, 3)
    assert device.asked == {}
    source.close()


def test_a_rate_or_a_format_that_is_not_granted_is_refused_with_the_mend(device):
    device.granted[cv2.CAP_PROP_FPS] = 15.0
    with pytest.raises(CameraError, match="grants 15 frames per second at this size, not 30 as asked; set rate"):
        uvc(device).open()
    device.granted = {cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"YUYV"))}
    with pytest.raises(CameraError, match="does not give MJPG; .*list-formats-ext"):
        uvc(device, fourcc="MJPG").open()


def test_a_device_that_opencv_cannot_open_is_named(device):
    device.gone.set()
    with pytest.raises(CameraError, match=r"video0 \(Wrist Camera\) cannot be opened as a camera; another program may"):
        uvc(device).open()


def test_a_camera_without_any_device_is_named_by_opencv_itself(tmp_path):
    # No double: what OpenCV does before a file that is no camera.
    path = tmp_path / "video0"
    path.write_bytes(b"no camera")
    with pytest.raises(CameraError, match="video0 .* cannot be opened as a camera"):
        UvcSource(str(path), WANTED, clocks()).open()


def test_a_camera_that_is_pulled_out_is_lost_and_can_be_opened_again(device):
    source = uvc(device)
    source.open()
    device.gone.set()
    with pytest.raises(CameraError, match="is lost: it was unplugged, or gave no frame for a second"):
        source.read()
    source.close()
    device.gone.clear()
    source.open()
    assert source.read() is not None
    source.close()


def usb(machine, socket, serial=""):
    """Plugs the camera of these tests into a USB socket."""
    link, place = machine / "sys/class/video4linux/video0/device", machine / f"sys/devices/{socket}/{socket}:1.0"
    place.mkdir(parents=True, exist_ok=True)
    (place.parent / "speed").write_text("480\n")
    (place.parent / "serial").write_text(serial + "\n")
    link.unlink(missing_ok=True)
    link.symlink_to(place)


def test_another_camera_in_the_place_of_one_that_was_pulled_out_is_refused_by_name(device, tmp_path):
    usb(tmp_path, "3-1")
    source = uvc(device)
    source.open()
    source.close()
    usb(tmp_path, "3-2")    # of the same name, which the kernel gave the same number
    with pytest.raises(CameraError, match="another camera than at the start: Wrist Camera, in USB socket 3-2, not"):
        source.open()
    usb(tmp_path, "3-1")
    source.open()
    source.close()


def test_a_camera_of_another_serial_number_in_its_socket_is_refused(device, tmp_path):
    usb(tmp_path, "3-1", "A1")
    source = uvc(device)
    source.open()
    source.close()
    usb(tmp_path, "3-1", "B2")
    with pytest.raises(CameraError, match="serial number B2, in USB socket 3-1, not Wrist Camera, serial number A1"):
        source.open()


def test_a_camera_named_by_its_number_alone_is_warned_of(device, tmp_path, caplog, monkeypatch):
    usb(tmp_path, "3-1")
    monkeypatch.setattr("camera_driver.capture.PASSING", re.compile(re.escape(str(tmp_path)) + r"/dev/video\d+"))
    machine = VideoDevices(tmp_path)
    source = UvcSource(str(tmp_path / "dev/video0"), WANTED, clocks(), devices=machine, open_capture=device)
    source.open()
    assert "/dev/v4l/by-path" in caplog.text
    caplog.clear()
    named = uvc(device)
    named.open()
    assert not caplog.text


def test_a_video_is_played_at_its_own_rate_and_from_its_begin_again(tmp_path):
    source = VideoFileSource(str(write_video(tmp_path / "scene.avi", frames=6, rate=50)), Wanted(0, 0, 0.0), clocks())
    source.open()
    frames = [source.read() for _ in range(12)]
    assert [shown(f.colour) for f in frames] == pytest.approx([grey(k % 6) for k in range(1, 13)], abs=2)
    took = (frames[-1].stamp_ns - frames[0].stamp_ns) / 1e9
    assert took >= 11 / 50 - 0.02    # a busy machine may take longer, never less
    source.close()


def test_a_video_that_is_not_there_or_is_none_is_named(tmp_path):
    with pytest.raises(CameraError, match="nothing.mp4 is not there"):
        VideoFileSource(str(tmp_path / "nothing.mp4"), WANTED, clocks()).open()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(CameraError, match="text.mp4 cannot be read as a video"):
        VideoFileSource(str(tmp_path / "text.mp4"), WANTED, clocks()).open()


def images(folder, *values: int, size=(WIDTH, HEIGHT)):
    for value in values:
        cv2.imwrite(str(folder / f"image_{value:03d}.png"), np.full((size[1], size[0], 3), value, np.uint8))
    return ImageFolderSource(str(folder), Wanted(0, 0, 100.0), clocks())


def test_the_images_of_a_folder_come_in_the_order_of_their_names_again_and_again(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    source = images(tmp_path, 30, 10, 20)
    source.open()
    assert [shown(source.read().colour) for _ in range(6)] == [20, 30, 10, 20, 30, 10]
    source.close()


def test_a_folder_that_cannot_be_shown_is_named_with_its_file(tmp_path):
    with pytest.raises(CameraError, match="holds no images"):
        images(tmp_path).open()
    with pytest.raises(CameraError, match="nothing is not there"):
        ImageFolderSource(str(tmp_path / "nothing"), WANTED, clocks()).open()
    with pytest.raises(CameraError, match="has no rate of its own; set rate"):
        images(tmp_path, 1)
        ImageFolderSource(str(tmp_path), Wanted(0, 0, 0.0), clocks()).open()
    source = images(tmp_path, 2, size=(64, 48))
    source.open()
    with pytest.raises(CameraError, match="image_002.png has 64 x 48 px, those before it 160 x 120"):
        source.read()
    (tmp_path / "image_000.png").write_bytes(b"no image")
    with pytest.raises(CameraError, match="image_000.png cannot be read as an image"):
        source.open()


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("3", "3")])
def test_how_long_a_grab_may_hang_is_set_before_opencv_is_imported_and_a_users_own_is_kept(given, found):
    code = f"import camera_driver, os, sys; print(os.environ[{TIMEOUT!r}], 'cv2' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != TIMEOUT}
    environment |= {TIMEOUT: given} if given else {}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [found, "False"]
