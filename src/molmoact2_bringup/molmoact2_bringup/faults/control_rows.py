# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of chunks, of the servo bus, of the clock and of the controller's processes, with a scripted policy."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from molmoact2_policy.scripted.policy import ScriptedPolicy

from ..bench.setpoints import busy
from .chunks import FAULTS, ChunkFault
from .clock import ShiftedClock
from .reasons import joined
from .stage import FAULT, HELD, REFUSED, UNHARMED, Row, S, Stage, stamp_ns

FLOOD = 300            # chunks
LOADED, STILL_LATCHED = 3.0, 0.5    # [s]
STEADY = 0.8           # of the setpoints, that must go out whatever the load
REST = 0.3             # [s] in which an arm at rest is looked at
RESTING = 0.005        # [rad] that it may creep in that time
NODE_SILENT = 1.0      # [s] after which the setpoint process stops an arm whose node hangs
CLOCK_JUMP = 0.3       # [s]

BUS_FAULTS = (
    ("silent", S.FAULT_DRIVER, ("does not answer",)),
    ("frozen", S.FAULT_STATE_FROZEN, ("repeat themselves",)),
    ("stale", S.FAULT_STATE_STALE, ("s old", "has stood for")),
    ("nan", S.FAULT_STATE_INVALID, ("not a number",)),
    ("jump", S.FAULT_STATE_INVALID, ("leapt",)),
)


