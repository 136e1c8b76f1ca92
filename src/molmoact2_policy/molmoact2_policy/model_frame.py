# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The one place where ROS units and the checkpoint's own frame meet: model = scale * ROS + offset, joint by joint."""

from __future__ import annotations

import numpy as np

from molmoact2_contract import Contract, NormTag


class ModelFrame:
    """Conversions for one norm tag. Joints in the contract's order, which is the model's."""

    def __init__(self, contract: Contract, tag: NormTag):
        self._scale = np.array([tag.frames[j].scale for j in contract.joints])
        self._offset = np.array([tag.frames[j].offset for j in contract.joints])
        self._grippers = np.array([joint.is_gripper for joint in contract.joints.values()])

    def to_model(self, ros: np.ndarray) -> np.ndarray:
        """ROS units (..., D) [rad; grippers 0 closed .. 1 open] to float32 (..., D) in the checkpoint's frame."""
        return (np.asarray(ros, dtype=np.float64) * self._scale + self._offset).astype(np.float32)

    def to_ros(self, model: np.ndarray) -> np.ndarray:
        """The checkpoint's frame (..., D) to float64 (..., D) in ROS units."""
        return (np.asarray(model, dtype=np.float64) - self._offset) / self._scale

    def actions_to_ros(self, model: np.ndarray) -> tuple[np.ndarray, int]:
        """Actions (H, D) to ROS units, and how many gripper values had to be brought back into 0 .. 1.

        A checkpoint may ask a gripper to close further than closed; that is its way to squeeze, and has no other
        meaning. Arm joints are never clipped: a waypoint outside the limits is the controller's to refuse.
        """
        ros = self.to_ros(model)
        grippers = ros[:, self._grippers]
        inside = np.clip(grippers, 0.0, 1.0)
        ros[:, self._grippers] = inside
        return ros, int((np.abs(inside - grippers) > 1e-6).sum())
