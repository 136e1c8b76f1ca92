# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The setpoint process: the controller and its driver, alone in a process with one thread. No ROS here.

Whatever happens in the node (publishing, logging, discovery, another thread that holds Python's lock) happens in
another process. The two talk over a socket pair of whole packets that nobody waits on: the loop takes what has come
before each tick, and drops what the node is too slow to read.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from molmoact2_contract import Arm, Contract

from .chunk import Chunk
from .clock import both_clocks
from .controller import ArmController
from .controller_state import Fault, Refused, State
from .driver import ArmDriver, DriverError
from .health import Health, ask
from .operating import Operator
from .peers import PeerStatus
from .snapshot import Snapshot, snapshot_of

PACKET = 1 << 18            # [bytes]; the largest message
PRIORITY = 50               # of the real-time class FIFO, where it is permitted
MCL_CURRENT_AND_FUTURE = 3  # mlockall(2)
MOST_REQUESTS = 256         # a tick; only chunks take long
MOST_CHUNKS = 8             # that wait; where more come, the oldest are forgotten
CHUNK_SHARE = 0.3           # of a period, for checking and joining chunks; one takes two milliseconds, seldom nine
STOP_PATIENCE = 3.0         # [s] to come to rest at the end
NODE_SILENT = 1.0           # [s]; the node says ten times a second that it is there
HEALTH_PERIOD = 1.0         # [s] between two questions to the driver for its readings


@dataclass(frozen=True)
class Settings:
    """What the process is made of. driver: made and not connected yet; peers: the other arms that must be well."""

    contract: Contract
    arm: Arm
    driver: ArmDriver
    shadow: bool
    auto_arm: bool
    peers: tuple[str, ...]
    joining: str
    when_late: str


@dataclass(frozen=True)
class Ready:
    """The driver is connected and the loop runs. privileges: what the loop did not get, in words; empty: all of it."""

    privileges: str


@dataclass(frozen=True)
class Failed:
    """The driver could not be connected."""

    text: str


@dataclass(frozen=True)
class Request:
    """From the node: a method of Core, by name; where `number` is not 0, an Answer with it is expected. valid_until:
    steady-clock time after which it is not done any more [s]; 0: always."""

    method: str
    arguments: tuple[Any, ...]
    number: int = 0
    valid_until: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What an operator's request came to."""

    number: int
    done: bool
    text: str


class Core:
    """What the node may ask of the controller. Times are read here, on this process's clocks."""

    def __init__(self, controller: ArmController):
        self.controller = controller
        self._operator = Operator(controller, both_clocks)
        self._heard = time.monotonic()    # when the node last said anything
        self.operated = False             # an operator has asked for anything
        self.ending = False               # the node has said that it ends; one that goes without a word has died
        self._chunks: deque[Request] = deque(maxlen=MOST_CHUNKS)

    # --- methods that a Request may name ------------------------------------------------------------------------------
    def alive(self) -> str:
        """The node is there."""
        return ""

    def end(self) -> str:
        """The node ends, and this process is to."""
        self.ending = True
        return ""

    def chunk(self, chunk: Chunk) -> str:
        self.controller.accept(chunk, time.monotonic(), time.time())
        return ""

    def policy(self, process_id: str, episode_id: str) -> str:
        self.controller.hear_policy(process_id, episode_id, time.monotonic())
        return ""

    def peer(self, arm: str, state: int, fault_text: str, refused: int, refused_id: int, waits: bool) -> str:
        known = state in State.__members__.values()
        text = fault_text if known else f"its state {state} is unknown"
        status = PeerStatus(State(state) if known else State.FAULT, text, refused, refused_id, waits)
        self.controller.hear_peer(arm, status, time.monotonic())
        return ""

    def operate(self, verb: str) -> str:
        """Returns the reason of the new state. Errors: Refused."""
        operator = self._operator
        verbs: dict[str, Callable[[], None]] = {
            "arm": operator.arm,
            "disarm": operator.disarm,
            "stop": operator.stop,
            "pause": operator.pause,
            "resume": operator.resume,
            "hand_guide": operator.hand_guide,
            "home": operator.home,
            "park": operator.park,
            "clear_fault": operator.clear_fault,
        }
        self.operated = True
        verbs[verb]()
        return self.controller.state.reason

    # --- the loop's side ----------------------------------------------------------------------------------------------
    def arm(self) -> None:
        """Errors: Refused."""
        self._operator.arm()

    def take(self, node: socket.socket) -> bool:
        """Does what the node has asked for; returns False where it has closed its end.

        What an operator asks for never waits behind chunks, of which only the newest few are kept; checking and joining
        takes a share of the period.
        """
        for _ in range(MOST_REQUESTS):
            try:
                packet = node.recv(PACKET)
            except BlockingIOError:
                break
            except OSError:
                return False
            if not packet:
                return False
            self._heard = time.monotonic()
            try:
                request = pickle.loads(packet)
            except Exception as error:    # a defect of ours, e.g. a packet that was cut off
                self.failed(error)
                continue
            if request.method == "chunk":
                self._chunks.append(request)
            else:
                self._do(request, node)
        until = time.monotonic() + CHUNK_SHARE * self.controller.period
        while self._chunks and time.monotonic() < until:
            self._do(self._chunks.popleft(), node)
        return True

    def _do(self, request: Request, node: socket.socket) -> None:
        if request.valid_until and time.monotonic() > request.valid_until:
            return    # whoever asked was told that there was no answer
        try:
            done, text = True, getattr(self, request.method)(*request.arguments)
        except Refused as refused:
            done, text = False, str(refused)
        except Exception as error:    # a defect of ours: the arm ramps down, the loop goes on
            done, text = False, self.failed(error)
        if request.number:
            send(node, Answer(request.number, done, text))

    def watch_node(self) -> None:
        """Without its node nobody can stop the arm, so it does not go on moving."""
        silent = time.monotonic() - self._heard
        if silent > NODE_SILENT and self.controller.state.state == State.FOLLOWING:
            self.controller.state.stop(f"the node has been silent for {silent:.1f} s, and nobody could stop the arm")

    def abandoned(self) -> None:
        """The node has died: what moves comes to rest, and an arm in a person's hand is held where it is."""
        with contextlib.suppress(Refused):
            self._operator.stop("the node of this controller has died")

    def tick(self) -> None:
        try:
            self.watch_node()
            self.controller.tick(*both_clocks())
        except Exception as error:    # a defect of ours: nobody knows what to send, so nothing is sent
            self.failed(error)
            self.controller.let_go()

    def failed(self, error: Exception) -> str:
        """Latches a defect of ours as a fault; returns it in words."""
        text = f"the controller failed in itself: {error!r}"
        self.controller.fail(Fault.INTERNAL, text)
        return text


def run(settings: Settings, node: socket.socket) -> None:
    """The process: connects the driver, then ticks until the node closes its end, and leaves the arm at rest. Where the
    node died and the arm would fall it goes on, until it is told to end."""
    # A terminal's Ctrl-C, or its end, reaches the node, which closes the socket when it is ready to.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    node.setblocking(False)
    controller = ArmController(
        settings.contract,
        settings.arm,
        settings.driver,
        shadow=settings.shadow,
        peers=settings.peers,
        joining=settings.joining,
        when_late=settings.when_late,
    )
    try:
        settings.driver.connect()
    except DriverError as error:
        send(node, Failed(str(error)))
        return
    send(node, Ready(take_privileges()))
    core = Core(controller)
    try:
        _loop(core, settings.driver, settings.auto_arm, node)
        if not core.ending and settings.driver.falls:
            _hold_on(core, settings.driver, settings.arm.name)
    finally:
        try:
            _come_to_rest(core, node)
        finally:
            settings.driver.close()


def _loop(core: Core, driver: ArmDriver, auto_arm: bool, node: socket.socket) -> None:
    """On absolute deadlines; a late tick is not made up for."""
    period = core.controller.period
    due, last, worst, told = time.monotonic(), time.monotonic(), 0.0, ""
    health_due = due
    while True:
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        now = time.monotonic()
        last, worst = now, max(worst, now - last - period)
        if not core.take(node):
            return
        core.tick()
        if auto_arm:
            auto_arm, told = _try_arm(core, node, told)
        _tell(core, worst, node)
        # After the setpoint, in what is left of the period; dropped where the node is slow, like all that it is told.
        if now >= health_due:
            health_due = now + HEALTH_PERIOD
            send(node, ask(driver))
        due = max(due + period, time.monotonic())


def _hold_on(core: Core, driver: ArmDriver, arm: str) -> None:
    """Until SIGTERM or SIGINT, or until the arm would not fall any more, e.g. because its bus is gone. A terminal that
    is closed (SIGHUP) lets no arm fall."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: told.append(received))
    core.abandoned()
    pid = os.getpid()
    _complain(
        f"error: the node of arm {arm!r} has died, and nothing reaches its controller any more. Process {pid} goes on "
        f"holding the arm, which would fall. Support the arm, then end the process: kill {pid}"
    )
    while driver.falls and not told:
        time.sleep(core.controller.period)
        core.tick()
    _complain(f"process {pid} lets go of arm {arm!r}" + ("" if told else ", which is not held by its motors any more"))


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):    # whoever read it may be gone too
        print(text, file=sys.stderr, flush=True)


def _tell(core: Core, worst: float, node: socket.socket) -> None:
    try:
        send(node, snapshot_of(core.controller, worst))
    except Exception as error:    # a defect of ours must not end the loop
        core.failed(error)


def _try_arm(core: Core, node: socket.socket, told: str) -> tuple[bool, str]:
    """Arms a simulated arm as soon as that may be, once; returns whether it is still to be armed, and why."""
    if core.operated or core.controller.state.state != State.DISARMED:
        return False, told    # from now on an operator has to do with it
    try:
        unwell = core.controller.peer_error()    # e.g. before the other arm's controller was heard
        if unwell:
            raise Refused(unwell)
        core.arm()
    except Refused as refused:
        if str(refused) != told:
            send(node, Answer(0, False, f"auto_arm waits: {refused}"))
        return True, str(refused)
    return False, ""


def _come_to_rest(core: Core, node: socket.socket) -> None:
    controller = core.controller
    if controller.state.state == State.FOLLOWING:
        controller.state.stop("the controller is being ended")
    deadline = time.monotonic() + STOP_PATIENCE
    while not controller.at_rest and time.monotonic() < deadline:
        time.sleep(controller.period)
        core.tick()
        _tell(core, 0.0, node)


def send(other: socket.socket, message: Any) -> bool:
    """Sends one message if it can go at once; returns whether it went. The other side may be slow, or gone, and a
    message may be too large."""
    packet = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    if len(packet) > PACKET:
        return False
    try:
        other.send(packet, socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True


def receive(other: socket.socket, timeout: float | None) -> Ready | Failed | Answer | Snapshot | Health | None:
    """The next message; None where none came in time. Errors: EOFError where the other side has closed."""
    if timeout is not None and not select.select([other], [], [], timeout)[0]:
        return None
    try:
        packet = other.recv(PACKET)
    except OSError:
        packet = b""
    if not packet:
        raise EOFError
    return pickle.loads(packet)


def take_privileges(priority: int = PRIORITY) -> str:
    """Makes the process as steady as it may be: garbage collection off the ticks, memory locked, real-time priority.

    priority: of the calling thread, and of those it starts later. Returns what was not permitted, in words; empty where
    all was.
    """
    # What is alive now stays alive, and a tick makes no cycles: there is nothing to collect.
    gc.collect()
    gc.freeze()
    gc.disable()
    missing = []
    if ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT_AND_FUTURE) != 0:
        missing.append(f"memory is not locked ({os.strerror(ctypes.get_errno())})")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        missing.append(f"no real-time priority ({error.strerror})")
    return "; ".join(missing)
