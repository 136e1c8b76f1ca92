# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What everything but the model takes: a policy node on its own over real DDS, fed by a process with three cameras.

The node is the one that runs on robots. Its messages tell all times but two: when the newest image arrived, and when
the node had it, is noted in its process. Images go through shared memory as docker/fastdds/same_host.xml sets it. Both
processes have a domain of their own, in which nothing else may be.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from array import array
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity, set_logger_level
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image, JointState

from molmoact2_contract import Contract, find_resource, load_contract
from molmoact2_contract.qos import CHUNK, SENSOR_PUBLISH, TRACE
from molmoact2_msgs.msg import ActionChunk, ReasoningTrace
from molmoact2_policy.ingest import stamp_ns
from molmoact2_policy.node import PolicyNode

from .passage import WARM_UP, Arrival, Chunk, RosPath, figures

CONTRACT, TAG = "yam_bimanual", "yam_dual_molmoact2"
TRANSPORTS = ("raw", "compressed")
WIDTH, HEIGHT, RATE = 640, 480, 15.0
JOINT_STATES = 6    # for each set of images
PICTURES, QUALITY = 8, 90    # different ones, and of their JPEG
NODES = {"cameras", "policy"}
DOMAINS = 101    # above the highest of these a domain's ports lie among those that Linux gives to anybody
PATIENCE = 60.0    # [s]


@dataclass(frozen=True)
class Place:
    """What both processes are given. environment: of them; count: chunks to be made."""

    environment: dict[str, str]
    contract: str
    checkpoint: str
    count: int


def ros_paths(folder: Path, seconds: float) -> list[RosPath]:
    """Raw images, then compressed ones. seconds: of both. Errors: RuntimeError, ContractError."""
    checkpoint = folder / "three_cameras"
    _write_checkpoint(load_contract(CONTRACT), checkpoint)
    return [_ros_path(folder, checkpoint, transport, seconds / len(TRANSPORTS)) for transport in TRANSPORTS]


def _ros_path(folder: Path, checkpoint: Path, transport: str, seconds: float) -> RosPath:
    contract = write_contract(transport, folder / f"three_cameras_{transport}.yaml")
    count = WARM_UP + max(2, round(seconds * RATE))
    place = Place(_environment(), str(contract), str(checkpoint), count)
    spawned = multiprocessing.get_context("spawn")
    end = spawned.Event()
    processes, ends = [], []
    for run in (_policy, _robot):
        here, there = spawned.Pipe(duplex=False)
        processes.append(spawned.Process(target=run, args=(place, end, there), daemon=True))
        ends.append((here, there))
    policy, robot = (here for here, _ in ends)
    try:
        for process, (_, there) in zip(processes, ends, strict=True):
            process.start()
            there.close()
        # The robot ends by itself; the policy says something before that only where it fails.
        if not wait([policy, robot], PATIENCE + 3 * seconds):
            raise RuntimeError(f"the policy made no {count} chunks within {PATIENCE + 3 * seconds:g} s")
        chunks = None if policy.poll() else _heard(robot)
        end.set()
        arrivals = _heard(policy)
    finally:
        end.set()
        for process in processes:
            if process.pid is not None:
                process.join(PATIENCE)
                process.kill()
    return figures(transport, chunks or [], arrivals)


def _heard(pipe: Connection) -> Any:
    try:
        if not pipe.poll(PATIENCE):
            raise RuntimeError(f"a process of the ROS path did not end within {PATIENCE:g} s")
        found = pipe.recv()
    except EOFError:
        raise RuntimeError("a process of the ROS path died; what it said stands above") from None
    if isinstance(found, str):
        raise RuntimeError(f"ROS path: {found}")
    return found


