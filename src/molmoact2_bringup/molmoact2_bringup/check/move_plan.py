# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The small test of one joint: which joint, which way, how slowly, and what it came to. No ROS here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from molmoact2_contract import Arm, Contract

from .line import Line, failed, passed, warned

AMOUNT = math.radians(3.0)
SPEED = 0.05           # [rad/s], or a tenth of what the contract allows, whichever is less
STAND = 1.5            # [s] at the far end, in which servos settle
LEAST, MOST = 0.5, 1.5    # of the amount that a joint may have moved
STAYED = math.radians(1.0)    # that other joints may have moved by; of a gripper, that share of its opening
SEEN = 0.002           # [m]; of a smaller motion of the arm's points nobody sees the direction
SIGN = "move: direction"
AXES = ("x", "y", "z")


class NoMove(ValueError):
    """No joint can be tested; the text says why and what to do."""


@dataclass(frozen=True)
class Move:
    """joint: index in the arm's joints; start: float64 (J,), what is commanded before; amount: signed [rad]; seconds:
    one way."""

    arm: Arm
    joint: int
    start: np.ndarray
    amount: float
    seconds: float

    @property
    def name(self) -> str:
        return self.arm.joints[self.joint]

    @property
    def lasts(self) -> float:
        """There, standing, and back [s]."""
        return 2 * self.seconds + STAND

    @property
    def stands(self) -> tuple[float, float]:
        """From when until when it stands at the far end [s since the begin]; servos have settled in the second half."""
        return self.seconds + STAND / 2, self.seconds + STAND

    def at(self, times: np.ndarray) -> np.ndarray:
        """Positions (..., J) at seconds since the begin (...): along a cosine there, standing, and back."""
        there = np.clip(times / self.seconds, 0.0, 1.0)
        back = np.clip((times - self.seconds - STAND) / self.seconds, 0.0, 1.0)
        share = (np.cos(np.pi * back) - np.cos(np.pi * there)) / 2
        positions = np.tile(self.start, (*np.shape(times), 1))
        positions[..., self.joint] += share * self.amount
        return positions

    def words(self) -> str:
        far = self.start[self.joint] + self.amount
        return (
            f"joint {self.name!r} of arm {self.arm.name!r} turns by {math.degrees(self.amount):+.1f} degrees, from "
            f"{self.start[self.joint]:.3f} to {far:.3f} rad, in {self.seconds:.1f} s, stands, and comes back; "
            f"{self.looks()}"
        )

    def looks(self) -> str:
        """What a person beside the arm must see, by the contract's kinematics."""
        kinematics = self.arm.kinematics
        if kinematics is None:
            return "the contract has no kinematics to say which way that is"
        far = self.start.copy()
        far[self.joint] += self.amount
        before, after = kinematics.frames(self.start), kinematics.frames(far)
        shifts = {name: after[name][:3, 3] - before[name][:3, 3] for name in before}
        point = max(shifts, key=lambda name: float(np.linalg.norm(shifts[name])))
        shift = shifts[point]
        if np.linalg.norm(shift) >= SEEN:
            axis = int(np.argmax(np.abs(shift)))
            way = "+" if shift[axis] > 0 else "-"
            return f"{point} must go {abs(shift[axis]) * 1e3:.0f} mm along {way}{AXES[axis]} of {self.arm.base_frame}"
        last = list(before)[-1]
        turn = after[last][:3, :3] @ before[last][:3, :3].T
        about = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        axis = int(np.argmax(np.abs(about)))
        way = "counterclockwise" if about[axis] > 0 else "clockwise"
        return f"{last} must turn {way}, seen from the {AXES[axis]} axis of {self.arm.base_frame} towards its origin"


def plan(contract: Contract, arm: Arm, start: np.ndarray, joint: str = "") -> Move:
    """The move of a joint, or of the last one that has room. start: float64 (J,), what is commanded. Errors: NoMove."""
    if joint and joint not in arm.joints:
        raise NoMove(f"arm {arm.name!r} has no joint {joint!r}; it has: {', '.join(arm.joints)}")
    if joint and contract.joints[joint].is_gripper:
        raise NoMove(f"{joint!r} is a gripper; name a joint that turns")
    turning = [name for name in arm.joints if not contract.joints[name].is_gripper]
    why = "it has no joint that turns"
    for name in [joint] if joint else reversed(turning):
        limits, index = contract.joints[name], arm.joints.index(name)
        value = float(start[index])
        up, down = limits.upper - limits.soft_zone - value, value - limits.lower - limits.soft_zone
        speed = min(SPEED, limits.velocity / 10)
        seconds = AMOUNT * math.pi / 2 / speed    # a cosine's largest speed is pi/2 times its mean
        for room, amount in ((up, AMOUNT), (down, -AMOUNT)):
            move = Move(arm, index, np.array(start), amount, seconds)
            outside = arm.outside(move.at(np.linspace(0, seconds, 10))[-1], arm.depths(np.array(start)))
            if room > AMOUNT and not outside:
                return move
            why = outside or f"{name} is at {value:.3f}, too near to its limits {limits.lower:g} and {limits.upper:g}"
    raise NoMove(f"no joint of arm {arm.name!r} can be moved by 3 degrees: {why}; move the arm to its middle by hand")


def judge(move: Move, before: np.ndarray, far: np.ndarray, after: np.ndarray) -> list[Line]:
    """Lines for the direction, the amount, and the other joints. before, far, after: measured, float64 (J,)."""
    moved = far - before
    share = float(moved[move.joint] / move.amount)
    asked, got = math.degrees(move.amount), math.degrees(moved[move.joint])
    text = f"{move.name} was told to turn by {asked:+.2f} degrees and was measured to turn by {got:+.2f}"
    if share < -LEAST:
        mend = (
            "do not run it: what is sent and what is read have opposite signs. Look at the direction in calibration or "
            "drive mode, calibrate again; model_frame of the contract has no part in it"
        )
        lines = [failed(SIGN, text, mend)]
    elif not LEAST <= share <= MOST:
        mend = "look whether it is blocked, weak or unpowered; else at its gear ratio and its calibration"
        lines = [failed(SIGN, text, mend)]
    else:
        lines = [passed(SIGN, text)]
    others = [i for i in range(len(move.arm.joints)) if i != move.joint]
    strayed = [move.arm.joints[i] for i in others if abs(moved[i]) > STAYED]
    rest = ", ".join(f"{name} by {moved[move.arm.joints.index(name)]:+.3f}" for name in strayed)
    if strayed:
        mend = "look whether two servos or joints are exchanged (ids, order of joints), or whether they are weak"
        lines.append(failed("move: other joints", f"these moved with it: {rest}", mend))
    else:
        most = max((abs(moved[i]) for i in others), default=0.0)
        lines.append(passed("move: other joints", f"they stayed where they were (within {most:.3f})"))
    off = math.degrees(after[move.joint] - before[move.joint])
    if abs(off) > math.degrees(STAYED):
        lines.append(warned("move: back", f"it came back to {off:+.2f} degrees from where it was", "look at friction"))
    else:
        lines.append(passed("move: back", f"it came back to {off:+.2f} degrees from where it was"))
    return lines
