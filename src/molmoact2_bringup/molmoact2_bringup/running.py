# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One running system: its processes, its lifecycles, and a node that watches the arms while it runs."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from molmoact2_contract import Process, System
from molmoact2_contract.qos import STATUS
from molmoact2_contract.stop_flag import StopFlag
from molmoact2_msgs.msg import ControllerStatus

from .holding import RestWatch, lost, may_fall, stop_arm, what_next
from .lifecycle import ACTIVATE, CONFIGURE, BringUpError, bring_up
from .processes import Exit, Processes
from .starting import command_of, executable

STATES = {
    ControllerStatus.DISARMED: "disarmed",
    ControllerStatus.HOLDING: "holding",
    ControllerStatus.FOLLOWING: "following",
    ControllerStatus.STOPPING: "stopping",
    ControllerStatus.FAULT: "in fault",
}
SPUN_WITHIN = 10.0    # [s]
SILENT = 0.5    # [s]; a controller states itself ten times a second
Value = TypeVar("Value")
ARMED = (ControllerStatus.HOLDING, ControllerStatus.FOLLOWING, ControllerStatus.STOPPING)
AT_REST = (ControllerStatus.DISARMED, ControllerStatus.HOLDING, ControllerStatus.FAULT)


class Stopped(Exception):
    """A stop was asked for while the system was being brought up."""


class SystemEnded(RuntimeError):
    """A process of the system ended by itself."""

    def __init__(self, exit_: Exit, arms: str):
        super().__init__(f"{exit_}; {arms}" if arms else str(exit_))
        self.exit = exit_