# --- what it runs on --------------------------------------------------------------------------------------------------
def write_contract(transport: str, path: Path) -> Path:
    """The contract of the robot with three cameras, with that transport of images."""
    content = yaml.safe_load(load_contract(CONTRACT).path.read_text())
    for camera in content["cameras"].values():
        camera["transport"] = transport
        camera["topic"] += "" if transport == "raw" else f"/{transport}"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _write_checkpoint(contract: Contract, folder: Path) -> None:
    """A small one with random weights, for the robot's cameras and joints."""
    from molmoact2_model.blueprint import Blueprint, write_checkpoint

    joints, tag = len(contract.joints), contract.norm_tag(TAG)
    unit = {"mean": [0.0] * joints, "std": [1.0] * joints}
    entry = {
        "camera_keys": list(tag.cameras), "action_horizon": 30, "n_action_steps": 30, "setup_type": "two arms",
        "control_mode": "joints", "state_stats": unit, "action_stats": unit,
    }
    stats = {"format": "molmoact2_norm_stats.v1", "norm_mode": "mean_std", "metadata_by_tag": {TAG: entry}}
    write_checkpoint(folder, Blueprint(num_depth_tokens=0, image_size=(56, 56)), stats, seed=1)


def _environment() -> dict[str, str]:
    """Errors: ContractError where the profile is missing, RuntimeError."""
    profile = find_resource("docker/fastdds", "same_host", ".xml")
    return {
        "ROS_DOMAIN_ID": str(free_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile),
    }


def free_domain() -> int:
    """A domain in which nothing runs on this machine. Errors: RuntimeError where there is none."""
    for count in range(DOMAINS):
        domain = 1 + (os.getpid() + count) % DOMAINS
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7410 + 250 * domain))    # where the first participant of a domain listens
            except OSError:
                continue
            return domain
    raise RuntimeError(f"the ROS path needs a domain of its own, and domains 1 to {DOMAINS} are all in use")


