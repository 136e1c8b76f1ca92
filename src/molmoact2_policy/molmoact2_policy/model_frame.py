# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The one place where ROS units and the checkpoint's own frame meet: model = scale * ROS + offset, joint by joint."""

from __future__ import annotations

import numpy as np

from molmoact2_contract import Contract, NormTag

NEAR_LIMIT = 0.01    # [rad]; a network that was shown an arm at its limit steps over it by hairs


class ModelFrame:
    """Conversions for one norm tag. Joints in the contract's order, which is the model's."""

    def __init__(self, contract: Contract, tag: NormTag):
        self._scale = np.array([tag.frames[j].scale for j in contract.joints])
        self._offset = np.array([tag.frames[j].offset for j in contract.joints])
        self._grippers = np.array([joint.is_gripper for joint in contract.joints.values()])
        self._lower, self._upper = contract.values("lower"), contract.values("upper")

    def to_model(self, ros: np.ndarray) -> np.ndarray:
        """ROS units (..., D) [rad; grippers 0 closed .. 1 open] to float32 (..., D) in the checkpoint's frame."""
        return (np.asarray(ros, dtype=np.float64) * self._scale + self._offset).astype(np.float32)

    def to_ros(self, model: np.ndarray) -> np.ndarray:
        """The checkpoint's frame (..., D) to float64 (..., D) in ROS units."""
        return (np.asarray(model, dtype=np.float64) - self._offset) / self._scale

    def actions_to_ros(self, model: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Actions (H, D) to ROS units, and what had to be brought back inside, in words.

        A checkpoint may ask a gripper to close further than closed; that is its way to squeeze, and has no other
        meaning. Arm joints are brought back to a limit from NEAR_LIMIT outside of it at most: a waypoint further
        outside is the controller's to refuse.
        """
        ros = self.to_ros(model)
        inside = np.clip(ros, self._lower, self._upper)
        off = np.abs(inside - ros)
        back = self._grippers | (off <= NEAR_LIMIT)
        outside = (off > 1e-6) & back
        grippers, joints = (int(outside[:, of].sum()) for of in (self._grippers, ~self._grippers))
        remarks = []
        if grippers:
            remarks.append(f"{grippers} gripper values lay outside 0 .. 1 and were brought back")
        if joints:
            worst = float(off[:, ~self._grippers][outside[:, ~self._grippers]].max())
            text = f"{joints} joint values lay outside the limits, by {worst:.4f} at most, and were brought back"
            remarks.append(text)
        return np.where(back, inside, ros), tuple(remarks)
