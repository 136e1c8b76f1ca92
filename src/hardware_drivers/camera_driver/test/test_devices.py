# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras as Linux lists them, before trees like those below /sys and /dev."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from camera_driver.devices import VideoDevices
from camera_driver.source import CameraError


@pytest.fixture
def machine(tmp_path):
    for place in ("sys/class/video4linux", "dev/v4l/by-path"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "proc").symlink_to("/proc")
    return tmp_path


def plug(machine: Path, number: int, name: str, speed: str = "480", index: int = 0) -> Path:
    folder = machine / f"sys/class/video4linux/video{number}"
    interface = machine / f"sys/devices/usb{number}/1-1:1.0"
    interface.mkdir(parents=True)
    (interface.parent / "speed").write_text(speed + "\n")
    folder.mkdir()
    (folder / "device").symlink_to(interface)
    (folder / "name").write_text(name + "\n")
    (folder / "index").write_text(f"{index}\n")
    device = machine / f"dev/video{number}"
    device.touch()
    return device


def test_a_camera_is_found_by_path_by_a_link_to_it_and_by_name(machine):
    wrist = plug(machine, 0, "Arducam 8MP: Wrist")
    plug(machine, 2, "Logitech C920")
    link = machine / "dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0"
    link.symlink_to(wrist)
    devices = VideoDevices(machine)
    for wanted in (str(wrist), str(link), "Arducam 8MP: Wrist", "arducam"):
        found = devices.find(wanted)
        assert (found.path, found.name, found.usb) == (wrist, "Arducam 8MP: Wrist", 480.0)
    devices.check(found)


def test_the_metadata_node_of_a_camera_is_no_camera(machine):
    plug(machine, 0, "Logitech C920")
    plug(machine, 1, "Logitech C920", index=1)
    assert [d.path.name for d in VideoDevices(machine).all()] == ["video0"]


def test_a_camera_that_is_not_there_is_named_with_those_that_are(machine):
    devices = VideoDevices(machine)
    with pytest.raises(CameraError, match="no camera is named 'wrist'; there is no camera on this machine: plug it in"):
        devices.find("wrist")
    plug(machine, 0, "Logitech C920")
    with pytest.raises(CameraError, match="no camera is named 'wrist'; there are: .*video0 .Logitech C920."):
        devices.find("wrist")
    with pytest.raises(CameraError, match="camera /dev/video99 is not there; there are: .*C920"):
        devices.find("/dev/video99")


def test_two_cameras_of_one_name_are_not_guessed_between(machine):
    plug(machine, 0, "USB Camera")
    plug(machine, 2, "USB Camera")
    with pytest.raises(CameraError, match="2 cameras are named 'USB Camera' .*video0, .*video2.*by-path"):
        VideoDevices(machine).find("USB Camera")


def test_a_camera_in_use_is_named_with_the_program_that_has_it(machine):
    device = plug(machine, 0, "Logitech C920")
    holder = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(device)!r}); print('open', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert holder.stdout.readline() == "open\n"
    devices = VideoDevices(machine)
    with pytest.raises(CameraError, match=rf"video0 .Logitech C920. is in use by python.* .process {holder.pid}.; end"):
        devices.check(devices.find("C920"))
    holder.communicate("\n", timeout=30)
    devices.check(devices.find("C920"))


def test_a_camera_that_the_user_may_not_open_is_named_with_the_group(machine):
    device = plug(machine, 0, "Logitech C920")
    os.chmod(device, 0)
    devices = VideoDevices(machine)
    found = devices.find("C920")
    root = os.geteuid() == 0    # who may open everything
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(CameraError, match="may not be opened by this user; add the user to the group video"):
            devices.check(found)
    finally:
        if root:
            os.seteuid(0)


def test_a_camera_at_the_speed_of_usb_1_is_named(machine):
    plug(machine, 0, "Logitech C920", speed="12")
    devices = VideoDevices(machine)
    with pytest.raises(CameraError, match="runs at 12 Mbit/s, the speed of USB 1; use another cable"):
        devices.check(devices.find("C920"))