class ControlRows:
    """Every row, in order. clock: that of the controller's processes."""

    def __init__(self, stage: Stage, policy: ScriptedPolicy, clock: ShiftedClock):
        self._stage, self._policy, self._clock = stage, policy, clock

    def rows(self) -> Iterator[Callable[[], Row]]:
        yield from (partial(self._spoilt, fault) for fault in FAULTS)
        yield from (self._duplicate, self._flood, self._loaded)
        for fault, code, named in BUS_FAULTS:
            yield partial(self._bus_fault, fault, code, named)
        yield self._stalled_bus
        yield partial(self._clock_jump, "forth", CLOCK_JUMP)
        yield partial(self._clock_jump, "back", -CLOCK_JUMP)
        yield from (self._hung_node, self._hung_setpoints, self._killed_controller)
        yield from (self._silence, self._another_process)

    def _row(
        self, fault: str, expected: str, seen: str, took: float | None, failed: str, cut_off: bool = False
    ) -> Row:
        broken = self._stage.broken(cut_off)
        why = joined(failed, broken)
        return Row(fault, expected, seen if took is not None else "nothing", took or 0.0, why)

    # --- chunks -------------------------------------------------------------------------------------------------------
    def _spoilt(self, fault: ChunkFault) -> Row:
        stage = self._stage
        before, chunk = stage.status.accepted_chunks, self._policy.sound()
        fault.spoil(chunk)
        self._policy.send(chunk)
        if fault.refusals:
            took = stage.wait(lambda: stage.status.last_refused_chunk_id == chunk.chunk_id)
            seen, wrong = stage.status.last_refusal_text, stage.status.last_refusal not in fault.refusals
            failed = f"expected a refusal of code {fault.refusals}" if took is None or wrong else ""
        else:
            took = stage.wait(lambda: stage.status.chunk_id == chunk.chunk_id)
            seen, failed = f"chunk {chunk.chunk_id} was followed", "" if took is not None else "it was not followed"
        going_on = stage.wait(lambda: stage.is_in(S.FOLLOWING) and stage.status.accepted_chunks > before)
        failed = failed or ("" if going_on is not None else "the arm did not go on with the next sound chunk")
        return self._row(fault.name, fault.expected, seen, took, failed)

    def _duplicate(self) -> Row:
        stage, chunk = self._stage, self._policy.sound()
        self._policy.send(chunk)
        if stage.wait(lambda: stage.status.chunk_id == chunk.chunk_id) is not None:
            self._policy.send(chunk)
        took = stage.wait(lambda: stage.status.last_refused_chunk_id == chunk.chunk_id)
        refused = took is not None and stage.status.last_refusal == S.REFUSAL_OLDER
        return self._row(
            "the same chunk twice", REFUSED, stage.status.last_refusal_text, took, "" if refused else "not refused"
        )

    def _flood(self) -> Row:
        stage, before = self._stage, self._stage.status
        for _ in range(FLOOD):
            self._policy.send(self._policy.sound())
            time.sleep(0.001)
        took = stage.wait(lambda: stage.is_in(S.FOLLOWING) and stage.status.accepted_chunks > before.accepted_chunks)
        missed = stage.status.missed_ticks - before.missed_ticks
        accepted = stage.status.accepted_chunks - before.accepted_chunks
        failed = "" if took is not None else "the arm does not follow any more"
        seen = f"{accepted} of {FLOOD} followed, {missed} ticks late"
        return self._row("a chunk every millisecond", UNHARMED, seen, took, failed)

    def _silence(self) -> Row:
        stage = self._stage
        self._policy.pause()
        took = stage.wait(lambda: stage.is_in(S.HOLDING))
        seen = stage.status.reason
        failed = "" if took is not None and "ran out of waypoints" in seen else "the arm does not hold and say why"
        self._policy.go_on()
        recovered = stage.follow()
        return self._row("the stream of chunks stops", HELD, seen, took, failed or recovered)

    def _another_process(self) -> Row:
        stage = self._stage
        self._policy.another_process()
        took = stage.wait(lambda: stage.status.last_refusal == S.REFUSAL_RESUME and stage.is_in(S.HOLDING))
        failed = "" if took is not None else "a new policy process was followed without an operator"
        seen = stage.status.last_refusal_text
        recovered = stage.follow()
        return self._row("another policy process", HELD, seen, took, failed or recovered)

    # --- machine ------------------------------------------------------------------------------------------------------
    def _loaded(self) -> Row:
        stage, before = self._stage, self._stage.status
        context = multiprocessing.get_context("spawn")
        load = [context.Process(target=busy, daemon=True) for _ in range(os.cpu_count() or 2)]
        for process in load:
            process.start()
        time.sleep(LOADED)
        for process in load:
            process.kill()
        ticks, missed = stage.status.ticks - before.ticks, stage.status.missed_ticks - before.missed_ticks
        failed = "" if stage.is_in(S.FOLLOWING) else f"the arm does not follow: {stage.status.reason}"
        if ticks < STEADY * LOADED * stage.contract.setpoint_hz:
            failed = failed or f"only {ticks} setpoints in {LOADED:g} s"
        seen = f"{missed} of {ticks} ticks late"
        # The world, which notes when setpoints come, starves too: a pause in its notes is no end of a motion.
        row = self._row("every core busy for 3 s", UNHARMED, seen, LOADED, failed, cut_off=True)
        return replace(row, failed=str(row.failed))    # lateness is what it is about, and no excuse

    def _clock_jump(self, way: str, seconds: float) -> Row:
        stage = self._stage
        self._clock.shift(seconds)
        took, seen, failed = self._fault(S.FAULT_CLOCK_JUMP, "ROS time jumped")
        self._clock.shift(0.0)
        # Until the setpoint process, too, has seen the clock set back: what its node says of it then is of later ticks.
        stage.wait(lambda: abs(stamp_ns(stage.status) / 1e9 - time.time()) < CLOCK_JUMP / 2)
        ticks = stage.status.ticks
        stage.wait(lambda: stage.status.ticks > ticks + 2)
        recovered = stage.arm_again()
        return self._row(f"the clock jumps {way} by {CLOCK_JUMP:g} s", FAULT, seen, took, failed or recovered)

    # --- feedback -----------------------------------------------------------------------------------------------------
    def _fault(self, code: int, *named: str) -> tuple[float | None, str, str]:
        """Waits for a fault, and sees that it stays: seconds, what was seen, why that is not as promised.
        named: words, one of which its text has."""
        stage = self._stage
        took = stage.wait(lambda: stage.status.state == S.FAULT)
        if took is None:
            return None, "nothing", "no fault was latched"
        seen = stage.status.fault_text
        if stage.status.fault_code != code or not any(words in seen for words in named):
            return took, seen, f"expected fault {code}, named {' or '.join(named)}"
        cleared = stage.wait(lambda: stage.status.state != S.FAULT, STILL_LATCHED)
        return took, seen, "the fault cleared itself" if cleared is not None else ""

    def _set_bus_fault(self, fault: str) -> str:
        """Returns why it could not be set."""
        return self._stage.set_parameter("world", "bus_fault", fault)

    def _bus_fault(self, fault: str, code: int, named: tuple[str, ...]) -> Row:
        began = time.monotonic()
        failed = self._set_bus_fault(fault)
        set_after = time.monotonic() - began
        took, seen, wrong = self._fault(code, *named)
        took = None if took is None else took + set_after
        recovered = self._set_bus_fault("ok") or self._stage.arm_again()
        cut_off = code == S.FAULT_DRIVER    # such a bus takes no goals either
        return self._row(f"joint states of the arm: {fault}", FAULT, seen, took, failed or wrong or recovered, cut_off)

    def _stalled_bus(self) -> Row:
        """The world stands still: the servo bus does not answer, and its arm does not move either."""
        stage = self._stage
        stage.signal("world", signal.SIGSTOP, whole=True)
        took, seen, failed = self._fault(S.FAULT_DRIVER, "does not answer")
        failed = failed or stage.broken(cut_off=True)
        stage.signal("world", signal.SIGCONT, whole=True)
        stage.witness.look_anew()    # what was written meanwhile arrives now, at no time of its own
        recovered = stage.arm_again()
        return self._row("the servo bus stalls", FAULT, seen, took, failed or recovered)

    # --- the controller's processes -----------------------------------------------------------------------------------
    @contextmanager
    def _stopped(self, pid: int) -> Iterator[None]:
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _rests(self, after: float = 0.0) -> float | None:
        """Seconds until the arm is seen to be at rest, whatever its controller says. after: no sooner than this [s]."""
        began = time.monotonic()
        return self._stage.wait(
            lambda: time.monotonic() - began > after + REST and self._stage.witness.moved(REST) < RESTING
        )

    def _hung_node(self) -> Row:
        stage = self._stage
        with self._stopped(stage.running.pid("arm_controller")):
            took = self._rests(NODE_SILENT)
            self._policy.pause()
            time.sleep(stage.contract.max_observation_age)    # what waits for the node is too old when it goes on
        failed = "" if took is not None else "the arm does not come to rest"
        named = stage.wait(lambda: stage.silent < 0.3 and stage.is_in(S.HOLDING))
        seen = stage.status.reason
        if named is None or not ("silent" in seen or "ran out" in seen):
            failed = failed or "the controller does not say why it holds"
        self._policy.go_on()
        recovered = stage.follow()
        return self._row("the controller's node hangs", HELD, seen, took, failed or recovered)

    def _setpoint_process(self) -> int:
        """The one child of the controller that is not multiprocessing's own tracker."""
        node = self._stage.running.pid("arm_controller")
        children = Path(f"/proc/{node}/task/{node}/children").read_text().split()
        return next(int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes())

    def _hung_setpoints(self) -> Row:
        stage = self._stage
        with self._stopped(self._setpoint_process()):
            silent = stage.wait(lambda: stage.silent > 1.0)
            took = self._rests()
        failed = "" if silent is not None else "the node went on telling what the hung process had said"
        failed = failed or ("" if took is not None else "the arm does not come to rest")
        _, seen, wrong = self._fault(S.FAULT_TIMER, "late")
        recovered = stage.arm_again()
        return self._row("the setpoint process hangs", FAULT, seen, took, failed or wrong or recovered, cut_off=True)

    def _killed_controller(self) -> Row:
        stage = self._stage
        stage.signal("arm_controller", signal.SIGKILL)
        stage.wait(lambda: stage.silent > 1.0)
        took = self._rests()
        failed = "" if took is not None else "the arm does not come to rest"
        stage.start("arm_controller")
        stage.wait(lambda: stage.silent < 0.3)
        seen = f"begins anew {stage.status.reason!r}"
        refused = stage.wait(lambda: stage.status.last_refusal == S.REFUSAL_STATE)
        if refused is None or stage.status.state != S.DISARMED:
            failed = failed or "a controller that was started anew is not disarmed"
        recovered = stage.arm_again()
        return self._row("the controller is killed", HELD, seen, took, failed or recovered)
