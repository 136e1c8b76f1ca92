# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Plans as markers in the arm's base frame. Each is replaced under its own name, or taken away where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from ..messages import time_message
from .plans import ArmPlans, Plan

RUNNING, OFFERED, REFUSED = (0.25, 0.95, 0.40), (1.0, 0.75, 0.10), (1.0, 0.25, 0.25)
PREVIOUS, SEAM, NOW = (0.62, 0.66, 0.74), (1.0, 1.0, 1.0), (0.25, 0.95, 0.40)
FADE = 2.0            # a plan that ended or was replaced is gone after this [s]
PASSED = 0.15         # opacity of what lies in the past
FARTHEST = 0.30       # and of a plan's end
STALE = Duration(sec=1)    # displays drop markers that are not repeated
THIN, THICK, BALL = 0.002, 0.004, 0.009    # [m]
TEXT_HEIGHT, TEXT_ABOVE = 0.022, 0.50      # of the text: its letters, its place above the base [m]


def plan_markers(plans: ArmPlans, now_ns: int) -> list[Marker]:
    """Markers of one arm at a time: `running` fades towards its end, `seam` is where it took over and how far the old
    plan was from it, `previous` fades away, `new` waits to be taken up (red where it was refused)."""
    names, shown = f"{plans.arm.name}/", []
    shown.append(_path(plans, f"{names}running", plans.running, now_ns, RUNNING, THICK))
    shown.append(_path(plans, f"{names}new", plans.offered, now_ns, REFUSED if plans.refusal else OFFERED, THIN))
    shown.append(_previous(plans, f"{names}previous", now_ns))
    shown += _seam(plans, f"{names}seam", now_ns)
    shown.append(_place(plans, f"{names}now", now_ns))
    return shown


def marker(frame: str, name: str, number: int, kind: int, now_ns: int) -> Marker:
    message = Marker(ns=name, id=number, type=kind, action=Marker.ADD, lifetime=STALE)
    message.header.frame_id, message.header.stamp = frame, time_message(now_ns)
    message.pose.orientation.w = 1.0
    return message


def _absent(message: Marker) -> Marker:
    message.action = Marker.DELETE
    return message


def _path(plans: ArmPlans, name: str, plan: Plan | None, now_ns: int, colour: Sequence[float], width: float) -> Marker:
    line = marker(plans.arm.base_frame, name, 0, Marker.LINE_STRIP, now_ns)
    if plan is None or len(plan.points) < 2 or now_ns > plan.times_ns[-1] + FADE * 1e9:
        return _absent(line)
    line.scale.x = width
    _draw(line, plan.points, colour, fading(plan, now_ns))
    return line


def fading(plan: Plan, now_ns: int) -> np.ndarray:
    """Opacity of each waypoint (H,): full at the present, less towards the end, little in the past."""
    ahead = (plan.times_ns - now_ns) / 1e9
    share = np.clip(ahead / max((plan.times_ns[-1] - plan.times_ns[0]) / 1e9, 1e-9), 0, 1)
    over = 1.0 - min(max(-float(ahead[-1]), 0.0) / FADE, 1.0)
    return np.where(ahead < 0, PASSED, 1.0 - (1.0 - FARTHEST) * share) * over


def _previous(plans: ArmPlans, name: str, now_ns: int) -> Marker:
    line = marker(plans.arm.base_frame, name, 0, Marker.LINE_STRIP, now_ns)
    plan, since = plans.previous, plans.seam
    left = 1.0 - max(0.0, (now_ns - (since.time_ns if since else plan.times_ns[-1] if plan else 0)) / 1e9) / FADE
    if plan is None or left <= 0 or len(plan.points) < 2:
        return _absent(line)
    line.scale.x = THIN
    _draw(line, plan.points, PREVIOUS, np.full(len(plan.points), 0.7 * min(left, 1.0)))
    return line


def _seam(plans: ArmPlans, name: str, now_ns: int) -> list[Marker]:
    """A ball where the running plan took over, a line to where the old one was, the stretch of the cross-fade."""
    frame, seam, plan = plans.arm.base_frame, plans.seam, plans.running
    ball, gap, blend = (
        marker(frame, name, number, kind, now_ns)
        for number, kind in enumerate((Marker.SPHERE, Marker.LINE_STRIP, Marker.LINE_STRIP))
    )
    if seam is None or plan is None or seam.after is None or now_ns > plan.times_ns[-1]:
        return [_absent(m) for m in (ball, gap, blend)]
    ball.pose.position = _point(seam.after)
    ball.scale.x = ball.scale.y = ball.scale.z = BALL
    ball.color = _colour(SEAM, 0.9)
    within = (plan.times_ns >= seam.time_ns) & (plan.times_ns <= seam.end_ns)
    blend.scale.x = THICK * 1.3
    _draw(blend, np.concatenate([seam.after[None], plan.points[within]]), SEAM, np.full(1 + within.sum(), 0.55))
    if not within.any():
        _absent(blend)
    gap.scale.x = THIN
    if seam.before is None:
        return [ball, _absent(gap), blend]
    _draw(gap, np.stack([seam.before, seam.after]), SEAM, np.array([0.9, 0.9]))
    return [ball, gap, blend]


def _place(plans: ArmPlans, name: str, now_ns: int) -> Marker:
    """Where the running plan has the gripper now."""
    ball = marker(plans.arm.base_frame, name, 0, Marker.SPHERE, now_ns)
    point = plans.running.at(now_ns) if plans.running else None
    if point is None:
        return _absent(ball)
    ball.pose.position = _point(point)
    ball.scale.x = ball.scale.y = ball.scale.z = BALL * 0.8
    ball.color = _colour(NOW, 1.0)
    return ball


def text_marker(frame: str, lines: Sequence[str], now_ns: int) -> Marker:
    message = marker(frame, "text", 0, Marker.TEXT_VIEW_FACING, now_ns)
    message.pose.position.z = TEXT_ABOVE
    message.scale.z = TEXT_HEIGHT
    message.color = _colour((1.0, 1.0, 1.0), 0.95)
    message.text = "\n".join(lines)
    return message


def _draw(line: Marker, points: np.ndarray, colour: Sequence[float], opacities: np.ndarray) -> None:
    line.points = [_point(point) for point in points]
    line.colors = [_colour(colour, float(opacity)) for opacity in opacities]
    line.color = _colour(colour, 1.0)


def _point(xyz: np.ndarray) -> Point:
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def _colour(rgb: Sequence[float], opacity: float) -> ColorRGBA:
    return ColorRGBA(r=rgb[0], g=rgb[1], b=rgb[2], a=opacity)
