# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A fabricated run of the demo as a bag, of which a test knows the figures."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState

from molmoact2_contract import load_contract
from molmoact2_msgs.msg import (
    ActionChunk,
    ControllerStatus,
    InputStamp,
    PolicyStatus,
    ReasoningTrace,
    StageTiming,
    SuccessTest,
)
from molmoact2_policy.bags.definitions import typename_of, typestore_of
from molmoact2_policy.bags.offline import open_writer
from molmoact2_policy.bags.topics import topics_of

CONTRACT = load_contract(Path(__file__).parents[3] / "config/embodiments/so101.yaml")
START = 1_700_000_000_000_000_000
NAMES = list(CONTRACT.joints)
DT = 1 / 30
LIFTED = "the red cube is lifted"


@dataclass
class Plan:
    """A fabricated run: what happens in it, so that a test knows the figures."""

    seconds: float = 3.0
    camera_rate: float = 15.0
    every: int = 8                 # images between two inferences
    latency: float = 0.25          # from capture to chunk [s]
    seam: float = 0.01             # seam jump of chunk n is n * seam
    refused: tuple[int, ...] = ()  # chunks that the controller refuses, by id

    def captures(self) -> list[float]:
        """Capture times of the inferences that finish in time [s]."""
        times = (k / self.camera_rate for k in range(0, int(self.seconds * self.camera_rate), self.every))
        return [t for t in times if t + self.latency < self.seconds]


def at(seconds: float) -> int:
    return START + round(seconds * 1e9)


