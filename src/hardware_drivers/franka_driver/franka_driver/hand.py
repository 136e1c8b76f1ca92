# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The Franka Hand, in a thread of its own: its calls block for as long as the fingers move.

It opens and closes, with a band between in which it keeps what it does, so that a command that trembles does not.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

from arm_controller.driver import DriverError
from arm_controller.waiting import Call, Overdue

from . import words
from .options import Options

CONNECT_WITHIN = 5.0    # [s]
LEAST_RANGE = 0.01      # [m]; a hand that knows less has not been homed
MOVE_WITHIN = 6.0       # [s]; the slowest travel takes less than two
END_WITHIN = 1.5        # [s]; libfranka waits a second for a state
PAUSE = 0.005           # [s] between two looks
TREMBLE = 0.05          # of a share; chosen: 4 mm of a hand's 80
OPEN, CLOSED = "open", "closed"


def wanted(share: float, now: str, close_below: float, open_above: float) -> str:
    """What the hand is to be: OPEN, CLOSED, or "" for as it is. share: 0 closed .. 1 open; now: what it was last."""
    if share <= close_below:
        return CLOSED
    if share >= open_above:
        return OPEN
    return now


class Hand:
    """trouble: why it is of no use any more; empty while it is. share: measured opening, 0 closed .. 1 open; aimed:
    what it was told last, likewise; None before the first."""

    def __init__(self, options: Options):
        self._options = options
        self._gripper: Any = None
        self._goal, self._told = "", ""
        self.aimed: float | None = None
        self._first: float | None = None    # command; it says how the hand is
        self._left = False                  # a command has left it
        self._motion: Call | None = None
        self._motion_since = 0.0
        # Made when it is opened: until then a driver is sent from process to process.
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self.share, self.trouble = 0.0, ""

    def open(self) -> None:
        """Connects; moves nothing. Errors: DriverError."""
        import franky

        host = self._options.host
        try:
            self._gripper = Call(lambda: franky.Gripper(host)).result(CONNECT_WITHIN)
            state = Call(lambda: self._gripper.state).result(CONNECT_WITHIN)
        except Overdue:
            raise DriverError(
                f"the hand at {host} did not answer within {CONNECT_WITHIN:g} s; see that no other program is "
                "connected to it"
            ) from None
        except Exception as error:
            raise DriverError(
                f"the robot at {host} has no hand that answers ({words.one_line(error)}); mount it and set it as end "
                "effector in Desk, or use a contract without a gripper"
            ) from error
        if state.max_width < LEAST_RANGE:
            raise DriverError(
                f"the hand at {host} does not know its range ({state.max_width:.3f} m); home it: "
                f"python -m franka_driver.home_hand {host}  (the fingers move)"
            )
        self._see(state)
        self.forget()
        self.trouble, self._motion = "", None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="franka hand", daemon=True)
        self._thread.start()

    def aim(self, share: float) -> None:
        """What the fingers shall do. The first call after `forget` moves nothing, and the hand acts when a command
        leaves that one by more than a tremble: a share alone does not say whether it holds something."""
        self.aimed = share
        if self._first is None:
            self._first = share
            self._goal = self._told = OPEN if share >= 1.0 - TREMBLE else ""
        self._left = self._left or abs(share - self._first) > TREMBLE
        if self._left:
            self._goal = wanted(share, self._goal, self._options.close_below, self._options.open_above)

    def forget(self) -> None:
        """The next command is a first one."""
        self._goal, self._told, self._first, self._left, self.aimed = "", "", None, False, None

    def close(self) -> None:
        """The hand goes on with what it does: it keeps what it holds."""
        if self._stop is not None and self._thread is not None:
            self._stop.set()
            self._thread.join(END_WITHIN)
            self._thread = None
        # A hand talks to one program at a time: it is let go before it is connected to anew.
        self._gripper = self._motion = None

    # --- in the thread ------------------------------------------------------------------------------------------------
    def _run(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(PAUSE):
                self._see(self._gripper.state)
                self._act()
        except Exception as error:
            if not stop.is_set():
                self.trouble = (
                    f"the hand at {self._options.host} failed ({words.one_line(error)}); look at its fingers and its "
                    "cable, then clear_fault, which connects anew, and arm"
                )

    def _see(self, state: Any) -> None:
        self.share = min(max(state.width / max(state.max_width, LEAST_RANGE), 0.0), 1.0)

    def _act(self) -> None:
        if self._motion is not None:
            self._see_end(self._motion)
        elif self._goal != self._told:
            self._told = self._goal
            self._motion, self._motion_since = Call(partial(self._move, self._gripper, self._told)), time.monotonic()

    def _see_end(self, motion: Call) -> None:
        try:
            motion.result(0.0)    # tells an error; false means that nothing was between the fingers
        except Overdue:
            if time.monotonic() - self._motion_since > MOVE_WITHIN:
                raise TimeoutError(f"its motion did not end within {MOVE_WITHIN:g} s") from None
            return
        self._motion = None

    def _move(self, gripper: Any, goal: str) -> bool:
        """Blocks while the fingers move. franky's own asynchronous calls crash where their gripper is let go meanwhile:
        this one keeps it."""
        options = self._options
        if goal == OPEN:
            return bool(gripper.open(options.hand_speed))
        # A grasp, however wide what it closes on is: the force stays.
        widest = gripper.max_width
        return bool(gripper.grasp(0.0, options.hand_speed, options.hand_force, widest, widest))