class RunningSystem:
    """A system that runs while the context is open. Enter it from the main thread.

    SIGINT and SIGTERM ask it to end (`stopping` is set); leaving the context ends every process in order. Where real
    arms were armed, it first holds them until somebody there has parked them (`holding`): after an error all of them,
    else those that would fall. environments: variables of single processes, by name. died: processes that had ended by
    themselves before the others were ended.
    """

    def __init__(
        self,
        system: System,
        write_line: Callable[[str], None] | None = None,
        environments: Mapping[str, Mapping[str, str]] | None = None,
    ):
        self.system, self._environments = system, environments or {}
        self.stopping = StopFlag()
        self.statuses: dict[str, ControllerStatus] = {}
        self._heard: dict[str, float] = {}
        self._armed: set[str] = set()    # arms that were moved, or could have been
        self._terminated = False
        self.unclean: list[Exit] = []
        self.died: list[Exit] = []
        self._say = write_line or (lambda line: print(line, flush=True))
        self._processes = Processes(write_line)
        self._folder = tempfile.TemporaryDirectory(prefix="molmoact2-")
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> RunningSystem:
        for process in self.system.processes:
            executable(process)    # before any is started
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("molmoact2_up")
        for arm in self.system.contract.arms:
            self.node.create_subscription(ControllerStatus, f"{arm}/status", partial(self._on_status, arm), STATUS)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._spinner = threading.Thread(target=self._spin, name="up-spin", daemon=True)
        self._spinner.start()
        try:
            for process in self.system.processes:
                self.start(process.name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None or isinstance(error, Stopped):
                self._leave_in_order()
            elif isinstance(error, Exception):
                self._hold_on(str(error))
        finally:
            self.died = self.ended
            self.close()

    def _leave_in_order(self) -> None:
        try:
            self._hold_until_parked()
        except Exception as failure:    # it is no reason to let an arm down
            self._hold_on(repr(failure))
            raise
        self._say("[up] stopping")

    def start(self, name: str) -> None:
        """Starts a process of the system, also one that has ended, from the main thread. A lifecycle node is not
        brought up yet."""
        command = command_of(self.system.process(name), Path(self._folder.name))
        self._processes.start(name, command, dict(self._environments.get(name, {})))

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._terminated = self._terminated or number == signal.SIGTERM
        self.stopping.set()

    def _on_status(self, arm: str, message: ControllerStatus) -> None:
        self.statuses[arm], self._heard[arm] = message, time.monotonic()
        # An arm whose controller another system has started is that system's to hold.
        if message.state in ARMED and not message.shadow and arm in self.system.controllers:
            self._armed.add(arm)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def spun(self, call: Callable[[], Value]) -> Value:
        """What a call gives that is made in the thread that spins. Every request of an action client is made so: rclpy
        notes it down after it is sent, and drops an answer that another thread takes before."""
        task, done = self._executor.create_task(call), threading.Event()
        task.add_done_callback(lambda _: done.set())
        if not done.wait(SPUN_WITHIN):
            raise BringUpError(f"the thread that spins does nothing (waited {SPUN_WITHIN:g} s)")
        return task.result()

    def pid(self, name: str) -> int:
        """Process id of a process, by its name in the system file."""
        return self._processes.pid(name)

    @property
    def ended(self) -> list[Exit]:
        """Processes that have ended by themselves so far, in starting order."""
        return self._processes.all_ended()

    def bring_up(self) -> None:
        """Configures and activates the lifecycle nodes, in the order of the system file.

        Errors: BringUpError; SystemEnded when a process dies meanwhile, Stopped when a stop is asked for.
        """
        self.configure()
        self.activate()

    def configure(self) -> None:
        """The first half of bring_up: nothing moves by it. Errors: as there."""
        for process in self.system.processes:
            if process.lifecycle:
                self._say(f"[up] configuring {process.name}")
                self._take(process, CONFIGURE)

    def activate(self) -> None:
        """The second half. Errors: as of bring_up."""
        for process in self.system.processes:
            if process.lifecycle:
                self._take(process, ACTIVATE)
                self._say(f"[up] {process.name} is active")

    def _take(self, process: Process, step: Any) -> None:
        try:
            bring_up(self.node, process.name, self._reason_to_give_up, [step])
        except BringUpError:
            if self.stopping.is_set():
                raise Stopped from None
            ended = self._processes.ended()
            if ended is not None:
                raise SystemEnded(ended, self.wait_for_rest()) from None
            raise

    def _reason_to_give_up(self) -> str | None:
        if self.stopping.is_set():
            return "a stop was asked for"
        ended = self._processes.ended()
        return str(ended) if ended else None

    def wait(
        self, seconds: float | None = None, on_tick: Callable[[], None] | None = None, period: float = 0.1
    ) -> None:
        """Returns when the time is over or a stop was asked for. Errors: SystemEnded when a process ends by itself,
        after the arms came to rest."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.stopping.is_set() and (deadline is None or time.monotonic() < deadline):
            ended = self._processes.ended()
            if ended is not None:
                self._say(f"[up] {ended}; waiting for the arms to come to rest")
                self._stop_arms()
                raise SystemEnded(ended, self.wait_for_rest())
            if on_tick is not None:
                on_tick()
            self.stopping.wait(period)

    def wait_for_rest(self, patience: float = 5.0) -> str:
        """Waits until no arm moves or its controller is silent; returns what each controller says, in words."""
        deadline = time.monotonic() + patience
        arms = {p.parameters.get("arm") for p in self.system.processes if "arm" in p.parameters}
        while time.monotonic() < deadline:
            moving = [
                a for a in arms
                if a in self.statuses and not self._silent(a) and self.statuses[a].state not in AT_REST
            ]
            if not moving:
                break
            time.sleep(0.05)
        return "; ".join(self._words(arm) for arm in sorted(self.statuses))

    def _silent(self, arm: str) -> bool:
        return time.monotonic() - self._heard[arm] > SILENT

    def _words(self, arm: str) -> str:
        status = self.statuses[arm]
        words = f"{STATES[status.state]}: {status.fault_text or status.reason}"
        if self._silent(arm):
            return f"arm {arm!r}: its controller is silent; it said last that it was {words}"
        return f"arm {arm!r} is {words}"

    def _dead(self) -> set[str]:
        """Armed arms whose controllers have ended."""
        ended = {exit_.name for exit_ in self.ended}
        return {arm for arm, p in self.system.controllers.items() if p.name in ended and arm in self._armed}

    def _stop_arms(self, own_moves: bool = True) -> None:
        """Real arms follow nothing any more; one in a person's hand stays there, and follows nothing either. own_moves:
        also those that are on their operator's way, e.g. to be parked."""
        if self.system.simulation:
            return
        for arm in sorted(self._armed - self._dead()):
            status = self.statuses[arm]
            own = status.state == ControllerStatus.FOLLOWING and status.chunk_id == 0
            if self._silent(arm):
                refusal = f"{self._words(arm)}; nobody can stop it from here"
            elif status.state not in ARMED or status.guided or (own and not own_moves):
                continue
            else:
                try:
                    refusal = stop_arm(self.node, arm, self.spun)
                except Exception as error:    # the other arms are to be stopped all the same
                    refusal = f"arm {arm!r} was not stopped: {error}"
            if refusal:
                self._alarm([f"error: {refusal}; be ready to press the emergency stop"])

    def _hold_on(self, failure: str) -> None:
        """Returns when everything may be ended: the arms are parked and Ctrl-C was pressed, or Ctrl-C twice, or SIGTERM
        came; at once where no real arm has been armed."""
        if self.system.simulation or not self._armed or self._terminated:
            return
        told: set[str] = set()
        try:
            self._stop_arms()
            self._news(told)
            dead = self._dead()
            faulted = [arm for arm in self._armed if self.statuses[arm].state == ControllerStatus.FAULT]
            held = self._armed - dead
            self._alarm(what_next(failure, self.system.contract, held, dead=dead, faulted=faulted))
        except Exception as error:
            self._alarm([
                f"error: {failure}", f"error: {error!r} on holding the arms; be ready to press the emergency stop",
                "Nothing is ended yet: park the arms (`molmoact2 operate park`), then Ctrl-C; twice ends all at once.",
            ])
        self._until_parked(self._armed, told, asked=False)

    def _hold_until_parked(self) -> None:
        """For an end in order: returns when no real arm that was armed would fall by it, or at a (further) Ctrl-C, or
        SIGTERM."""
        if self.system.simulation or self._terminated:
            return
        controllers, contract = self.system.controllers, self.system.contract
        falling = {arm for arm in self._armed - self._dead() if may_fall(contract, controllers[arm])}
        if falling:
            self._stop_arms(own_moves=False)
            told: set[str] = set()
            self._news(told)
            self._until_parked(falling, told, asked=True)

    def _until_parked(self, arms: set[str], told: set[str], asked: bool) -> None:
        """What goes wrong meanwhile is said, and is no reason to end. told: news that are known; asked: the end was
        asked for once already."""
        rest = None
        try:
            rest = self.spun(lambda: RestWatch(self.node, self.system.contract))
            rest.listen(arms - self._dead())
        except Exception as error:
            self._alarm([f"error: {error!r}: whether the arms are parked is not known here; look at them"])
        if asked:
            away = self._away(rest, arms)
            if not away:
                return
            disarmed = any(self.statuses[arm].state == ControllerStatus.DISARMED for arm in arms)
            way = "`molmoact2 operate arm`, then `molmoact2 operate park`" if disarmed else "`molmoact2 operate park`"
            self.stopping.clear()    # before it is said, so that no Ctrl-C that follows is lost
            self._alarm([*self._waiting(away), f"[up] Park it: {way}. Ctrl-C ends all at once."])
        while not self._terminated:
            self._alarm(self._news(told))
            if self.stopping.wait(0.1):
                self.stopping.clear()
                if asked:
                    break
                asked = True
                self._alarm(self._waiting(self._away(rest, arms)))
            if asked and not self._away(rest, arms):
                break
        self._alarm(["[up] ending"])

    @staticmethod
    def _waiting(away: list[str]) -> list[str]:
        return [f"[up] {text}; waiting until it is parked" for text in away]

    def _news(self, told: set[str]) -> list[str]:
        """Processes that have ended and arms that are in fault, of which it was not told before."""
        try:
            lines = [f"error: {exit_} as well" for exit_ in self.ended]
            lines += [lost(arm) for arm in sorted(self._dead())]
            for arm in sorted(self._armed - self._dead()):
                if self.statuses[arm].state == ControllerStatus.FAULT:
                    lines.append(f"error: {self._words(arm)}; before `park` it takes `clear_fault`, then `arm`")
        except Exception as error:
            lines = [f"error: {error!r}: what else ends or fails is not known here"]
        fresh = [line for line in lines if line not in told]
        told.update(fresh)
        return fresh

    def _away(self, rest: RestWatch | None, arms: set[str]) -> list[str]:
        """Which of these arms do not lie parked, and why, in words; without those whose controllers have ended."""
        found = []
        for arm in sorted(arms - self._dead()):
            try:
                moves = not self._silent(arm) and self.statuses[arm].state not in AT_REST
                away = rest.away(arm) if rest is not None else f"nobody knows where arm {arm!r} is"
                found.append(away or (f"arm {arm!r} is moving" if moves else ""))
            except Exception as error:
                found.append(f"whether arm {arm!r} is parked is not known: {error!r}")
        return list(filter(None, found))

    @staticmethod
    def _alarm(lines: list[str]) -> None:
        """Said where it is seen, wherever else lines go; where nobody is left to read it, the arms are held on."""
        for line in lines:
            with contextlib.suppress(OSError):
                print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends every process, last started first, and leaves the ROS graph."""
        self.unclean = self._processes.end_all()
        self._executor.shutdown()
        self._spinner.join(2.0)
        self.node.destroy_node()
        rclpy.try_shutdown()
        self._folder.cleanup()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
