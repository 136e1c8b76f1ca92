# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the visualizer and the cameras publish, as a scene of the Rerun viewer. No ROS graph here: messages come in.

Times are the messages' own capture stamps, on the viewer's timeline `ros_time`. Frames keep their names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from visualization_msgs.msg import Marker

from molmoact2_contract import Contract

from ..ingest import stamp_ns

TIMELINE = "ros_time"
QUALITY = 85          # of JPEG, in which pictures travel to the browser
POINT = 0.004         # [m]
OVERLAY, DEPTH = "see/refreshed", "see/depth"
POINTS, PLAN, FRAMES = "world/depth", "world/plan", "world/frames"
ROBOT = "robot"       # the model of all arms together
LATENCY, SHARE, TOLD = "graphs/latency", "graphs/refreshed", "told"
DARK = [20, 22, 28]


def layout(contract: Contract) -> rrb.Blueprint:
    """The robot with its plan and what it saw in depth; the pictures; latency, refreshed share and words."""
    base = next(iter(contract.arms.values())).base_frame
    pictures = [
        rrb.Spatial2DView(origin=OVERLAY, name="looked at again"),
        rrb.Spatial2DView(origin=DEPTH, name="depth codes"),
        *(rrb.Spatial2DView(origin=f"cameras/{name}", name=f"camera {name}") for name in contract.cameras),
    ]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(
                rrb.Spatial3DView(
                    origin="/", name="robot, plan, depth", background=DARK,
                    contents=["world/**", *(f"{name}_model/**" for name in (*contract.arms, ROBOT))],
                    spatial_information=rrb.SpatialInformation(target_frame=base, show_axes=True),
                ),
                rrb.Horizontal(
                    rrb.TimeSeriesView(origin=LATENCY, name="latency [s]"),
                    rrb.TimeSeriesView(origin=SHARE, name="refreshed cells [share]"),
                    rrb.TextLogView(origin=TOLD, name="told"),
                ),
                row_shares=[3, 1],
            ),
            rrb.Grid(*pictures, grid_columns=2),
            column_shares=[1, 1],
        ),
        collapse_panels=True,
    )