def stamp(seconds: float) -> Time:
    return Time(sec=at(seconds) // 10**9, nanosec=at(seconds) % 10**9)


def joints(seconds: float) -> np.ndarray:
    """Where the joints are: slow swings around home."""
    phases = np.arange(len(NAMES)) * 0.9
    return CONTRACT.values("home") + 0.2 * np.sin(2 * math.pi * seconds / 4 + phases) - 0.2 * np.sin(phases)


def box(seconds: float) -> tuple[int, int]:
    """Upper left corner of the thing that moves in the front image, 40 px wide."""
    return 30 + int(220 * (0.5 - 0.5 * math.cos(2 * math.pi * seconds / 8))), 90


def image(camera: str, seconds: float) -> np.ndarray:
    rows, cols = np.mgrid[0:240, 0:320]
    picture = np.stack([90 + rows // 4, 100 + rows // 5, 110 + cols // 8], -1).astype(np.uint8)
    x, y = box(seconds)
    if camera == "front":
        picture[y:y + 40, x:x + 40] = (200, 40, 30)
    else:
        picture[60:180, 120 + x // 8:200 + x // 8] = (60, 60, 70)
    return picture


def image_message(camera: str, seconds: float, encoding: str = "rgb8") -> Image:
    pixels = image(camera, seconds)
    message = Image(height=240, width=320, step=960, encoding=encoding)
    message.header.stamp, message.header.frame_id = stamp(seconds), f"{camera}_optical_frame"
    message.data.frombytes((pixels if encoding == "rgb8" else pixels[..., ::-1]).tobytes())
    return message


def cells_under_box(seconds: float) -> np.ndarray:
    x, y = box(seconds)
    grid = np.zeros((10, 10), bool)
    grid[y // 24:(y + 39) // 24 + 1, x // 32:(x + 39) // 32 + 1] = True
    return grid.reshape(-1)


def traces(plan: Plan):
    """(captured at, trace) of each inference: a full pass first, then the cells under the box, before and now."""
    ages = np.zeros(100, np.uint32)
    rows, cols = np.mgrid[0:10, 0:10]
    for number, captured in enumerate(plan.captures(), 1):
        refreshed = cells_under_box(captured) | cells_under_box(captured - plan.every / plan.camera_rate)
        trace = ReasoningTrace(trace_id=f"t{number}", chunk_id=number, episode_id="e1")
        trace.instruction = "pick up the red cube"
        if number == 1:
            refreshed[:] = True
            trace.depth_mode, trace.cause = ReasoningTrace.DEPTH_FORCED, "first_call"
        else:
            trace.depth_mode = ReasoningTrace.DEPTH_ADAPTIVE
        ages = np.where(refreshed, 0, ages + 1).astype(np.uint32)
        codes = np.clip(8 * rows + 2 * cols + 40 * cells_under_box(captured).reshape(10, 10), 0, 127)
        trace.header.stamp = stamp(captured)
        trace.inputs = [
            InputStamp(topic="/front/image_raw", stamp=stamp(captured)),
            InputStamp(topic="/wrist/image_raw", stamp=stamp(captured)),
            InputStamp(kind=InputStamp.JOINT_STATE, topic="/joint_states", stamp=stamp(captured)),
        ]
        trace.grid_rows = trace.grid_cols = 10
        trace.codes, trace.refreshed = codes.reshape(-1).tolist(), refreshed.tolist()
        trace.cell_ages, trace.decoder_steps = ages.tolist(), 3 + int(refreshed.sum())
        trace.timings = [
            StageTiming(stage=StageTiming.PREFILL, seconds=0.1), StageTiming(stage=StageTiming.TOTAL, seconds=0.2)
        ]
        yield captured, trace


def chunk(number: int, captured: float) -> ActionChunk:
    message = ActionChunk(chunk_id=number, episode_id="e1", trace_id=f"t{number}", dt=DT, first_offset=1.0)
    message.joint_names = NAMES
    message.header.stamp, message.horizon = stamp(captured), 30
    times = captured + (np.arange(30) + 1) * DT
    message.positions = np.concatenate([joints(t) + 0.01 * (t - captured) for t in times]).tolist()
    return message


def status(plan: Plan, seconds: float, accepted: list[int], refused: list[int]) -> ControllerStatus:
    message = ControllerStatus(joint_names=NAMES, path_rate=1.0, tracking_joint="elbow_flex", tracking_error=0.02)
    message.header.stamp = stamp(seconds)
    message.state = ControllerStatus.FOLLOWING if accepted else ControllerStatus.HOLDING
    message.reason = "following" if accepted else "waiting for the first chunk"
    message.chunk_id, message.episode_id = (accepted[-1], "e1") if accepted else (0, "")
    message.seam_jump, message.acceptance_latency = plan.seam * message.chunk_id, plan.latency
    message.accepted_chunks, message.refused_chunks = len(accepted), len(refused)
    if refused:
        message.last_refusal, message.last_refused_chunk_id = ControllerStatus.REFUSAL_STEP, refused[-1]
    message.ticks, message.missed_ticks = 1000 + round(seconds * 100), 4 + int(seconds)
    message.setpoint, message.measured = joints(seconds).tolist(), joints(seconds - 0.03).tolist()
    return message


def events(plan: Plan):
    """(receive time [s], topic, message) of a whole run."""
    for camera in CONTRACT.cameras.values():
        for k in range(int(plan.seconds * plan.camera_rate)):
            captured = k / plan.camera_rate
            yield captured + 0.005, camera.topic, image_message(camera.name, captured)
    for k in range(int(plan.seconds * 100)):
        message = JointState(name=NAMES, position=joints(k / 100 - 0.03).tolist())
        message.header.stamp = stamp(k / 100)
        yield k / 100 + 0.001, "joint_states", message
    times = {}
    for captured, trace in traces(plan):
        times[int(trace.chunk_id)] = captured + plan.latency
        yield captured + plan.latency, "policy/reasoning_trace", trace
        yield captured + plan.latency, "policy/action_chunk", chunk(int(trace.chunk_id), captured)
    for seconds in sorted([k / 10 for k in range(int(plan.seconds * 10))] + [t + 0.001 for t in times.values()]):
        come = [n for n, t in times.items() if t < seconds]
        accepted = [n for n in come if n not in plan.refused]
        yield seconds, "arm/status", status(plan, seconds, accepted, [n for n in come if n in plan.refused])
    for k in range(int(plan.seconds * 5)):
        for name, holds in ((LIFTED, 5 <= k < 10), ("the green cube is lifted", False)):
            message = SuccessTest(name=name, holds=holds)
            message.header.stamp = stamp(k / 5)
            yield k / 5, "success_tests", message
    policy = PolicyStatus(state=PolicyStatus.ACTIVE, checkpoint="/some/where/tiny", norm_tag="tag")
    yield plan.seconds - 0.1, "policy/status", policy


def on_the_wire(message, typestore) -> bytes:
    """The message as the middleware sends it: serialize_message leaves spare bytes at the end, the wire has none."""
    data = memoryview(serialize_message(message))
    definition = typestore.get_msgdef(typename_of(type(message)))
    _, length = definition.deserialize_cdr_le(data[4:], 0, definition.cls, typestore)
    return bytes(data[: 4 + length])


def write(path: Path, happenings, topics: dict[str, type] | None = None) -> Path:
    topics = topics or topics_of(CONTRACT)
    typestore = typestore_of({typename_of(t) for t in topics.values()})
    writer = open_writer(path)
    connections = {
        topic: writer.add_connection("/" + topic.lstrip("/"), typename_of(kind), typestore=typestore)
        for topic, kind in topics.items()
    }
    for seconds, topic, message in sorted(happenings, key=lambda e: e[0]):
        writer.write(connections[topic], at(seconds), on_the_wire(message, typestore))
    writer.close()
    return path
