# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Planned paths, their markers and captions, without a graph."""

import numpy as np
import pytest
from tiny_robot import time_of
from view_samples import ARM, START, chunk, status, trace
from visualization_msgs.msg import Marker

from molmoact2_msgs.msg import ControllerStatus, ReasoningTrace
from molmoact2_policy.view.captions import captions
from molmoact2_policy.view.markers import FARTHEST, PASSED, fading, plan_markers, text_marker
from molmoact2_policy.view.plans import ArmPlans, plan_of


def test_a_plan_has_the_chunks_times_and_the_grippers_points():
    plan = plan_of(chunk(3), ARM)
    assert plan.times_ns[0] == START + 50_000_000 and plan.times_ns[-1] == START + 1_000_000_000
    positions = np.asarray(chunk(3).positions).reshape(20, 6)
    np.testing.assert_allclose(plan.points, ARM.kinematics.points(positions, ["gripper_frame_link"])[:, 0])
    np.testing.assert_allclose(plan.at(START + 75_000_000), plan.points[:2].mean(axis=0))
    assert plan.at(START) is None


def test_columns_go_by_name():
    message, order = chunk(2), [3, 0, 5, 1, 4, 2]
    message.joint_names = [ARM.joints[i] for i in order]
    message.positions = np.asarray(message.positions).reshape(20, 6)[:, order].ravel().tolist()
    np.testing.assert_allclose(plan_of(message, ARM).points, plan_of(chunk(2), ARM).points)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"joint_names": ["a", "b", "c", "d", "e", "f"]}, "no joint 'shoulder_pan'"),
        ({"positions": [0.0] * 119}, "119 positions, not 20 x 6"),
        ({"positions": [float("nan")] * 120}, "not finite"),
        ({"dt": float("inf")}, "not finite"),
        ({"dt": 0.0}, "dt 0"),
        ({"horizon": 0, "positions": []}, "not 0 x 6"),
    ],
)
def test_a_chunk_that_is_no_path_is_refused_by_name_and_the_plan_stays(changed, named):
    plans = ArmPlans(ARM, 0.25)
    plans.take_chunk(chunk(1))
    plans.take_status(status(1))
    with pytest.raises(ValueError, match=named):
        plans.take_chunk(chunk(2, **changed))
    assert plans.running.chunk_id == 1


@pytest.mark.parametrize("status_first", [False, True])
def test_the_seam_is_where_and_when_the_controller_took_the_new_chunk(status_first):
    plans, later = ArmPlans(ARM, 0.25), START + 400_000_000
    plans.take_chunk(chunk(1))
    plans.take_status(status(1, acceptance_latency=0.1))
    assert plans.seam.before is None and plans.offered is None
    new, accepted = chunk(3, later), status(3, acceptance_latency=0.2)
    for take, message in ((plans.take_chunk, new), (plans.take_status, accepted))[:: -1 if status_first else 1]:
        take(message)
    assert (plans.running.chunk_id, plans.previous.chunk_id, plans.offered) == (3, 1, None)
    seam = plans.seam
    assert (seam.time_ns, seam.end_ns) == (later + 200_000_000, later + 450_000_000)
    np.testing.assert_allclose(seam.before, plan_of(chunk(1), ARM).at(later + 200_000_000))
    np.testing.assert_allclose(seam.after, plan_of(new, ARM).at(later + 200_000_000))
    assert seam.gap == pytest.approx(np.linalg.norm(seam.after - seam.before)) and seam.gap > 0.001


def test_a_chunk_of_another_episode_does_not_run_and_a_refused_one_says_why():
    plans = ArmPlans(ARM, 0.25)
    plans.take_chunk(chunk(1, episode_id="other"))
    plans.take_status(status(1))
    assert plans.running is None and plans.offered.chunk_id == 1
    plans.take_status(status(0, last_refused_chunk_id=1, last_refusal_text="observed too long ago"))
    assert plans.refusal == "observed too long ago"
    assert "refused: observed too long ago" in "\n".join(captions(None, {"arm": plans._status}, {"arm": plans}, ""))


