# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a norm tag saw of each joint in training, held against the robot's contract and its state. No ROS here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molmoact2_contract import Contract, NormTag

from .line import Line, failed, passed, skipped, warned

KINDS = (("q01", "q99"), ("min", "max"))
TOLERANCE = 0.02      # of a joint's range; statistics are of measured positions, which pass limits by that much
FAR = 1.0             # of a joint's range, beyond a limit: no arm was there, so the numbers mean something else
NARROW = 1 / 15       # of a joint's range; degrees taken for radians or the other way are off by a factor of 57


@dataclass(frozen=True)
class Ranges:
    """kind: e.g. "q01 to q99"; low, high: float64 (D,) in the checkpoint's frame; ros_low, ros_high: in ROS units."""

    kind: str
    low: np.ndarray
    high: np.ndarray
    ros_low: np.ndarray
    ros_high: np.ndarray


def ranges_of(stats: Mapping[str, Any] | None, contract: Contract, tag: NormTag) -> Ranges | None:
    """The ranges of state_stats or action_stats; None where these give none, or of another number of joints."""
    from molmoact2_policy.model_frame import ModelFrame

    for lower, upper in KINDS:
        if not stats or stats.get(lower) is None or stats.get(upper) is None:
            continue
        low, high = (np.asarray(stats[key], dtype=np.float64) for key in (lower, upper))
        if low.shape != (len(contract.joints),) or high.shape != low.shape:
            return None
        frame = ModelFrame(contract, tag)
        ends = np.stack([frame.to_ros(low), frame.to_ros(high)])    # a negative sign exchanges them
        return Ranges(f"{lower} to {upper}", low, high, ends.min(axis=0), ends.max(axis=0))
    return None


def names_line(names: Sequence[str], values: int, contract: Contract) -> Line:
    """names: of the checkpoint's values, empty where it gives none; values: how many there are."""
    what, joints = "joint names", contract.joint_names
    if values != len(joints):
        return failed(
            what, f"the checkpoint's tag has {values} values, the contract {len(joints)} joints",
            f"choose the tag of this robot, or the contract of the tag's ({contract.path})",
        )
    if not names:
        return passed(what, f"{values} values for {', '.join(joints)}; the checkpoint gives no names to compare")
    bare = [str(name).rpartition("observation.state.")[2].removesuffix(".pos") for name in names]
    if bare == list(joints):
        return passed(what, f"the checkpoint names {', '.join(bare)}, as the contract does")
    if sorted(bare) == sorted(joints):
        return failed(
            what, f"the checkpoint's order is {', '.join(bare)}, the contract's {', '.join(joints)}",
            f"put the joints of {contract.path} in the checkpoint's order",
        )
    return warned(
        what, f"the checkpoint calls them {', '.join(bare)}, the contract {', '.join(joints)}",
        "see that they are the same joints in the same order",
    )


def units_line(seen: Ranges | None, contract: Contract) -> Line:
    """Whether the training range, in ROS units by the contract's model_frame, can be that of this robot."""
    what = "units"
    if seen is None:
        return skipped(what, "the checkpoint's statistics give no ranges of the state")
    lower, upper = contract.values("lower"), contract.values("upper")
    span = upper - lower
    beyond = np.maximum(lower - seen.ros_low, seen.ros_high - upper) / span
    if (beyond > FAR).any():
        joint = int(np.argmax(beyond))
        return failed(
            what,
            f"in training {contract.joint_names[joint]} went from {seen.ros_low[joint]:.3g} to "
            f"{seen.ros_high[joint]:.3g} by the contract's model_frame, and it can go from {lower[joint]:.3g} to "
            f"{upper[joint]:.3g}",
            f"correct unit, sign or offset of that joint in model_frame of {contract.path}",
        )
    arms = np.array([not joint.is_gripper for joint in contract.joints.values()])
    share = float(np.median(((seen.ros_high - seen.ros_low) / span)[arms]))
    if share < NARROW:
        return warned(
            what, f"in training the joints moved through {share:.1%} of their range only, by the model_frame",
            f"see whether the tag's values are radians and not degrees (unit, in {contract.path})",
        )
    return passed(what, f"in training the joints moved through {share:.0%} of their range (median)")


def limits_line(asked: Ranges | None, contract: Contract) -> Line:
    """Whether the policy will ask for what the contract lets no joint do."""
    what = "limits"
    if asked is None:
        return skipped(what, "the checkpoint's statistics give no ranges of the actions")
    lower, upper = contract.values("lower"), contract.values("upper")
    slack = TOLERANCE * (upper - lower)
    # A gripper's target beyond its ends is a way to squeeze; the policy brings it back.
    arms = np.array([not joint.is_gripper for joint in contract.joints.values()])
    outside = arms & ((asked.ros_low < lower - slack) | (asked.ros_high > upper + slack))
    if not outside.any():
        return passed(what, f"the contract allows all that was asked for in training ({asked.kind})")
    parts = [
        f"{name} {asked.ros_low[i]:.2f} to {asked.ros_high[i]:.2f} (allowed {lower[i]:.2f} to {upper[i]:.2f})"
        for i, name in enumerate(contract.joint_names) if outside[i]
    ]
    return warned(
        what, f"in training more was asked for than the contract allows: {'; '.join(parts)}",
        f"chunks that ask for it are refused: widen `position` in {contract.path} if the arm can go there",
    )


def state_lines(state: np.ndarray, seen: Ranges | None, contract: Contract, tag: NormTag | None) -> list[Line]:
    """A line for each joint. state: float64 (D,) in ROS units."""
    model = _in_models_frame(state, contract, tag) if tag else None
    step = contract.values("velocity") / contract.setpoint_hz    # so far outside its limits an arm may be armed
    lines = []
    for index, (name, joint) in enumerate(contract.joints.items()):
        what, value = f"joint {name}", float(state[index])
        text = f"{value:.3f}" if joint.is_gripper else f"{value:.3f} rad"
        if model is not None:
            text += f", {_short(model[index])} in the checkpoint's frame"
        if seen is not None:
            text += f" ({seen.kind}: {_short(seen.low[index])} to {_short(seen.high[index])})"
        if not joint.lower - step[index] <= value <= joint.upper + step[index]:
            limits = f"; outside its limits {joint.lower:g} to {joint.upper:g}"
            mend = "move it inside by hand; the arm cannot be armed so. If it looks right, calibrate again"
            lines.append(failed(what, text + limits, mend))
        elif seen is not None and not seen.ros_low[index] <= value <= seen.ros_high[index]:
            mend = "begin at a pose as in the demonstrations; if it looks like one, see unit, sign and offset"
            lines.append(warned(what, f"{text}; outside what was seen in training", mend))
        else:
            lines.append(passed(what, text))
    return lines


def _in_models_frame(state: np.ndarray, contract: Contract, tag: NormTag) -> np.ndarray:
    """float32 (D,). Not asked for on a robot's own computer, which has no policy."""
    from molmoact2_policy.model_frame import ModelFrame

    return ModelFrame(contract, tag).to_model(state)


def _short(value: float) -> str:
    return f"{round(float(value), 3) + 0.0:g}"
