# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""RealSense: librealsense's own pipeline before recordings made with its software device."""

import time

import numpy as np
import pyrealsense2 as rs
import pytest
from realsense_recording import FOCAL, HEIGHT, RATE, SERIAL, WIDTH, colour, depth_mm, record

from camera_driver.clock import HostClocks
from camera_driver.realsense import RealSenseSource, explained
from camera_driver.source import CameraError, Wanted

WANTED = Wanted(WIDTH, HEIGHT, RATE)
ROS = 10**18


def clocks() -> HostClocks:
    return HostClocks(lambda: time.monotonic_ns() + ROS)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(tmp_path_factory.mktemp("realsense") / "camera.db3")


def source(recording, wanted: Wanted = WANTED, serial: str = SERIAL, **options) -> RealSenseSource:
    return RealSenseSource(serial, wanted, clocks(), playback_file=str(recording), **options)


def frames(source: RealSenseSource, count: int) -> list:
    """The next frames; fails where none comes for 30 s."""
    found: list = []
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline, "no frames"
        frame = source.read()
        if frame is not None:
            found.append(frame)
    return found


def number(frame) -> int:
    """Which frame of the recording it is."""
    return (int(frame.colour[0, 0, 0]) - 20) // 2


def test_colour_comes_as_it_was_each_frame_once_and_in_order(recording):
    camera = source(recording)
    camera.open()
    found = frames(camera, 10)
    numbers = [number(f) for f in found]
    assert all(b - a >= 1 for a, b in zip(numbers, numbers[1:], strict=False))
    assert all(np.array_equal(f.colour, colour(k)) for f, k in zip(found, numbers, strict=True))
    assert {f.encoding for f in found} == {"rgb8"} and all(f.depth is None for f in found)
    camera.close()


def test_depth_is_in_millimetres_on_the_colour_image_and_of_the_same_moment(recording):
    camera = source(recording, depth=True)
    camera.open()
    for frame in frames(camera, 10):
        assert frame.depth.shape == frame.colour.shape[:2] and frame.depth.dtype == np.uint16
        assert np.median(frame.depth) == depth_mm(number(frame))
    camera.close()


def test_colour_does_not_wait_for_ever_for_depth_of_its_moment_and_never_takes_another(tmp_path):
    camera = source(record(tmp_path / "apart.db3", depth_late_ms=5000.0), depth=True)
    camera.open()
    assert all(frame.depth is None for frame in frames(camera, 5))
    camera.close()


def test_depth_in_finer_units_of_the_device_becomes_millimetres(tmp_path):
    camera = source(record(tmp_path / "fine.db3", frames=15, depth_units=0.0001), depth=True)
    camera.open()
    frame = frames(camera, 1)[0]
    assert np.median(frame.depth) == depth_mm(number(frame))
    camera.close()


def test_the_cameras_own_intrinsics_are_given(recording):
    camera = source(recording)
    camera.open()
    known = camera.intrinsics
    assert (known.width, known.height, known.distortion_model) == (WIDTH, HEIGHT, "plumb_bob")
    assert known.k == (FOCAL, 0, WIDTH / 2, 0, FOCAL, HEIGHT / 2, 0, 0, 1)
    assert known.d == pytest.approx((0.1, -0.2, 0.001, 0.002, 0.05))
    camera.close()


def test_times_of_the_devices_clock_keep_their_distances_and_lie_in_the_past(recording):
    camera = source(recording)
    camera.open()
    found = frames(camera, 20)
    arrived = time.monotonic_ns() + ROS
    steps = [
        (b.stamp_ns - a.stamp_ns) / (number(b) - number(a)) / 1e9
        for a, b in zip(found[5:], found[6:], strict=False)
        if number(b) > number(a)
    ]
    # Arrival jitters by milliseconds; mapped stamps only where a frame was delayed less than all before it.
    assert np.median(steps) == pytest.approx(1 / RATE, abs=1e-4)
    assert all(f.stamp_ns <= arrived for f in found)
    assert "readout, device clock mapped to ROS time" in camera.stamps
    camera.close()


def test_the_middle_of_the_exposure_is_the_stamp_where_the_device_tells_it(tmp_path):
    plain, told = (
        source(record(tmp_path / f"{name}.db3", frames=8, metadata_us=metadata))
        for name, metadata in (("plain", None), ("told", (1_000_000, 988_000)))
    )
    for camera in (plain, told):
        camera.open()
        assert frames(camera, 1)
        camera.close()
    frame = FrameOf(1_000_000, 988_000)
    assert told._before_readout_ns(frame) == 12_000_000
    assert "middle of the exposure" in told.stamps and "readout" in plain.stamps


