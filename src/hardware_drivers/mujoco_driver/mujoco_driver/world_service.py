# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the world's process does: it makes the world and its bus, and answers the node."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from arm_controller.setpoint_process import take_privileges

from .bus import BusError
from .bus_server import BusServer
from .scene import SceneError, build
from .success import success_tests
from .world import World, home_of
from .world_process import Failed, Ready, Report, Settings

PRIORITY = 40           # of the real-time class FIFO, where it is permitted; below that of setpoints
QUIET = 0.3             # [s] without a setpoint, after which nobody commands the arm
WATCH_PERIOD = 0.2      # [s] between two looks at whether physics still runs


class Operations:
    """What the node may ask for, by name."""

    def __init__(self, world: World, bus: BusServer):
        self._world, self._bus = world, bus

    def report(self) -> Report:
        state = self._world.state()
        tests = success_tests(self._world.scene, state.qpos)
        return Report(state.stamp_ns, state.seed, tests, self._world.dropped_seconds)

    def reset(self) -> int:
        return self._world.reset()

    def begin(self, seed: int) -> str:
        """Why not, else empty: an arm that is commanded must not find itself elsewhere."""
        if self._bus.quiet < QUIET:
            return "the arm is commanded; disarm it first (its service `disarm`)"
        self._world.begin(seed)
        return ""

    def set_bus_fault(self, fault: str) -> None:
        self._bus.set_fault(fault)


def serve(settings: Settings, node: Connection) -> None:
    """Runs the world until the node closes its end. Errors: RuntimeError where physics fails."""
    try:
        scene = build(settings.scene)
        world = World(scene, home_of(settings.contract, scene), settings.seed)
        # Before the threads are made, which inherit the priority.
        privileges = take_privileges(PRIORITY)
        bus = BusServer(world, settings.address, _log, settings.bus_fault)
    except (SceneError, BusError) as error:
        node.send(Failed(str(error)))
        return
    world.start()
    try:
        node.send(Ready(privileges))
        _answer(Operations(world, bus), world, node)
    except (EOFError, OSError):
        pass    # the node has gone
    finally:
        bus.close()
        world.close()
    if world.error is not None:
        raise RuntimeError("physics failed") from world.error


def _answer(operations: Operations, world: World, node: Connection) -> None:
    while world.error is None:
        if node.poll(WATCH_PERIOD):
            number, method, arguments = node.recv()
            node.send((number, getattr(operations, method)(*arguments)))


def _log(text: str) -> None:
    print(f"warning: world: {text}", file=sys.stderr, flush=True)
