# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a browser is shown, read back from what was logged by the viewer's own program."""

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from std_msgs.msg import Header
from tiny_robot import time_of
from view_samples import ARM, CONTRACT, START, chunk, status, trace

from molmoact2_msgs.msg import StageTiming
from molmoact2_policy.view.markers import plan_markers, text_marker
from molmoact2_policy.view.messages import cloud_message
from molmoact2_policy.view.plans import ArmPlans
from molmoact2_policy.view.robot_model import load_models

rerun = pytest.importorskip("rerun", reason="rerun-sdk is installed beside the wheels only")
from rerun.chunk import Chunk, RrdReader  # noqa: E402

from molmoact2_policy.view.scene import Scene  # noqa: E402

LATER = START + 200_000_000


class Log:
    """A scene that is written to a file."""

    def __init__(self, path):
        self._path = path
        self._recording = rerun.RecordingStream("test")
        self._recording.save(path)
        self.scene = Scene(self._recording, CONTRACT)

    def logged(self, entity: str) -> list[Chunk]:
        """What was logged at an entity, and below it."""
        self._recording.disconnect()
        entity = f"/{entity}"
        chunks = RrdReader(self._path).stream()
        return [c for c in chunks if c.entity_path == entity or c.entity_path.startswith(f"{entity}/")]

    def values(self, entity: str, component: str) -> list:
        """What one component had, one after the other."""
        tables = (chunk.to_record_batch() for chunk in self.logged(entity))
        columns = (table.column(component) for table in tables if component in table.schema.names)
        return [value for column in columns for value in column.to_pylist() if value]


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "scene.rrd")


def test_a_picture_is_shown_at_its_capture_time(log):
    log.scene.camera("front", START, np.zeros((24, 32, 3), np.uint8))
    (picture,) = log.logged("cameras/front")
    assert picture.timeline_names == ["ros_time"]
    (stamp,) = picture.to_record_batch().column("ros_time").cast("int64").to_pylist()
    assert stamp == START


def test_frames_keep_their_names(log):
    log.scene.transforms([transform()], fixed=False)
    assert log.values("world/frames/tip", "Transform3D:parent_frame") == [["base_link"]]
    assert log.values("world/frames/tip", "Transform3D:child_frame") == [["tip"]]


def test_a_frame_that_never_moves_has_no_time(log):
    log.scene.transforms([transform()], fixed=True)
    (frame,) = log.logged("world/frames/tip")
    assert frame.is_static


def transform() -> TransformStamped:
    message = TransformStamped(header=Header(frame_id="base_link", stamp=time_of(START)), child_frame_id="tip")
    message.transform.rotation.w = 1.0
    return message


@pytest.mark.parametrize(("metric", "name"), [(True, "metres"), (False, "relative_not_metric")])
def test_points_say_whether_they_are_metres_and_lie_in_the_camera_s_frame(log, metric, name):
    cloud = cloud_message(
        np.array([[0.0, 0.5, 1.0]], np.float32), np.array([[255, 128, 0]], np.uint8),
        Header(frame_id="front_optical_frame", stamp=time_of(START)),
    )
    log.scene.points(cloud, metric)
    assert log.values(f"world/depth/{name}", "Points3D:positions") == [[[0.0, 0.5, 1.0]]]
    assert log.values(f"world/depth/{name}", "Points3D:colors") == [[0xFF8000FF]]
    assert log.values(f"world/depth/{name}", "CoordinateFrame:frame") == [["front_optical_frame"]]


def test_a_plan_is_drawn_and_cleared_when_it_is_over(log):
    plans = ArmPlans(ARM, CONTRACT.blend_window)
    plans.take_chunk(chunk(1))
    plans.take_status(status(1))
    log.scene.markers(plan_markers(plans, LATER))
    log.scene.markers(plan_markers(plans, START + 60_000_000_000))
    (strips,) = log.values("world/plan/arm/running", "LineStrips3D:strips")
    assert len(strips) == 19
    assert log.values("world/plan/arm/running", "Clear:is_recursive") == [[False]]


def test_words_above_the_robot_are_shown(log):
    log.scene.markers([text_marker("base_link", ["pick up the cube"], START)])
    assert log.values("world/plan/text", "Points3D:labels") == [["pick up the cube"]]


def test_a_trace_gives_latency_by_stage_and_the_refreshed_share(log):
    message = trace(timings=[StageTiming(stage=StageTiming.DEPTH, seconds=0.125)])
    log.scene.trace(message)
    assert log.values("graphs/latency/depth", "Scalars:scalars") == [[0.125]]
    assert log.values("graphs/refreshed", "Scalars:scalars") == [[0.1]]


def test_the_same_words_are_told_once(log):
    for words in ("holding", "holding", "following", "holding"):
        log.scene.tell(START, "arm", words)
    assert log.values("told/arm", "TextLog:text") == [["holding"], ["following"], ["holding"]]


def test_the_robot_s_model_is_shown_with_its_meshes_and_without_its_collision_shapes(log):
    (model,) = load_models(CONTRACT, "", pytest.fail).values()
    log.scene.robot(model.description, "robot")
    parts = log.logged("robot_model")
    assert any("gripper_link" in part.entity_path for part in parts)
    assert log.values("robot_model", "Asset3D:blob")
    assert not [part for part in parts if "collision" in part.entity_path]