class FrameOf:
    """Metadata of a frame [us]."""

    def __init__(self, readout: int, exposure: int):
        self._values = {
            rs.frame_metadata_value.frame_timestamp: readout, rs.frame_metadata_value.sensor_timestamp: exposure,
        }

    def supports_frame_metadata(self, key) -> bool:
        return key in self._values

    def get_frame_metadata(self, key) -> int:
        return self._values[key]


@pytest.mark.parametrize("exposure", [2_000_000, 500_000])
def test_an_implausible_exposure_time_is_not_used(recording, exposure):
    camera = source(recording)
    camera.open()
    assert camera._before_readout_ns(FrameOf(1_000_000, exposure)) == 0
    camera.close()


def test_stamps_that_librealsense_mapped_to_the_hosts_clock_are_taken_as_they_are(recording):
    camera = source(recording)
    camera.open()
    now = camera._clocks.system_ns()

    class Mapped(FrameOf):
        def get_timestamp(self) -> float:
            return now / 1e6 - 25.0

        def get_frame_timestamp_domain(self):
            return rs.timestamp_domain.global_time

    before = time.monotonic_ns() + ROS
    stamp = camera._stamp(Mapped(0, 0), camera._clocks.steady_ns())
    assert stamp == pytest.approx(before - 25_000_000, abs=5_000_000)
    assert "host's clock" in camera.stamps
    camera.close()


def test_a_recording_is_played_from_its_begin_again_and_time_goes_on(recording):
    camera = source(recording)
    camera.open()
    found = frames(camera, 40)
    numbers = [number(f) for f in found]
    assert any(b < a for a, b in zip(numbers, numbers[1:], strict=False))
    assert found[-1].stamp_ns > found[0].stamp_ns
    camera.close()


def test_a_camera_that_stops_sending_gives_nothing_and_does_not_hang(recording):
    camera = source(recording)
    camera.open()
    assert frames(camera, 1)
    playback = camera._pipeline.get_active_profile().get_device().as_playback()
    playback.pause()
    while camera.read() is not None:    # what was on its way
        pass
    assert camera.read() is None
    playback.resume()
    assert frames(camera, 1)
    camera.close()


def test_a_size_or_rate_that_it_does_not_have_is_named_with_those_that_it_has(recording):
    for wanted in (Wanted(320, 240, RATE), Wanted(WIDTH, HEIGHT, 90)):
        with pytest.raises(CameraError, match="does not give .* px at .* Hz; colour it gives as 160 x 120 at 30"):
            source(recording, wanted).open()


def test_a_camera_on_a_usb_2_link_is_refused_unless_that_is_allowed(tmp_path):
    recording = record(tmp_path / "slow.db3", frames=8, usb="2.1")
    with pytest.raises(CameraError, match="USB 2.1.*is connected at the speed of USB 2; use a USB 3 cable"):
        source(recording).open()
    camera = source(recording, allow_usb2=True)
    camera.open()
    assert frames(camera, 1)
    camera.close()


def test_the_recording_of_another_camera_is_refused(recording):
    with pytest.raises(CameraError, match=f"the recording is of camera {SERIAL}; give that serial number"):
        source(recording, serial="999").open()


def test_a_recording_that_is_not_there_or_is_none_is_named(tmp_path):
    with pytest.raises(CameraError, match="there is no such recording"):
        source(tmp_path / "nothing.db3").open()
    (tmp_path / "text.db3").write_text("no recording")
    with pytest.raises(CameraError, match="text.db3: the recording cannot be read; make one with"):
        source(tmp_path / "text.db3").open()


def test_a_machine_without_the_camera_says_so():
    # librealsense's own list of what is plugged in; empty where this is tested.
    with pytest.raises(CameraError, match="RealSense 999 is not there; (no RealSense is on this machine|there are:)"):
        RealSenseSource("999", WANTED, clocks()).open()


def test_without_the_library_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyrealsense2", None)
    with pytest.raises(CameraError, match="need pyrealsense2, .*pip install pyrealsense2.*libusb-1.0-0"):
        RealSenseSource("999", WANTED, clocks()).open()


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("xioctl(VIDIOC_S_FMT) failed, errno=16 Last Error: Device or resource busy", "is in use by another process"),
        ("failed to set power state", "is in use by another process"),
        ("Failed to open device, errno=13 Permission denied", "may not be opened by this user; install docker/udev"),
        ("acquire_power failed: RS2_USB_STATUS_ACCESS", "may not be opened by this user"),
        ("Device disconnected. Failed to recconect: No device connected 5000", "unplug the camera, plug it in"),
    ],
)
def test_what_librealsense_says_is_passed_on_with_the_mend(said, named):
    text = explained("RealSense 42", said)
    assert text.startswith("RealSense 42") and named in text and said in text
