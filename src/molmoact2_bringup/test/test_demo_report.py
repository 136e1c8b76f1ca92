# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import json
import math
from pathlib import Path

import av
import numpy as np
import pytest
from demo_run import CONTRACT, LIFTED, Plan, events, image, image_message, stamp, traces, write
from PIL import Image as Picture
from sensor_msgs.msg import Image

from molmoact2_bringup.demo.report import make_report
from molmoact2_msgs.msg import (
    ActionChunk,
    ControllerStatus,
    PolicyStatus,
    ReasoningTrace,
)
from molmoact2_policy.bags.bag import Bag, BagError, read_bag
from molmoact2_policy.bags.definitions import typename_of
from molmoact2_policy.report.run import frames
from molmoact2_policy.view.draw import REFRESHED, depth_codes, refreshed_cells


@pytest.fixture(scope="module")
def plan():
    return Plan(refused=(3,))


@pytest.fixture(scope="module")
def bag(tmp_path_factory, plan):
    return write(tmp_path_factory.mktemp("run") / "bag", events(plan))


@pytest.fixture(scope="module")
def report(bag, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return out, make_report(bag, CONTRACT, out)


def test_the_summary_gives_the_figures_of_the_run(report, plan):
    out, _ = report
    figures = json.loads((out / "summary.json").read_text())
    known = [t for _, t in traces(plan)]
    adaptive = [t for t in known if t.depth_mode == ReasoningTrace.DEPTH_ADAPTIVE]
    assert figures["chunks"] == {
        "inferences": 6, "published": 6, "withheld": {}, "named_in_traces_but_not_recorded": 0,
    }
    assert figures["latency"] == {"count": 6, "p50": 0.25, "p95": 0.25, "max": 0.25}
    assert figures["stages"]["prefill"]["p50"] == 0.1
    assert figures["depth"]["modes"] == {"adaptive": 5, "forced": 1}
    assert figures["depth"]["causes"] == {"first_call": 1}
    assert figures["depth"]["refresh_ratio"] == sum(sum(t.refreshed) for t in known) / 600
    assert figures["depth"]["refresh_ratio_of_adaptive_calls"] == sum(sum(t.refreshed) for t in adaptive) / 500
    assert figures["depth"]["decoder_steps"]["max"] == 103
    arm = figures["controllers"]["arm"]
    assert arm["chunks"] == {"accepted": 5, "refused": 1, "refused_by_reason": {"step": 1}}
    assert arm["seam_jumps"]["count"] == 5
    assert arm["seam_jumps"]["max"] == pytest.approx(6 * plan.seam)
    assert arm["acceptance_latency"]["p50"] == plan.latency
    assert arm["ticks"] == {"count": 292, "late": 2}
    assert set(arm["states"]) == {"holding", "following"}
    assert sum(arm["states"].values()) == pytest.approx(1.0, abs=1e-3)
    assert arm["faults"] == []
    assert figures["cameras"]["front"]["rate"] == pytest.approx(15.0, rel=1e-3)
    assert figures["messages"]["/joint_states"] == 300
    assert figures["policy"]["checkpoint"] == "tiny"


def test_what_was_done_is_told_as_the_one_who_knows_it_said(report):
    _, summary = report
    tests = summary.figures["tests"]
    assert tests[LIFTED] == {"held": pytest.approx(1.0), "since": pytest.approx(1.0)}
    assert tests["the green cube is lifted"] == {"held": 0.0}
    assert "the red cube is lifted: from 1.0 s on, 1.0 s in all" in summary.headline()
    assert not [line for line in summary.headline() if "green" in line]


def test_what_the_bag_does_not_say_is_null_with_the_reason(report):
    _, summary = report
    assert summary.figures["dropped_by_recorder"] is None
    reason = "the bag does not say; it was written by another recorder, or cut off"
    assert summary.missing == {"dropped_by_recorder": reason}


def test_the_video_covers_the_run_at_fifteen_frames_a_second(report, plan):
    out, summary = report
    with av.open(str(out / "demo.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert len(pictures) == round(15 * summary.figures["time_covered"])
        assert float(stream.duration * stream.time_base) == pytest.approx(len(pictures) / 15)
    early, late = (_red_columns(pictures[i][40:325, 16:396]) for i in (5, -1))
    assert late > early + 100, "the red box moves to the right in the front camera's picture"


def _red_columns(panel: np.ndarray) -> float:
    red = (panel[..., 0] > 150) & (panel[..., 1] < 90) & (panel[..., 2] < 90)
    return float(np.nonzero(red)[1].mean())


def test_the_pictures_and_the_page_are_there(report):
    out, summary = report
    for kind in ("joints", "depth"):
        with Picture.open(summary.files[kind]) as picture:
            picture.verify()
    with Picture.open(out / "joints.png") as picture:
        assert picture.width == 1600
    page = (out / "index.html").read_text()
    for name in ("demo.mp4", "joints.png", "depth.png"):
        assert f'src="{name}"' in page
    assert "| depth.modes.adaptive | 5 |" in (out / "summary.md").read_text()


def test_exactly_the_refreshed_cells_are_tinted(plan):
    *_, (captured, trace) = traces(plan)
    picture = np.full((240, 320, 3), 255, np.uint8)
    panel = np.asarray(refreshed_cells(picture, trace, (400, 300)))
    for cell, refreshed in enumerate(trace.refreshed):
        row, col = divmod(cell, 10)
        corner = panel[row * 30 + 4, col * 40 + 4].astype(int)
        assert (np.abs(corner - 255).max() > 40) == refreshed
        assert not refreshed or corner[2] < corner[1] < corner[0], "tinted towards the colour of refreshed cells"
    assert REFRESHED[2] < REFRESHED[1] < REFRESHED[0]
    assert any(trace.refreshed) and not all(trace.refreshed)


def test_equal_codes_have_equal_colours_and_lie_where_the_grid_says(plan):
    *_, (captured, trace) = traces(plan)
    codes = np.asarray(trace.codes).reshape(10, 10)
    panel = np.asarray(depth_codes(trace, (400, 300), 127))
    corners = panel[2::30, 2::40].reshape(100, 3)
    colours = {tuple(corner) for corner in corners}
    assert len(colours) == len(set(codes.reshape(-1).tolist()))


def test_a_bgr_image_shows_the_same_picture(tmp_path):
    path = write(tmp_path / "bag", [(0.0, "front/image_raw", image_message("front", 0.0, "bgr8"))])
    with Bag(path) as bag:
        (frame,) = frames(bag, CONTRACT)
    assert np.array_equal(frame.image, image("front", 0.0))


def test_empty_topics_become_nulls_with_reasons_and_the_report_is_made(tmp_path):
    only_joints = [event for event in events(Plan()) if event[1] == "joint_states"]
    path = write(tmp_path / "bag", only_joints)
    summary = make_report(path, CONTRACT, tmp_path / "out")
    figures = json.loads((tmp_path / "out/summary.json").read_text())
    assert figures["latency"] is None and figures["depth"]["refresh_ratio"] is None
    assert figures["controllers"]["arm"]["seam_jumps"] is None and figures["cameras"]["front"] is None
    assert summary.missing["latency"] == "no message on /policy/action_chunk"
    assert summary.missing["controllers.arm.ticks"] == "no message on /arm/status"
    assert summary.missing["cameras.wrist"] == "no message on /wrist/image_raw: a rate needs two"
    assert summary.missing["depth.png"] == "no recorded trace carries depth codes"
    assert not (tmp_path / "out/depth.png").exists()
    assert (tmp_path / "out/demo.mp4").exists() and (tmp_path / "out/joints.png").exists()


def test_depth_off_is_said_not_counted(tmp_path):
    trace = ReasoningTrace(trace_id="t1", chunk_id=1, depth_mode=ReasoningTrace.DEPTH_OFF)
    path = write(tmp_path / "bag", [(0.0, "policy/reasoning_trace", trace), (0.2, "policy/reasoning_trace", trace)])
    summary = make_report(path, CONTRACT, tmp_path / "out")
    assert summary.figures["depth"]["modes"] == {"off": 2}
    assert summary.figures["depth"]["refresh_ratio"] is None
    assert summary.missing["depth.refresh_ratio"] == "depth was off: no trace carries depth codes"


def test_a_fault_is_told_once_with_its_words(tmp_path):
    fault = ControllerStatus(state=ControllerStatus.FAULT, fault_code=ControllerStatus.FAULT_TRACKING)
    fault.fault_text = "off by 1"
    fault.header.stamp = stamp(1.0)
    quiet = ControllerStatus()
    quiet.header.stamp = stamp(0.0)
    path = write(tmp_path / "bag", [(0.0, "arm/status", quiet), (1.0, "arm/status", fault), (1.5, "arm/status", fault)])
    summary = make_report(path, CONTRACT, tmp_path / "out")
    assert summary.figures["controllers"]["arm"]["faults"] == [{"time": 1.0, "fault": "tracking", "text": "off by 1"}]
    assert "FAULT tracking at 1.0 s: off by 1" in (tmp_path / "out/summary.md").read_text()


def test_numbers_that_are_none_do_not_get_into_the_summary(tmp_path):
    message = ControllerStatus(state=ControllerStatus.FOLLOWING, chunk_id=1)
    message.seam_jump, message.tracking_error = math.nan, math.inf
    message.header.stamp = stamp(0.0)
    path = write(tmp_path / "bag", [(0.0, "arm/status", message), (1.0, "arm/status", message)])
    summary = make_report(path, CONTRACT, tmp_path / "out")
    assert summary.figures["controllers"]["arm"]["seam_jumps"] is None
    assert summary.missing["controllers.arm.motion"] == "none of the recorded values is a finite number"
    assert "NaN" not in summary.as_json() and "Infinity" not in summary.as_json()


def test_a_status_stamped_outside_the_run_does_not_break_the_report(tmp_path):
    messages = []
    for received, stamped in ((0.0, -50.0), (1.0, 70.0), (2.0, 0.5)):
        message = ControllerStatus(state=ControllerStatus.HOLDING)
        message.header.stamp = stamp(stamped)
        messages.append((received, "arm/status", message))
    summary = make_report(write(tmp_path / "bag", messages), CONTRACT, tmp_path / "out")
    assert summary.figures["controllers"]["arm"]["states"] == {"holding": 1.0}


def test_a_restarted_controller_counts_on(tmp_path):
    counts = [(0, 10, 3), (1, 12, 4), (2, 1, 0), (3, 2, 0)]
    messages = []
    for seconds, accepted, refused in counts:
        message = ControllerStatus(accepted_chunks=accepted, refused_chunks=refused)
        message.header.stamp = stamp(seconds)
        messages.append((float(seconds), "arm/status", message))
    summary = make_report(write(tmp_path / "bag", messages), CONTRACT, tmp_path / "out")
    chunks = summary.figures["controllers"]["arm"]["chunks"]
    assert (chunks["accepted"], chunks["refused"]) == (2 + 1 + 1, 1)


def test_the_types_in_a_bag_carry_the_hash_that_ros_gives_them(bag):
    from ament_index_python.packages import get_package_share_directory
    from rosbags.highlevel import AnyReader

    with AnyReader([bag]) as reader:
        digests = {c.msgtype: c.digest for c in reader.connections}
    for kind in (ActionChunk, ReasoningTrace, ControllerStatus, PolicyStatus, Image):
        name = typename_of(kind)
        package, folder, type_ = name.split("/")
        file = Path(get_package_share_directory(package)) / folder / f"{type_}.json"
        hashes = {h["type_name"]: h["hash_string"] for h in json.loads(file.read_text())["type_hashes"]}
        assert digests[name] == hashes[name]


def test_an_empty_a_missing_and_a_cut_bag_are_named(tmp_path, bag):
    empty = write(tmp_path / "empty", [])
    with pytest.raises(BagError, match="empty holds no message"):
        make_report(empty, CONTRACT, tmp_path / "out")
    with pytest.raises(BagError, match="nowhere does not exist"):
        make_report(tmp_path / "nowhere", CONTRACT, tmp_path / "out")
    cut = tmp_path / "cut.mcap"
    cut.write_bytes((bag / "bag.mcap").read_bytes()[:100_000])
    with pytest.raises(BagError, match="cut.mcap cannot be read"):
        list(read_bag(cut))