# --- markers ----------------------------------------------------------------------------------------------------------
def shown(markers: list[Marker]) -> dict[str, Marker]:
    return {f"{m.ns}/{m.id}": m for m in markers if m.action == Marker.ADD}


def swap() -> ArmPlans:
    """Chunk 3 took over from chunk 1, chunk 4 waits."""
    plans = ArmPlans(ARM, 0.25)
    for number, latency in ((1, 0.1), (3, 0.2)):
        plans.take_chunk(chunk(number, START + number * 100_000_000))
        plans.take_status(status(number, acceptance_latency=latency))
    plans.take_chunk(chunk(4, START + 400_000_000))
    return plans


def test_markers_show_the_running_the_previous_and_the_new_path_and_the_seam_in_the_base_frame():
    plans, now = swap(), START + 600_000_000
    markers = plan_markers(plans, now)
    by_name = shown(markers)
    assert set(by_name) == {
        "arm/running/0", "arm/new/0", "arm/previous/0", "arm/seam/0", "arm/seam/1", "arm/seam/2", "arm/now/0"
    }
    assert {m.header.frame_id for m in markers} == {"base_link"}
    points = np.array([[p.x, p.y, p.z] for p in by_name["arm/running/0"].points])
    np.testing.assert_allclose(points, plans.running.points)
    ball, gap = by_name["arm/seam/0"].pose.position, by_name["arm/seam/1"].points
    np.testing.assert_allclose([ball.x, ball.y, ball.z], plans.seam.after)
    np.testing.assert_allclose([[p.x, p.y, p.z] for p in gap], [plans.seam.before, plans.seam.after])
    assert len({(m.ns, m.id) for m in markers}) == len(markers)


def test_a_path_is_plain_at_the_present_and_fades_towards_its_end():
    plan = swap().running
    now = int(plan.times_ns[5])
    opacity = fading(plan, now)
    assert (opacity[:5] == PASSED).all()
    assert opacity[5] == 1.0 and (np.diff(opacity[5:]) < 0).all() and opacity[-1] >= FARTHEST


def test_what_is_over_fades_and_is_taken_away():
    plans = swap()
    opacities = [
        shown(plan_markers(plans, plans.seam.time_ns + after))["arm/previous/0"].colors[0].a
        for after in (0, 500_000_000, 1_000_000_000)
    ]
    assert opacities[0] > opacities[1] > opacities[2] > 0
    assert shown(plan_markers(plans, START + 10_000_000_000)) == {}
    assert all(m.action == Marker.DELETE for m in plan_markers(ArmPlans(ARM, 0.25), START))


def test_every_marker_vanishes_by_itself_when_the_visualizer_dies():
    markers = [*plan_markers(swap(), START), text_marker("base_link", ["a"], START)]
    assert all(0 < m.lifetime.sec <= 2 for m in markers)


def test_the_text_says_instruction_latency_mode_cause_and_what_codes_are():
    message = trace(instruction="pick up the red cube", chunk_id=7, depth_mode=ReasoningTrace.DEPTH_FORCED, cause="gap")
    message.header.stamp, message.finished = time_of(START), time_of(START + 250_000_000)
    plans = swap()
    lines = captions(message, {"arm": status(3)}, {"arm": plans}, "code index (no codebook)")
    said = "\n".join(lines)
    for part in ("pick up the red cube", "chunk 7, 0.25 s", "forced: gap", "10 of 100", "code index", "ing chunk 3"):
        assert part in said
    assert f"{plans.seam.gap * 1000:.0f} mm" in said
    fault = status(0, fault_text="driver: silent")
    fault.state = ControllerStatus.FAULT
    assert captions(None, {"arm": fault}, {}, "") == ["no inference yet", "arm: FAULT: driver: silent"]
    assert "held back: camera front is black" in captions(trace(withheld="camera front is black"), {}, {}, "")[1]
