# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The one way from messages to what the model sees, for live topics and recorded ones alike."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from molmoact2_contract import Camera, Contract, NormTag
from molmoact2_contract.messages import ImageError, digest, pixels_of, stamp_ns

from .model_frame import ModelFrame

IMAGE, JOINT_STATE = 0, 1    # InputStamp.IMAGE, InputStamp.JOINT_STATE


class ObservationError(ValueError):
    """Messages that make no observation. kind: a short name to count by; the text names the thing and the mend."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Input:
    """One message that went into an observation. stamp_ns: capture, ROS time; values: its pixels or positions."""

    kind: int
    topic: str
    frame_id: str
    stamp_ns: int
    values: np.ndarray = field(repr=False, compare=False)

    @cached_property
    def digest(self) -> bytes:
        """Of the values. Taken when it is first asked for: that of an image takes a millisecond, and only the trace
        tells it, when the chunk is out."""
        return digest(self.values)


@dataclass(frozen=True)
class Observation:
    """What one inference works on.

    images: uint8 (H, W, 3) RGB in the norm tag's camera order, the first the main one, read-only; state: float64
    (D,) in ROS units and the contract's joint order; model_state: float32 (D,) in the checkpoint's frame;
    state_stamp_ns: the oldest joint state's capture; inputs: images in model order, then joint states.
    """

    images: tuple[np.ndarray, ...]
    state: np.ndarray
    model_state: np.ndarray
    state_stamp_ns: int
    inputs: tuple[Input, ...]

    @property
    def stamp_ns(self) -> int:
        """Capture time of the observation: that of the main image."""
        return self.inputs[0].stamp_ns

    @property
    def skew(self) -> float:
        """Time between its oldest and its newest input [s]."""
        stamps = [i.stamp_ns for i in self.inputs]
        return (max(stamps) - min(stamps)) / 1e9


def positions_of(message: Any) -> np.ndarray:
    """Positions of a joint state in its own order, float64, little endian."""
    return np.array(message.position, dtype="<f8")


def positions_digest(message: Any) -> bytes:
    """Digest of a joint state's positions."""
    return digest(positions_of(message))


def read_image(topic: str, transport: str, message: Any) -> np.ndarray:
    """Pixels as pixels_of gives them. Errors: ObservationError naming the topic."""
    try:
        return pixels_of(transport, message)
    except ImageError as error:
        raise ObservationError("image_encoding", f"{topic}: {error}") from error


def _read(camera: Camera, message: Any) -> np.ndarray:
    pixels = read_image(camera.topic, camera.transport, message)
    # A later frame is compared with it, and its digest taken, after others have had the pixels.
    pixels.flags.writeable = False
    return pixels


class Ingest:
    """Makes observations for one norm tag of one robot."""

    def __init__(self, contract: Contract, tag: NormTag):
        self._contract, self._tag = contract, tag
        self._cameras = [contract.cameras[name] for name in tag.cameras]
        self._frame = ModelFrame(contract, tag)
        # Decoding and conversion let go of Python's lock: the cameras are read side by side.
        self._readers = ThreadPoolExecutor(len(self._cameras), thread_name_prefix="ingest")

    def observation(self, images: Sequence[Any], joint_states: Sequence[Any], joint_topic: str) -> Observation:
        """An observation from messages.

        images: one Image or CompressedImage per camera of the tag, in its order; joint_states: JointState messages that
        together hold every joint of the contract once. Errors: ObservationError.
        """
        for camera, message in zip(self._cameras, images, strict=True):
            self._check_header(camera, message)
        state = self._state(joint_states)
        pixels = self._read(images)
        inputs = [
            Input(IMAGE, camera.topic, message.header.frame_id, stamp_ns(message), values)
            for camera, message, values in zip(self._cameras, images, pixels, strict=True)
        ]
        inputs += [
            Input(JOINT_STATE, joint_topic, m.header.frame_id, stamp_ns(m), positions_of(m)) for m in joint_states
        ]
        observation = Observation(
            images=pixels,
            state=state,
            model_state=self._frame.to_model(state),
            state_stamp_ns=min(stamp_ns(m) for m in joint_states),
            inputs=tuple(inputs),
        )
        if observation.skew > self._contract.skew_limit:
            raise ObservationError(
                "skew",
                f"the inputs lie {observation.skew:.3f} s apart, more than {self._contract.skew_limit:g} s; "
                "check the cameras' rates and the clocks",
            )
        return observation

    def _read(self, images: Sequence[Any]) -> tuple[np.ndarray, ...]:
        in_place = all(
            camera.transport == "raw" and message.encoding == "rgb8"
            for camera, message in zip(self._cameras, images, strict=True)
        )
        # Pixels that lie in the message are there at once; other threads would only make them wait.
        return tuple((map if in_place else self._readers.map)(_read, self._cameras, images))

    @staticmethod
    def _check_header(camera: Camera, message: Any) -> None:
        frame_id = message.header.frame_id
        if stamp_ns(message) <= 0:
            raise ObservationError(
                "image_stamp", f"{camera.topic}: the stamp is zero; its driver must give the time of capture"
            )
        if frame_id != camera.frame_id:
            raise ObservationError(
                "image_frame",
                f"{camera.topic}: its frame is {frame_id!r}, that of camera {camera.name} is {camera.frame_id!r}; "
                "are cameras swapped? Else set frame_id in the contract",
            )

    def _state(self, messages: Sequence[Any]) -> np.ndarray:
        """Positions by name, in the contract's order [ROS units]."""
        values: dict[str, float] = {}
        for message in messages:
            if len(message.name) != len(message.position):
                raise ObservationError(
                    "joint_count", f"a joint state has {len(message.name)} names and {len(message.position)} positions"
                )
            for name, position in zip(message.name, message.position, strict=True):
                if name not in self._contract.joints:
                    raise ObservationError(
                        "joint_unknown", f"joint {name!r} of a joint state is not in {self._contract.path.name}"
                    )
                if name in values:
                    raise ObservationError("joint_twice", f"joint {name!r} comes twice")
                values[name] = position
        missing = [name for name in self._contract.joints if name not in values]
        if missing:
            raise ObservationError("joint_missing", f"joint {missing[0]!r} is missing in the joint states")
        state = np.array([values[name] for name in self._contract.joints], dtype=np.float64)
        bad = ~np.isfinite(state)
        if bad.any():
            name = self._contract.joint_names[int(np.argmax(bad))]
            raise ObservationError("joint_not_finite", f"the position of joint {name!r} is not a number")
        return state