class Scene:
    """Logs messages to a recording. Each method takes one message and says nothing back."""

    def __init__(self, recording: rr.RecordingStream, contract: Contract):
        self._recording = recording
        self._told: dict[str, str] = {}
        self._frames: dict[str, str] = {}    # of what has been drawn
        recording.set_log_time_enabled(False)    # when it came here is nobody's time
        recording.set_log_tick_enabled(False)
        recording.send_blueprint(layout(contract))

    def _at(self, stamp: int) -> None:
        self._recording.set_time(TIMELINE, timestamp=stamp / 1e9)

    # --- pictures -----------------------------------------------------------------------------------------------------
    def picture(self, entity: str, stamp: int, pixels: np.ndarray) -> None:
        """pixels: uint8 (H, W, 3) RGB. stamp: capture [ns]."""
        self._at(stamp)
        self._recording.log(entity, rr.Image(pixels).compress(jpeg_quality=QUALITY))

    def camera(self, name: str, stamp: int, pixels: np.ndarray) -> None:
        self.picture(f"cameras/{name}", stamp, pixels)

    # --- space --------------------------------------------------------------------------------------------------------
    def robot(self, description: str, name: str) -> None:
        """The robot's model; description: URDF with meshes as file paths."""
        with tempfile.TemporaryDirectory(prefix="molmoact2-view-") as folder:
            path = Path(folder) / f"{name}.urdf"
            path.write_text(description.replace("file://", ""))
            tree = rr.urdf.UrdfTree.from_file_path(path, entity_path_prefix=f"{name}_model")
            # Its frames come from the visualizer, at rest and in motion; shapes for collisions are not looked at.
            chunks = tree.stream(include_joint_transforms=False)
            self._recording.send_chunks([c for c in chunks if "/collision_geometries/" not in str(c.entity_path)])

    def transforms(self, transforms: Sequence[Any], fixed: bool) -> None:
        """TransformStamped messages. fixed: of frames that never move."""
        for transform in transforms:
            self._at(stamp_ns(transform))
            shift, turn = transform.transform.translation, transform.transform.rotation
            self._recording.log(
                f"{FRAMES}/{transform.child_frame_id}",
                rr.Transform3D(
                    translation=[shift.x, shift.y, shift.z],
                    quaternion=rr.Quaternion(xyzw=[turn.x, turn.y, turn.z, turn.w]),
                    parent_frame=transform.header.frame_id, child_frame=transform.child_frame_id,
                ),
                static=fixed,
            )

    def points(self, cloud: Any, metric: bool) -> None:
        """A PointCloud2 of the visualizer: x, y, z and a packed colour, float32 each."""
        self._at(stamp_ns(cloud))
        table = np.frombuffer(cloud.data, "<f4").reshape(-1, cloud.point_step // 4)
        packed = table[:, 3].copy().view(np.uint32)
        colours = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
        entity = f"{POINTS}/{'metres' if metric else 'relative_not_metric'}"
        self._place(entity, cloud.header.frame_id)
        self._recording.log(entity, rr.Points3D(table[:, :3], colors=colours, radii=POINT))

    def markers(self, markers: Sequence[Any]) -> None:
        """Of policy/path. One that is not drawn any more is cleared."""
        for marker in markers:
            self._at(stamp_ns(marker))
            entity = f"{PLAN}/{marker.ns}/{marker.id}"
            if marker.action == Marker.ADD:
                self._place(entity, marker.header.frame_id)
                self._recording.log(entity, _shape(marker))
            elif entity in self._frames:
                self._recording.log(entity, rr.Clear(recursive=False))

    def _place(self, entity: str, frame: str) -> None:
        """Static, since clearing what was drawn would take its frame away as well."""
        if self._frames.get(entity) != frame:
            self._frames[entity] = frame
            self._recording.log(entity, rr.CoordinateFrame(frame), static=True)

    # --- numbers and words --------------------------------------------------------------------------------------------
    def trace(self, trace: Any) -> None:
        self._at(stamp_ns(trace))
        if trace.refreshed:
            self._recording.log(SHARE, rr.Scalars(sum(map(bool, trace.refreshed)) / len(trace.refreshed)))
        for timing in trace.timings:
            self._recording.log(f"{LATENCY}/{timing.stage}", rr.Scalars(timing.seconds))
        for warning in trace.warnings:
            self.tell(stamp_ns(trace), "policy", warning)

    def tell(self, stamp: int, who: str, text: str) -> None:
        """Words, where they are others than before."""
        if text and self._told.get(who) != text:
            self._at(stamp)
            self._recording.log(f"{TOLD}/{who}", rr.TextLog(text))
        self._told[who] = text


def _shape(marker: Any) -> rr.AsComponents:
    """A line (each stretch with the colour of its beginning), a ball or a text, in the marker's frame."""
    if marker.type == Marker.LINE_STRIP:
        points = np.array([[p.x, p.y, p.z] for p in marker.points])
        colours = [_colour(c) for c in marker.colors] or [_colour(marker.color)] * len(points)
        return rr.LineStrips3D(
            np.stack([points[:-1], points[1:]], axis=1), colors=colours[:-1], radii=marker.scale.x / 2
        )
    centre = [marker.pose.position.x, marker.pose.position.y, marker.pose.position.z]
    if marker.type == Marker.SPHERE:
        return rr.Points3D([centre], colors=[_colour(marker.color)], radii=marker.scale.x / 2)
    return rr.Points3D([centre], labels=[marker.text], colors=[_colour(marker.color)], radii=0.001, show_labels=True)


def _colour(colour: Any) -> list[int]:
    return [round(255 * channel) for channel in (colour.r, colour.g, colour.b, colour.a)]
