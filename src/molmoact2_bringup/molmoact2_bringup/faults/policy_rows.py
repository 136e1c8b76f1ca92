# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of cameras, of joint states and of processes, with the real policy behind relays."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from molmoact2_msgs.msg import ReasoningTrace

from . import spoil
from .reasons import joined
from .relay import JOINTS, Relays, Spoil
from .stage import HELD, UNHARMED, Row, S, Stage

LATE = 1.2             # [s]; more than an observation may be old
BACK_WITHIN = 30.0     # [s] for a process that was started anew
LOOKED_AT_ANEW = 60    # of 100 cells, that a camera which shakes or fades must have refreshed


@dataclass(frozen=True)
class SensorFault:
    """One fault of a sensor, at which the policy is to stop. begin: switches it on; named: words of
    PolicyStatus.withheld, one of which is expected; whose: the sensor, which must be named as well."""

    name: str
    begin: Callable[[Relays], None]
    whose: str
    named: tuple[str, ...]


def _sensor(topic: str) -> str:
    """The camera's namespace, which stands in every word of it."""
    return topic.split("/")[0]


class PolicyRows:
    """Every row, in order. main, second: topics of the main camera and of another."""

    def __init__(self, stage: Stage, relays: Relays, main: str, second: str):
        self._stage, self._relays, self._main, self._second = stage, relays, main, second

    def rows(self) -> Iterator[Callable[[], Row]]:
        yield from (partial(self._withheld, fault) for fault in self._sensor_faults())
        yield self._frozen_joints
        yield partial(self._noticed, "a camera fades", spoil.fade())
        yield partial(self._noticed, "a camera shakes", spoil.shake())
        yield self._unordered
        yield from (self._killed_cameras, self._hung_policy, self._killed_policy)

    def _sensor_faults(self) -> Iterator[SensorFault]:
        def camera(name: str, make: Spoil, *named: str, topic: str = self._main) -> SensorFault:
            return SensorFault(f"a camera {name}", lambda relays: relays.spoil(topic, make), _sensor(topic), named)

        def joints(name: str, make: Spoil, *named: str) -> SensorFault:
            return SensorFault(f"joint states {name}", lambda relays: relays.spoil(JOINTS, make), "joint", named)

        main, second = self._main, self._second
        yield camera("is black", spoil.filled(0), "is black")
        yield camera("is saturated", spoil.filled(255), "is saturated")
        yield camera("repeats one frame under fresh stamps", spoil.frozen_image(), "is frozen", topic=second)
        yield camera("repeats one stamp", spoil.frozen_stamp(), "no stamp within")
        yield camera("drops out", spoil.dropped, "no stamp within", "nothing has come")
        late, swapped = (lambda r: r.hold_back(main, LATE)), (lambda r: r.exchange(main, second))
        yield SensorFault(f"a camera is late by {LATE:g} s", late, _sensor(main), ("no stamp within", "s old"))
        yield SensorFault("two cameras are swapped", swapped, _sensor(main), ("its frame is",))
        yield camera("changes its size", spoil.half_size, "pixels, it sent")
        yield camera("changes its encoding", spoil.unknown_encoding, spoil.NOBODY_KNOWS)
        yield joints("leap", spoil.leapt, "by its controller")
        yield joints("are not numbers", spoil.not_a_number, "is not a number")
        yield joints("stop", spoil.dropped, "no stamp within", "nothing has come")

    # --- rows ---------------------------------------------------------------------------------------------------------
    def _row(self, fault: str, expected: str, seen: str, took: float | None, failed: str) -> Row:
        broken = self._stage.broken()
        why = joined(failed, broken)
        return Row(fault, expected, seen if took is not None else "nothing", took or 0.0, why)

    def _follows(self) -> str:
        """Until sound chunks are followed, with an operator where one is asked for; returns why they are not."""
        return self._stage.follow(lambda: not self._stage.policy.withheld)

    def _withheld(self, fault: SensorFault) -> Row:
        """The policy stops and says why, and the arm comes to rest."""
        stage = self._stage
        failed = self._follows()
        fault.begin(self._relays)

        def named() -> bool:
            withheld = stage.policy.withheld
            return fault.whose in withheld and any(words in withheld for words in fault.named)

        took = stage.wait(named)
        seen = stage.policy.withheld
        if took is None:
            failed = failed or f"the policy does not name it; it says {seen!r}"
        elif stage.wait(lambda: stage.is_in(S.HOLDING)) is None:
            failed = failed or "the arm does not come to rest"
        self._relays.sound()
        return self._row(fault.name, HELD, seen, took, failed or self._follows())

    def _moves(self, verb: str) -> str:
        """Until the arm moves by itself; returns why it does not."""
        failed = self._stage.operate(verb)
        moving = self._stage.wait(lambda: not self._stage.is_in(S.HOLDING))
        return failed or ("" if moving is not None else f"{verb}: the arm does not move")

    def _frozen_joints(self) -> Row:
        """While an operator moves the arm: with a policy that sees no motion, the arm would soon stand still itself."""
        stage = self._stage
        failed = self._follows() or stage.operate("stop")
        stage.wait(lambda: stage.is_in(S.HOLDING))
        self._relays.spoil(JOINTS, spoil.frozen_joints())
        failed = failed or self._moves("park")
        took = stage.wait(lambda: "repeat themselves" in stage.policy.withheld)
        seen = stage.policy.withheld
        failed = failed or ("" if took is not None else f"the policy does not name it; it says {seen!r}")
        self._relays.sound()
        stage.wait(lambda: stage.is_in(S.HOLDING))
        failed = failed or self._moves("home")
        stage.wait(lambda: stage.is_in(S.HOLDING))
        failed = failed or stage.operate("resume")
        return self._row("joint states repeat themselves", HELD, seen, took, failed or self._follows())

    def _noticed(self, name: str, make: Spoil) -> Row:
        """The depth cache looks at (nearly) everything anew, and the arm goes on."""
        stage = self._stage
        failed = self._follows()
        self._relays.spoil(self._main, make)

        def looked_anew() -> bool:
            trace = stage.trace
            forced = trace.depth_mode == ReasoningTrace.DEPTH_FORCED and trace.cause != "first_call"
            return forced or sum(trace.refreshed) >= LOOKED_AT_ANEW

        before = stage.trace
        took = stage.wait(lambda: stage.trace is not before and looked_anew())
        trace = stage.trace
        seen = f"{sum(trace.refreshed)} of {len(trace.refreshed)} cells refreshed, cause {trace.cause or 'none needed'}"
        self._relays.sound()
        failed = failed or ("" if took is not None else "the depth cache did not notice")
        return self._row(name, UNHARMED, seen, took, failed or self._follows())

    def _unordered(self) -> Row:
        stage = self._stage
        failed = self._follows()
        self._relays.spoil(JOINTS, spoil.unordered)
        before = stage.status.accepted_chunks
        took = stage.wait(lambda: stage.status.accepted_chunks > before + 3)
        seen = f"{stage.status.accepted_chunks - before} chunks followed"
        failed = failed or ("" if took is not None else f"the policy stops: {stage.policy.withheld}")
        self._relays.sound()
        return self._row("joint states in another order", UNHARMED, seen, took, failed)

    # --- processes ----------------------------------------------------------------------------------------------------
    def _killed_cameras(self) -> Row:
        stage = self._stage
        failed = self._follows()
        stage.signal("cameras", signal.SIGKILL)
        took = stage.wait(lambda: bool(stage.policy.withheld) and stage.is_in(S.HOLDING))
        seen = stage.policy.withheld
        if took is None or _sensor(self._main) not in seen:
            failed = failed or "the policy does not name the cameras"
        stage.start("cameras")
        return self._row("the cameras' process is killed", HELD, seen, took, failed or self._follows())

    def _hung_policy(self) -> Row:
        stage = self._stage
        failed = self._follows()
        stage.signal("policy", signal.SIGSTOP, whole=True)
        took = stage.wait(lambda: stage.is_in(S.HOLDING) and "the policy has been silent" in stage.status.reason)
        seen = stage.status.reason
        time.sleep(stage.contract.resume_within)    # longer than the same episode may go on by itself
        stage.signal("policy", signal.SIGCONT, whole=True)
        failed = failed or ("" if took is not None else "the controller does not name it")
        failed = failed or self._resumes_only_by_an_operator()
        return self._row("the policy hangs", HELD, seen, took, failed)

    def _resumes_only_by_an_operator(self) -> str:
        """What the policy sends now is refused until an operator resumes; returns why that is not so."""
        stage = self._stage
        refused = stage.status.last_refused_chunk_id
        asked = stage.wait(
            lambda: stage.status.last_refusal == S.REFUSAL_RESUME and stage.status.last_refused_chunk_id != refused,
            BACK_WITHIN,
        )
        if asked is None or not stage.is_in(S.HOLDING):
            return f"it went on without an operator, or not at all: {stage.status.reason}"
        return self._follows()

    def _killed_policy(self) -> Row:
        stage = self._stage
        failed = self._follows()
        stage.signal("policy", signal.SIGKILL)
        took = stage.wait(lambda: stage.is_in(S.HOLDING) and "the policy has been silent" in stage.status.reason)
        seen = stage.status.reason
        failed = failed or ("" if took is not None else "the controller does not name it")
        stage.start("policy")
        stage.must_be_alone()
        stage.running.bring_up()
        failed = failed or self._resumes_only_by_an_operator()
        return self._row("the policy is killed and started anew", HELD, seen, took, failed)

