# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Under which names the images of a request may come, and in which order the model takes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .wire import WireError

# As existing /act servers name them, in the order of the model's images.
PRESETS = {
    "yam": ("top_cam", "left_cam", "right_cam"),
    "yamc": ("right_cam", "left_cam", "top_cam"),
    "droid": ("external_cam", "wrist_cam"),
    "libero": ("image", "wrist_image"),
    "panda": ("external_cam", "left_wrist_cam", "right_wrist_cam"),
    "xarm": ("zed_gripper_left", "zed_high_left_left"),
}
OF_TAG = {"yam_dual_molmoact2": "yam", "franka_droid": "droid"}
BY_COUNT = ("yam", "droid")


class Cameras:
    """The names for one norm tag. camera_keys: the tag's own; names: the only ones, where they are given."""

    def __init__(self, tag: str, camera_keys: Sequence[str], names: Sequence[str] = ()):
        self.orders = [tuple(names)] if names else _orders(tag, camera_keys)

    @property
    def names(self) -> set[str]:
        return {name for order in self.orders for name in order}

    def order(self, fields: Collection[str]) -> tuple[str, ...]:
        """The names among a request's fields, in the model's order; empty where it has none of them.

        Errors: WireError where some are missing, or belong to different sets of names.
        """
        there = self.names & set(fields)
        if not there:
            return ()
        for order in self.orders:
            if there == set(order):
                return order
        nearest = max(self.orders, key=lambda order: len(there & set(order)) - len(set(order) - there))
        missing = [name for name in nearest if name not in there]
        if missing:
            raise WireError(f"missing required field: {missing[0]!r}; the images are {', '.join(nearest)}")
        extra = sorted(there - set(nearest))
        raise WireError(f"the images {', '.join(nearest)} and also {', '.join(extra)} came; send one set of names")


def _orders(tag: str, camera_keys: Sequence[str]) -> list[tuple[str, ...]]:
    last = tuple(key.rpartition(".")[2] for key in camera_keys)
    own = [tuple(camera_keys), last, tuple(f"{name}_cam" for name in last)]
    orders = [order for order in own if order and len(set(order)) == len(order)]
    if tag in OF_TAG:
        return list(dict.fromkeys([PRESETS[OF_TAG[tag]], *orders]))
    # A usual set of names serves where none of them is the tag's own name of another camera.
    for preset in (PRESETS[name] for name in BY_COUNT):
        fits = len(preset) == len(camera_keys) and all(
            name not in order or order.index(name) == index for order in orders for index, name in enumerate(preset)
        )
        if fits and preset not in orders:
            orders.append(preset)
    return orders


def read_names(text: str) -> tuple[str, ...]:
    """--image-keys: one of PRESETS, or names a,b,c. Errors: WireError."""
    names = PRESETS.get(text) or tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise WireError(f"image keys {text!r}: expected one of {', '.join(PRESETS)}, or different names a,b,c")
    return names
