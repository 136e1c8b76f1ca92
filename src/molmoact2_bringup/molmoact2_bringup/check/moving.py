# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The part of the check that moves: one joint of one arm, a little, by --move alone."""

from __future__ import annotations

from collections.abc import Callable

from molmoact2_contract import NormTag, System

from ..running import RunningSystem
from .line import Line, failed, skipped, warned
from .move import MOVE, move_lines
from .options import Options
from .report import Interrupted
from .wanted import controllers_of, policy_of, with_motion


def check_move(system: System, options: Options, unfit: tuple[str, ...], log: Callable[[str], None]) -> list[Line]:
    """unfit: controllers whose device does not open. Errors: Interrupted."""
    contract, controllers = system.contract, controllers_of(system)
    arms = [a for a in controllers if not options.joint or options.joint in contract.arm(a).joints]
    if not arms:
        there = ", ".join(j for a in controllers for j in contract.arm(a).joints) or "none: the system moves no arm"
        return [failed(MOVE, f"there is no joint {options.joint!r}", f"joints there are: {there}")]
    arm = arms[0]
    if controllers[arm].name in unfit:
        return [skipped(MOVE, f"the device of arm {arm!r} does not open")]
    with RunningSystem(with_motion(system, arm), log) as running:
        lines = move_lines(running, contract, _tag(system), arm, options.joint, options.yes, _say)
        stopped = running.stopping.is_set()
    if stopped:
        raise Interrupted
    return lines + [warned(MOVE, f"on ending, {exit_}", "see log.txt") for exit_ in running.unclean]


def _tag(system: System) -> NormTag:
    """The policy's; the contract's first where there is no policy. Chunks must have the timing of one."""
    policy = policy_of(system)
    tags = system.contract.norm_tags
    return tags.get(str(policy.parameters.get("norm_tag", "")) if policy else "", next(iter(tags.values())))


def _say(text: str) -> None:
    print(text, flush=True)
