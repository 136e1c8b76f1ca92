# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The double as a program: python -m franka_driver.double.server --host 127.0.0.1

With --panda it speaks the older Panda's version of the protocol. Says "ready HOST" when it can be connected to, or
"error ..." where it lacks something. Each line of its input is a fault or a question, answered by one line, "done ..."
or "error ..."; it ends when its input ends.

    reflex NAME | user_stop | brakes | release      what the robot does, or a person at it
    by_hand on|off                                  recovery needs a person
    refuse on|off                                   thresholds of the collision reflex
    drop on|off | freeze on|off | silent on|off     the network; a client that hears nothing new commands nothing, and
                                                    after 20 commands that do not come a robot stops itself
    hang_up                                         the connection is cut
    power off|on                                    without it the brakes are closed and connections refused; when it is
                                                    back the joints stay locked until they are released
    rate 0..1 | version N                           success rate of commands; version of the protocol
    push JOINT TORQUE                               a person's hand on joint 0 .. 6 [Nm]
    hand ok|unhomed|fails|hangs|silent              the hand
    ok                                              none of these any more; a reflex stays until the robot recovers
    reset                                           as at the start, with nobody connected
    ask                                             -> joint positions, goals of the hand, clients, pauses ... (JSON)
    trail                                           -> where the arm was, since this was last asked (JSON)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence

import numpy as np
from franky_sim.franka_robot_protocol import RobotMode
from franky_sim.mujoco_simulator import FrankaMujocoRobot, MujocoSimulator

from mujoco_driver.trail import Trail

from .panda_server import NoCompiler, PandaServer
from .robot_server import ERRORS, Faults, RobotServer

HOME = (0.0, -0.6283, 0.0, -2.5133, 0.0, 1.8850, 0.0)    # DROID's reset pose [rad]
WIDTH = 0.08    # [m]
TICK = 0.001    # [s]


