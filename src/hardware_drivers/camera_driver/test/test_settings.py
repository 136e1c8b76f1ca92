# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from camera_driver.capture import UvcSource, VideoFileSource
from camera_driver.clock import HostClocks
from camera_driver.images import ImageFolderSource
from camera_driver.realsense import RealSenseSource
from camera_driver.settings import FROZEN_AFTER, Names, Settings
from camera_driver.source import CameraError
from molmoact2_contract import load_contract

EMBODIMENTS = Path(__file__).resolve().parents[4] / "config/embodiments"


@pytest.fixture(scope="module")
def contract():
    return load_contract(EMBODIMENTS / "so101.yaml")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"kind": "realsense", "serial": "42"}, RealSenseSource),
        ({"kind": "realsense", "playback_file": "a.db3"}, RealSenseSource),
        ({"kind": "uvc", "path": "/dev/video0"}, UvcSource),
        ({"kind": "uvc", "playback_file": "a.avi"}, VideoFileSource),
        ({"kind": "video", "path": "a.mp4"}, VideoFileSource),
        ({"kind": "images", "path": "folder"}, ImageFolderSource),
    ],
)
def test_each_kind_has_its_source(given, kind):
    assert type(Settings("front", **given).source(HostClocks())) is kind


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"camera": "", "kind": "uvc"}, "parameter camera is empty"),
        ({"kind": "webcam"}, "camera front: kind is 'webcam'; it must be one of realsense, uvc, video, images"),
        ({"kind": "uvc"}, "path is empty"),
        ({"kind": "uvc", "path": "x", "serial": "42"}, "serial is for cameras of kind realsense, not uvc"),
        ({"kind": "uvc", "path": "x", "depth": True}, "depth is for cameras of kind realsense"),
        ({"kind": "uvc", "path": "x", "fourcc": "JPEGS"}, "fourcc is 'JPEGS'; it has four letters"),
        ({"kind": "realsense", "fourcc": "MJPG"}, "fourcc is for cameras of kind uvc"),
        ({"kind": "realsense", "path": "/dev/video0"}, "path is for cameras of kind uvc, video or images"),
        ({"kind": "video", "path": "x", "playback_file": "y"}, "playback_file is for cameras of kind realsense or uvc"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_and_not_passed_over(given, named):
    with pytest.raises(CameraError) as refused:
        Settings(**{"camera": "front", **given})
    assert named in str(refused.value)


def test_topics_and_frame_are_the_contracts_and_without_one_named_after_the_camera(contract):
    names = Names.of("front", contract)
    assert (names.image, names.info, names.frame_id) == (
        "front/image_raw", "front/camera_info", contract.cameras["front"].frame_id,
    )
    names = Names.of("left", None)
    assert (names.image, names.depth, names.frame_id) == (
        "left/image_raw", "left/depth/image_raw", "left_optical_frame",
    )


def test_a_camera_or_a_frame_that_the_contract_does_not_have_is_refused(contract):
    with pytest.raises(CameraError, match="has no camera 'belly'; it has front, wrist"):
        Names.of("belly", contract)
    with pytest.raises(CameraError, match="frame_id is 'other', but '.*' in the contract; leave it out"):
        Names.of("front", contract, "other")


def test_only_what_stands_for_a_sensor_can_be_frozen_and_the_parameter_goes_before_the_contract(contract):
    def limit(contract=None, **given) -> float:
        settings = Settings("front", **given)
        return settings.frozen_limit(settings.source(HostClocks()), contract)

    uvc = {"kind": "uvc", "path": "/dev/video0"}
    assert limit(**uvc) == FROZEN_AFTER
    assert limit(contract, **uvc) == contract.cameras["front"].frozen_after
    assert limit(contract, **uvc, frozen_after=3.0) == 3.0
    assert limit(contract, **uvc, frozen_after=0.0) == 0.0
    assert limit(**uvc, simulation=True) == 0.0
    assert limit(kind="uvc", playback_file="a.avi") == FROZEN_AFTER
    assert limit(kind="images", path="folder") == limit(kind="video", path="a.mp4") == 0.0
