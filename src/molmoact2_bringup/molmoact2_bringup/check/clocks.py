# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the clocks of all that takes part agree, by the stamps of what came, and whether inputs lie together. No ROS
here."""

from __future__ import annotations

import numpy as np

from molmoact2_contract import Contract

from .heard import Heard, Joints, Stream
from .line import Line, failed, passed, skipped, warned

CLOCKS, MOMENTS = "clocks", "inputs of one moment"
AHEAD = 0.05      # [s] that stamps of joint states may lie in the future (arm_controller.feedback)
JITTER = 0.002    # [s]; stamps that seem this much younger than now are a matter of rounding
MEND = "synchronise the computers' clocks (chrony, docs/deployment.md), or correct the driver's stamps"


def clock_lines(heard: Heard, contract: Contract) -> list[Line]:
    """Ages of stamps by this computer's clock: one line where all is well, one for each topic that is not."""
    streams = [stream for stream in heard.streams if len(stream) and min(stream.stamps) > 0]
    if not streams:
        return [skipped(CLOCKS, "nothing with a stamp was heard")]
    lines = [line for stream in streams if (line := _unwell(stream, contract))]
    said = "; ".join(f"{_name(s)} {np.median(s.ages) * 1e3:.1f} ms ({s.ages.max() * 1e3:.1f})" for s in streams)
    return lines or [passed(CLOCKS, f"age of stamps when they come, median (worst): {said}")]


def _unwell(stream: Stream, contract: Contract) -> Line | None:
    joints = isinstance(stream, Joints)
    ahead = AHEAD if joints else contract.skew_limit
    oldest = contract.joint_state_timeout if joints else contract.max_observation_age
    ages, middle = stream.ages, float(np.median(stream.ages))
    text = f"{_name(stream)}: stamps are {{}} (median {middle:.3f} s old, {ages.min():.3f} to {ages.max():.3f})"
    if middle < -ahead:
        return failed(CLOCKS, text.format(f"in the future by more than the {ahead:g} s that are allowed"), MEND)
    if middle > oldest:
        return failed(CLOCKS, text.format(f"older than the {oldest:g} s that are allowed"), MEND)
    if ages.min() < -JITTER:
        return warned(CLOCKS, text.format("in the future"), MEND)
    if ages.max() > oldest:
        return warned(CLOCKS, text.format(f"at times older than {oldest:g} s"), "free the processor and the network")
    return None


def _name(stream: Stream) -> str:
    return stream.topic


def moments_line(heard: Heard, contract: Contract) -> Line:
    """How far the other inputs lie from each main image, as the policy would choose them."""
    streams = [stream for stream in heard.streams if len(stream)]
    if not heard.cameras or len(streams) < len(heard.cameras) + 1:
        return skipped(MOMENTS, "not every camera and joint state was heard")
    main, *others = streams
    stamps = np.array(main.stamps[1:-1] or main.stamps, dtype=np.int64)    # what was around the ends was not heard
    apart = np.stack([_nearest(stamps, np.array(other.stamps, dtype=np.int64)) for other in others]).max(axis=0)
    usual, worst, limit = float(np.median(apart)), float(apart.max()), contract.skew_limit
    text = f"apart by {usual * 1e3:.1f} ms (median, worst {worst * 1e3:.1f} ms), {limit * 1e3:.0f} ms are allowed"
    mend = "let cameras fire together or faster; check that all stamps are of one clock"
    if usual > limit:
        return failed(MOMENTS, text, mend)
    if worst > limit:
        return warned(MOMENTS, f"{text}: some images make no observation", mend)
    return passed(MOMENTS, text)


def _nearest(stamps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance from each stamp to the nearest of the others [s], float64 (N,)."""
    return np.abs(stamps[:, None] - others[None, :]).min(axis=1) / 1e9
