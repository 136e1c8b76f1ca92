# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of a device, put into its double while the arms follow a scripted policy.

Each comes while the arms move fast, and ends in a fault that is named and latched, with every arm of the robot at rest;
where setpoints reach the device it is brought to rest within the limits. When its cause is gone nothing moves until an
operator has cleared the fault and armed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from molmoact2_contract import System

from .devices import GONE, SOUND, DeviceFault, double_of
from .judgement import GAP
from .reasons import joined
from .stage import FAULT, UNHARMED, Row, S, Stage

GOES_ON = 3.0          # [s] for which a fault must be borne that is to be borne
REST = 0.3             # [s] in which an arm at rest is looked at
RESTING = 0.005        # [rad] that it may creep in that time
MOVING = 0.02          # [rad] that an arm that follows moves in that time
AT_SPEED = 0.1         # [s] that a joint would take to come to rest at its limit: a stop at once is seen to be one
UNTOUCHED = 0.7        # [s] after the cause is gone, in which nothing may move


class DeviceRows:
    """Rows of one system. stages: of its arms; faults are put into the first one's device, at last one into the
    others'. hurry: has the policy move the arms fast, or not, from the next time on that they begin to follow."""

    def __init__(
        self, system: System, faults: Sequence[DeviceFault], stages: Sequence[Stage], hurry: Callable[[bool], None]
    ):
        self._system, self._stages, self._hurry, self._fast = system, list(stages), hurry, False
        self._faults = faults

    def rows(self) -> Iterator[Callable[[], Row]]:
        first, *others = self._stages
        for fault in self._faults:
            yield partial(self._row, fault, first)
        held = [fault for fault in self._faults if fault.named and not fault.falls][:1]
        for stage in others:
            for fault in held:
                yield partial(self._row, fault, stage)

    def _row(self, fault: DeviceFault, stage: Stage) -> Row:
        name = f"{self._system.name}, {stage.arm}: {fault.name}"
        failed = self._change_speed(bool(fault.named)) or self._moves()
        began = time.monotonic()
        failed = failed or self._tell(stage, fault.spoil)
        if not fault.named:
            return self._borne(fault, stage, name, failed)
        took = stage.wait(lambda: stage.status.state == S.FAULT)
        took = None if took is None else time.monotonic() - began
        seen = stage.status.fault_text if took is not None else "nothing"
        failed = failed or self._named(fault, stage, took) or self._others_stop(stage) or self._at_rest()
        mended = self._tell(stage, fault.mend)
        failed = failed or mended or self._latched()
        cleared = self._clear(stage)
        failed = failed or cleared or self._still(REST, "cleared, the arm moved") or self._broken(stage, fault)
        followed = self._follow_again()
        failed = failed or followed or self._broken()
        return Row(name, f"{FAULT}, {'falls' if fault.falls else 'holds'}", seen, took or 0.0, failed)

    def _borne(self, fault: DeviceFault, stage: Stage, name: str, failed: str) -> Row:
        ended = stage.wait(lambda: not all(s.is_in(S.FOLLOWING) for s in self._stages), GOES_ON)
        seen = stage.status.reason if ended is None else stage.status.fault_text or stage.status.reason
        failed = failed or ("" if ended is None else stage.stopped("the arm did not go on"))
        mended = self._tell(stage, fault.mend)
        failed = failed or mended or self._broken(stage, fault)
        if ended is not None:    # for the rows that come
            self._clear(stage)
            self._follow_again()
        return Row(name, UNHARMED, seen, GOES_ON, failed)

    # --- what must hold; each returns why it does not -----------------------------------------------------------------
    def _change_speed(self, fast: bool) -> str:
        """Fast where the arm is to be stopped; where it is to go on, a bus that asks again must keep up with it."""
        if fast == self._fast:
            return ""
        self._hurry(fast)
        self._fast = fast
        failed = ""
        for stage in self._stages:
            failed = failed or stage.operate("stop")
            stage.wait(partial(stage.is_in, S.HOLDING))
        return failed

    def _moves(self) -> str:
        """Every arm follows, resumed where it asks for that, and is seen to move."""
        failed = self._follow()
        if failed:
            return failed
        for stage in self._stages:
            seen = stage.wait(partial(_is_led, stage, self._fast))
            if seen is None:
                return f"arm {stage.arm!r} does not move as it should: {stage.status.fault_text or stage.status.reason}"
        return ""

    def _follow(self) -> str:
        failed = ""
        for act in (Stage.resume_where_asked, Stage.follow):
            for stage in self._stages:
                failed = failed or act(stage)
        return failed

    @staticmethod
    def _named(fault: DeviceFault, stage: Stage, took: float | None) -> str:
        if took is None:
            return "no fault was latched"
        text, code = stage.status.fault_text, stage.status.fault_code
        if code not in fault.codes or not any(words in text for words in fault.named):
            return f"expected one of the faults {fault.codes}, named {' or '.join(fault.named)}; it is {code}"
        return ""

    def _others_stop(self, stage: Stage) -> str:
        for other in self._stages:
            if other is stage:
                continue
            stopped = other.wait(partial(_stopped_for_a_peer, other))
            if stopped is None or repr(stage.arm) not in other.status.fault_text:
                return f"arm {other.arm!r} did not stop because of it: {other.status.reason}"
        return ""

    def _at_rest(self) -> str:
        for stage in self._stages:
            if stage.wait(partial(_rests, stage)) is None:
                return f"arm {stage.arm!r} does not come to rest"
        return ""

    def _latched(self) -> str:
        """With its cause gone the fault stays, and nothing moves."""
        time.sleep(UNTOUCHED)    # a while in which something could happen is what is looked at
        if any(stage.status.state != S.FAULT for stage in self._stages):
            return "the fault cleared itself"
        return self._still(UNTOUCHED, "with its cause gone the arm moved")

    def _clear(self, stage: Stage) -> str:
        """An operator clears the faults, that of the arm with the fault of its own first."""
        failed = ""
        for one in [stage, *(s for s in self._stages if s is not stage)]:
            failed = failed or (one.clear_fault() if one.status.state == S.FAULT else "")
        time.sleep(REST)
        return failed

    def _still(self, seconds: float, words: str) -> str:
        moved = max(stage.witness.moved(seconds) for stage in self._stages)
        return "" if moved < 2 * RESTING else f"{words} by {moved:.3f}"

    def _follow_again(self) -> str:
        failed = ""
        for stage in self._stages:
            failed = failed or stage.operate("arm")
        time.sleep(GAP)
        for stage in self._stages:
            stage.witness.forget_told()
        return failed or self._follow()

    def _broken(self, faulty: Stage | None = None, fault: DeviceFault | None = None) -> str:
        """faulty: the arm whose device had the fault; others' come to rest as they always do."""
        found = []
        for stage in self._stages:
            if stage is faulty and fault is not None:
                broken = stage.broken(cut_off=fault.bus == GONE, falls=fault.falls, timely=fault.bus == SOUND)
            else:
                broken = stage.broken()
            found.append((stage.arm, broken))
        return joined(*(type(broken)(f"arm {arm!r}: {broken}") for arm, broken in found if broken))

    def _tell(self, stage: Stage, lines: Sequence[str]) -> str:
        node = double_of(self._system, stage.arm).name
        for line in lines:
            failed = stage.set_parameter(node, "fault", line)
            if failed:
                return f"{node} does not take {line!r}: {failed}"
        return ""


def _is_led(stage: Stage, fast: bool) -> bool:
    moves = stage.witness.brakes_for() > AT_SPEED if fast else stage.witness.moved(REST) > MOVING
    return stage.is_in(S.FOLLOWING) and moves


def _stopped_for_a_peer(stage: Stage) -> bool:
    return stage.status.state == S.FAULT and stage.status.fault_code == S.FAULT_PEER


def _rests(stage: Stage) -> bool:
    return stage.witness.moved(REST) < RESTING
