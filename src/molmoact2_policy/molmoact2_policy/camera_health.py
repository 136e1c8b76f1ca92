# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the cameras show anything: a black, saturated or frozen one, or one of another size, stops chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from molmoact2_contract import Contract, NormTag
from molmoact2_model import image_fault

from .ingest import Observation


@dataclass
class _Seen:
    """A frame, and when it came first."""

    image: np.ndarray
    first_ns: int


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two frames are equal to the last bit. A camera that sees has noise: its first row tells mostly."""
    return np.array_equal(a[:1], b[:1]) and np.array_equal(a, b)


class CameraHealth:
    """Looks at every observation in turn. check_frozen: whether a camera that repeats one frame counts as frozen."""

    def __init__(self, contract: Contract, tag: NormTag, check_frozen: bool):
        self._cameras = [contract.cameras[name] for name in tag.cameras]
        self._check_frozen = check_frozen
        self._seen: dict[str, _Seen] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}

    def forget(self) -> None:
        """A new episode: what the cameras send now is what they shall go on sending."""
        self._seen, self._sizes = {}, {}

    def problem(self, observation: Observation) -> str:
        """What is wrong with a camera, e.g. "camera front is black"; empty where all show something."""
        problems = []
        for camera, image, source in zip(self._cameras, observation.images, observation.inputs, strict=False):
            fault = image_fault(image)
            height, width = self._sizes.setdefault(camera.name, image.shape[:2])
            if image.shape[:2] != (height, width):
                problems.append(
                    f"camera {camera.name} sends {image.shape[1]} x {image.shape[0]} pixels, it sent {width} x "
                    f"{height} when the episode began; set it back, or begin a new episode (policy/reset)"
                )
            elif fault:
                problems.append(f"camera {camera.name} is {fault}")
            elif self._check_frozen and camera.frozen_after is not None:
                seen = self._seen.get(camera.name)
                if seen is None or not _same(seen.image, image):
                    self._seen[camera.name] = _Seen(image, source.stamp_ns)
                elif source.stamp_ns - seen.first_ns > camera.frozen_after * 1e9:
                    problems.append(
                        f"camera {camera.name} is frozen: it has repeated one frame for over {camera.frozen_after:g} s"
                    )
        return "; ".join(problems)
