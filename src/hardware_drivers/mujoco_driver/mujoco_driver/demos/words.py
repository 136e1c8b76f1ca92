# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What tasks are called, and questions about a scene with their answers."""

from __future__ import annotations

import numpy as np

from ..success import PICK, TOUCH, TRAY
from ..tabletop import Tabletop

PLAIN = {TOUCH: "touch the {} cube", PICK: "pick up the {} cube", TRAY: "put the {} cube in the tray"}
OTHERWISE = {
    TOUCH: ("tap the {} cube", "touch the {} block", "point at the {} cube", "move the gripper to the {} cube"),
    PICK: ("lift the {} cube", "grab the {} cube", "pick the {} cube up", "pick up the {} block", "grasp the {} block"),
    TRAY: (
        "place the {} cube in the tray", "drop the {} cube into the tray", "put the {} block into the tray",
        "move the {} cube to the tray",
    ),
}
NOTHING = "nothing"


def instruction(task: str, cube: str, random: np.random.Generator | None) -> str:
    """The plain words; with `random` others in half of the cases."""
    if random is None or random.random() < 0.5:
        return PLAIN[task].format(cube)
    others = OTHERWISE[task]
    return others[int(random.integers(len(others)))].format(cube)


class Questions:
    """Questions about what one camera sees, with answers from the true state."""

    def __init__(self, table: Tabletop, camera: str, size: tuple[int, int]):
        """size: (height, width) of its images."""
        self._table, self._camera, self._aspect = table, table.model.camera(camera).id, size[1] / size[0]

    def pixel(self, place: np.ndarray) -> tuple[float, float] | None:
        """Where a place [m] is in the image, as shares of width and height from the upper left; None outside of it."""
        data, model = self._table.data, self._table.model
        local = (place - data.cam_xpos[self._camera]) @ data.cam_xmat[self._camera].reshape(3, 3)
        if local[2] >= 0:
            return None
        scale = np.tan(np.radians(model.cam_fovy[self._camera]) / 2) * -local[2]
        across, down = (1 + local[0] / (scale * self._aspect)) / 2, (1 - local[1] / scale) / 2
        return (float(across), float(down)) if 0 <= across < 1 and 0 <= down < 1 else None

    def ask(self, random: np.random.Generator) -> tuple[str, str]:
        """One question and its answer."""
        kinds = (self._point, self._point, self._compare, self._nearest, self._held)
        return kinds[int(random.integers(len(kinds)))](random)

    def _point(self, random: np.random.Generator) -> tuple[str, str]:
        cube = self._any(random)
        return f"Point to the {cube} cube.", self.answer_place(cube)

    def answer_place(self, cube: str) -> str:
        """Thousandths of width and height, or that it is not there."""
        seen = self.pixel(self._table.place(cube))
        return NOTHING if seen is None else f"{int(seen[0] * 1000)} {int(seen[1] * 1000)}"

    def _compare(self, random: np.random.Generator) -> tuple[str, str]:
        first, second = random.permutation(list(self._table.scene.cubes))[:2]
        where = [self.pixel(self._table.place(cube)) for cube in (first, second)]
        if None in where:
            return self._held(random)
        left = where[0][0] < where[1][0]    # type: ignore[index]
        return f"Is the {first} cube left of the {second} cube?", "yes" if left else "no"

    def _nearest(self, random: np.random.Generator) -> tuple[str, str]:
        hand = self._table.site("grasp")
        cubes = self._table.scene.cubes
        nearest = min(cubes, key=lambda cube: float(np.linalg.norm(self._table.place(cube) - hand)))
        return "Which cube is nearest to the gripper?", nearest

    def _held(self, random: np.random.Generator) -> tuple[str, str]:
        return "What does the gripper hold?", held(self._table) or NOTHING

    def _any(self, random: np.random.Generator) -> str:
        cubes = self._table.scene.cubes
        return cubes[int(random.integers(len(cubes)))]


def held(table: Tabletop) -> str:
    """The cube that is between the jaws and off the table; empty where none is."""
    hand = table.site("grasp")
    for cube in table.scene.cubes:
        place = table.place(cube)
        if place[2] > table.scene.half(cube) + 0.004 and np.linalg.norm(hand - place) < 0.03:
            return cube
    return ""