class Double:
    """A robot in MuJoCo behind the protocol; moved by `tick`, from one thread."""

    def __init__(self, host: str, with_hand: bool = True, home: Sequence[float] = HOME, panda: bool = False):
        self._home = tuple(home)
        self._simulator = MujocoSimulator()
        self._simulator.init()
        self.robot: FrankaMujocoRobot = self._simulator.add_robot(initial_q=home, initial_hand_width=WIDTH)
        self.server = (PandaServer if panda else RobotServer)(self.robot, [host], with_hand)
        self.server.init()
        self._simulator.start()
        self._pushes = np.zeros(7)
        self._kept, self._time = Trail(), 0.0    # of the physics [s]
        self.pause, self._ticked = 0.0, time.monotonic()    # longest time between two ticks [s]
        self._simulator.register_pre_step_callback(self._push_joints)

    def tick(self) -> None:
        """One millisecond."""
        now = time.monotonic()
        self.pause, self._ticked = max(self.pause, now - self._ticked), now
        self.server.process_commands()
        self._simulator.step()
        self.server.send_state()
        self._time += TICK
        if self._kept.is_due(self._time):
            self._kept.see(self._time, positions=list(self.robot.inner_state.q), width=self.robot.hand_width)

    def _push_joints(self, _: MujocoSimulator) -> None:
        self.robot.data.qfrc_applied[self.robot._dof_addrs] += self._pushes

    def close(self) -> None:
        self.server.cleanup()
        self._simulator.cleanup()

    def obey(self, line: str) -> str:
        """Does what a line says; returns the answer. Errors: ValueError, TypeError, AttributeError for what makes no
        sense."""
        verb, *words = line.split()
        return getattr(self, f"_{verb}")(*words) or "done"

    # --- lines --------------------------------------------------------------------------------------------------------
    def _reflex(self, name: str) -> None:
        if name not in ERRORS:
            raise ValueError(f"no reflex {name!r}; there are: {', '.join(ERRORS)}")
        self.server.reflex(name)

    def _user_stop(self) -> None:
        self.server.user_stop()

    def _brakes(self) -> None:
        self.server.lock_brakes()

    def _release(self) -> None:
        self.server.release()

    def _by_hand(self, switch: str) -> None:
        self.server.faults.by_hand = switch == "on"

    def _refuse(self, switch: str) -> None:
        self.server.faults.refuses = switch == "on"

    def _drop(self, switch: str) -> None:
        self.server.faults.drops = switch == "on"

    def _freeze(self, switch: str) -> None:
        self.server.faults.frozen = switch == "on"

    def _silent(self, switch: str) -> None:
        self.server.faults.silent = switch == "on"

    def _hang_up(self) -> None:
        self.server.reset_state()

    def _power(self, switch: str) -> None:
        if (switch == "on") != self.server.powered:
            (self.server.power_on if switch == "on" else self.server.power_off)()

    def _rate(self, share: str) -> None:
        self.server.faults.success_rate = float(share)

    def _version(self, number: str) -> None:
        self.server.faults.version = int(number)

    def _push(self, joint: str, torque: str) -> None:
        self._pushes[int(joint)] = float(torque)

    def _hand(self, fault: str) -> None:
        if self.server.hand is None:
            raise ValueError("there is no hand")
        self.server.hand.fault = fault

    def _ok(self) -> None:
        self._power("on")
        faults = self.server.faults
        reflex = faults.mode == RobotMode.kReflex
        self.server.faults = Faults(faults.mode, faults.errors) if reflex else Faults()
        self._pushes[:] = 0.0
        if self.server.hand is not None:
            self.server.hand.fault = "ok"

    def _reset(self) -> None:
        self._power("on")
        self.server.reset_state()
        self.server.faults = Faults()
        self.server.clients = self.server.recoveries = 0
        self.server.collision = {}
        self._pushes[:] = 0.0
        self.pause = 0.0
        data = self.robot.data
        data.qpos[self.robot._qpos_addrs] = self._home
        data.qpos[self.robot._finger_qpos_addrs] = WIDTH / 2
        data.qvel[:] = 0.0
        self.robot.set_hand_goal(WIDTH, 0.05, 70.0)
        self.server.reset_state()    # it holds where the arm is now
        if self.server.hand is not None:
            self.server.hand.forget()

    def _ask(self) -> str:
        hand = self.server.hand
        told = {
            "positions": list(self.robot.inner_state.q),
            "velocities": list(self.robot.inner_state.dq),
            "width": self.robot.hand_width,
            "hand": [] if hand is None else hand.commands,
            "moving": self.server.moves,
            "clients": self.server.clients,
            "recoveries": self.server.recoveries,
            "collision": self.server.collision,
            "pause": self.pause,
        }
        return "done " + json.dumps(told)

    def _trail(self) -> str:
        return "done " + json.dumps(self._kept.take())


def run(double: Double, lines: queue.SimpleQueue[str | None]) -> None:
    """In real time, as well as the machine allows, until None comes."""
    due = time.monotonic()
    while True:
        while not lines.empty():
            line = lines.get()
            if line is None:
                return
            try:
                answer = double.obey(line)
            except (ValueError, TypeError, AttributeError) as error:
                answer = f"error {error}"
            print(answer, flush=True)
        double.tick()
        due = max(due + TICK, time.monotonic() - 10 * TICK)
        time.sleep(max(0.0, due - time.monotonic()))


def _listen(source: Iterable[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in source:
        if line.strip():
            lines.put(line.strip())
    lines.put(None)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="A double of a Franka Research 3, or of an older Panda: libfranka's protocol, on loopback."
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: 127.0.0.1)")
    parser.add_argument("--no-hand", action="store_true", help="a robot without a hand")
    parser.add_argument("--panda", action="store_true", help="the older Panda's version of the protocol")
    args = parser.parse_args()
    if not args.host.startswith("127."):
        parser.error(f"--host {args.host} is no loopback address; the double is for this machine only")
    try:
        double = Double(args.host, not args.no_hand, panda=args.panda)
    except NoCompiler as error:
        print(f"error {error}", flush=True)
        return 1
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_listen, args=(sys.stdin, lines), daemon=True).start()
    print(f"ready {args.host}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        run(double, lines)
    double.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