# --- the policy's process ---------------------------------------------------------------------------------------------
class TimedPolicy(PolicyNode):
    """The policy node, which notes when images came."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.arrivals: dict[int, Arrival] = {}

    @property
    def failure(self) -> str:
        return self._last_error

    def create_subscription(self, msg_type: type, topic: str, callback: Any, *rest: Any, **options: Any) -> Any:
        if msg_type in (Image, CompressedImage):
            callback = partial(self._noted, callback)
        return super().create_subscription(msg_type, topic, callback, *rest, **options)

    def _noted(self, take: Any, message: Any, info: Any) -> None:
        stamp, arrived, taken = stamp_ns(message), info["received_timestamp"], time.time_ns()
        before = self.arrivals.get(stamp)    # of another camera; the executor may take them in another order
        self.arrivals[stamp] = Arrival(max(arrived, before.arrived_ns) if before else arrived, taken)
        take(message)


def _begin(place: Place) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(place.environment)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    set_logger_level("policy", LoggingSeverity.WARN)


def _policy(place: Place, end: Event, results: Connection) -> None:
    """Sends arrivals by stamp at the end; at once, and in words, what it fails by."""
    _begin(place)
    given = {
        "contract": place.contract, "checkpoint": place.checkpoint, "norm_tag": TAG, "num_steps": 1, "min_period": 0.0,
        "instruction": "measure",
    }
    node = TimedPolicy(parameter_overrides=[Parameter(name, value=value) for name, value in given.items()])
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.trigger_configure()
    node.trigger_activate()
    while not end.is_set() and not node.failure:
        executor.spin_once(timeout_sec=0.2)
    results.send(node.failure or node.arrivals)
    node.close()
    node.destroy_node()
    rclpy.try_shutdown()


# --- the robot's process ----------------------------------------------------------------------------------------------
class Robot:
    """Three cameras that fire together, joint states, and an ear for chunks and traces."""

    def __init__(self, contract: Contract):
        self.node = rclpy.create_node("cameras")
        self._contract = contract
        self._random = np.random.default_rng(0)
        cameras = [contract.cameras[name] for name in contract.norm_tag(TAG).cameras]
        self._compressed = cameras[0].transport == "compressed"
        kind = CompressedImage if self._compressed else Image
        self._cameras = [self.node.create_publisher(kind, camera.topic, SENSOR_PUBLISH) for camera in cameras]
        self._images = [[self._image(camera.frame_id) for camera in cameras] for _ in range(PICTURES)]
        self._joints = self.node.create_publisher(JointState, "joint_states", SENSOR_PUBLISH)
        self._turn = 0
        self.chunks: list[Chunk] = []    # whose traces were heard too
        self._published: dict[str, int] = {}
        self._traces: dict[str, ReasoningTrace] = {}
        on_chunk: Any = self._on_chunk    # rclpy's types know of no second argument
        self.node.create_subscription(ActionChunk, "policy/action_chunk", on_chunk, CHUNK)
        self.node.create_subscription(ReasoningTrace, "policy/reasoning_trace", self._on_trace, TRACE)
        self.node.create_timer(1.0 / (RATE * JOINT_STATES), self._send)

    def _image(self, frame_id: str) -> Image | CompressedImage:
        """A picture with large and small features, as scenes have."""
        coarse = self._random.integers(0, 232, (HEIGHT // 32, WIDTH // 32, 3), dtype=np.uint8)
        smooth = np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        pixels = smooth + self._random.integers(0, 24, smooth.shape, dtype=np.uint8)
        if self._compressed:
            _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            message: Any = CompressedImage(format="jpeg", data=array("B", encoded.tobytes()))
        else:
            message = Image(height=HEIGHT, width=WIDTH, step=3 * WIDTH, encoding="rgb8")
            message.data = array("B", pixels.tobytes())
        message.header.frame_id = frame_id
        return message

    def _send(self) -> None:
        turn, self._turn = self._turn, self._turn + 1
        positions = (0.2 + 0.1 * self._random.random(len(self._contract.joints))).tolist()
        state = JointState(name=list(self._contract.joint_names), position=positions)
        state.header.stamp = now = self.node.get_clock().now().to_msg()
        self._joints.publish(state)
        if turn % JOINT_STATES == 0:
            for camera, image in zip(self._cameras, self._images[turn // JOINT_STATES % PICTURES], strict=True):
                image.header.stamp = now
                camera.publish(image)

    def _on_chunk(self, message: ActionChunk, info: Any) -> None:
        self._published[message.trace_id] = info["source_timestamp"]
        self._complete(message.trace_id)

    def _on_trace(self, message: ReasoningTrace) -> None:
        self._traces[message.trace_id] = message
        self._complete(message.trace_id)

    def _complete(self, trace_id: str) -> None:
        if trace_id in self._published and trace_id in self._traces:
            trace, published = self._traces.pop(trace_id), self._published.pop(trace_id)
            started, finished = (time.sec * 1_000_000_000 + time.nanosec for time in (trace.started, trace.finished))
            model = next(timing.seconds for timing in trace.timings if timing.stage == "total")
            self.chunks.append(Chunk(stamp_ns(trace), started, finished, published, model))

    @property
    def strangers(self) -> str:
        """Nodes in this domain that are not ours, in words."""
        return ", ".join(sorted(set(self.node.get_node_names()) - NODES))


def _robot(place: Place, end: Event, results: Connection) -> None:
    """Sends the chunks that were heard, or in words why they tell nothing."""
    _begin(place)
    robot = Robot(load_contract(place.contract))
    executor = SingleThreadedExecutor()
    executor.add_node(robot.node)
    while not end.is_set() and len(robot.chunks) < place.count:
        executor.spin_once(timeout_sec=0.2)
    if robot.strangers:
        domain = place.environment["ROS_DOMAIN_ID"]
        results.send(f"in domain {domain}, which was free, there are now {robot.strangers}; measure again")
    else:
        results.send(robot.chunks)
    robot.node.destroy_node()
    rclpy.try_shutdown()
