# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The same robot in the older Panda's version of the protocol, 5, which libfranka 0.9 speaks.

It differs in the numbers of commands and statuses, in a state of doubles, and in that the client fetches the robot's
dynamics from it as a shared library. The arm behind it is the Research 3's.
"""

from __future__ import annotations

import enum
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from franky_sim.base_simulator import BaseRobot
from franky_sim.franka_robot_protocol import (
    AutomaticErrorRecoveryStatus,
    BaseCommand,
    MoveCommandControllerMode,
    MoveCommandMotionGeneratorMode,
    MoveStatus,
    StateMotionGeneratorMode,
)
from franky_sim.franka_robot_state import FrankaRobotState
from franky_sim.franka_server import Command, FrankaServer

from .robot_server import RobotServer

# franky-sim's own tables of what a client may send.
CLASSES, TYPES = "_FrankaServer__command_class_map", "_FrankaServer__command_type_map"


class Number(enum.IntEnum):
    """Of the commands, by franky-sim's names."""

    kMove = 1
    kStopMove = 2
    kSetCollisionBehavior = 4
    kSetJointImpedance = 5
    kSetCartesianImpedance = 6
    kSetEEToK = 8
    kSetNEToEE = 9
    kSetLoad = 10
    kAutomaticErrorRecovery = 12
    kLoadModelLibrary = 13


NOT_POSSIBLE = 3    # as a move's status; it has none for a safety function
MOVE = {
    MoveStatus.kSuccess: 0,
    MoveStatus.kMotionStarted: 1,
    MoveStatus.kPreempted: 2,
    MoveStatus.kPreemptedDueToActivatedSafetyFunctions: 2,
    MoveStatus.kCommandRejectedDueToActivatedSafetyFunctions: NOT_POSSIBLE,
    MoveStatus.kCommandNotPossibleRejected: NOT_POSSIBLE,
    MoveStatus.kReflexAborted: 6,
    MoveStatus.kEmergencyAborted: 7,
}
RECOVERY = {
    AutomaticErrorRecoveryStatus.kSuccess: 0,
    AutomaticErrorRecoveryStatus.kCommandNotPossibleRejected: 1,
    AutomaticErrorRecoveryStatus.kCommandRejectedDueToActivatedSafetyFunctions: 1,
    AutomaticErrorRecoveryStatus.kManualErrorRecoveryRequiredRejected: 2,
}
# The numbers of a state, all doubles, in their order; what follows them is told apart below.
STATE = (
    ("O_T_EE", 16), ("O_T_EE_d", 16), ("F_T_EE", 16), ("EE_T_K", 16), ("F_T_NE", 16), ("NE_T_EE", 16),
    ("m_ee", 1), ("I_ee", 9), ("F_x_Cee", 3), ("m_load", 1), ("I_load", 9), ("F_x_Cload", 3),
    ("elbow", 2), ("elbow_d", 2), ("tau_J", 7), ("tau_J_d", 7), ("dtau_J", 7),
    ("q", 7), ("q_d", 7), ("dq", 7), ("dq_d", 7), ("ddq_d", 7),
    ("joint_contact", 7), ("cartesian_contact", 6), ("joint_collision", 7), ("cartesian_collision", 6),
    ("tau_ext_hat_filtered", 7), ("O_F_ext_hat_K", 6), ("K_F_ext_hat_K", 6), ("O_dP_EE_d", 6), ("O_ddP_O", 3),
    ("elbow_c", 2), ("delbow_c", 2), ("ddelbow_c", 2), ("O_T_EE_c", 16), ("O_dP_EE_c", 6), ("O_ddP_EE_c", 6),
    ("theta", 7), ("dtheta", 7),
)    # fmt: skip
LAYOUT = struct.Struct(f"<{sum(count for _, count in STATE)}d2B41B41BBd")
COMMAND_SIZE = 370    # [bytes] of a client's datagram; one less than of version 10, which ends in another flag
TAKEN = ("M_NE", "c_NE", "g_NE", *(f"{what}{frame}" for what in ("O_T_J", "Ji_J_J", "O_J_J") for frame in range(1, 10)))


class NoCompiler(RuntimeError):
    """The shared library that a client fetches cannot be made; the text says what is needed."""


def packed(state: FrankaRobotState, generator: int) -> bytes:
    """A state without its number. generator: mode of the motion generator."""
    numbers: list[float] = []
    for name, count in STATE:
        value = getattr(state, name)
        numbers += [value] if count == 1 else value[:count]
    return LAYOUT.pack(
        *numbers, generator, state.controller_mode, *state.errors, *state.reflex_reason, state.robot_mode,
        state.control_command_success_rate,
    )    # fmt: skip


def model_library() -> bytes:
    """A shared library with the names that libfranka takes from it. What the driver has libfranka do calls none of
    them. Errors: NoCompiler, CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "model.c"), Path(folder, "model.so")
        source.write_text("".join(f"void {name}(void) {{}}\n" for name in TAKEN))
        # By the compiler that the build needs, too.
        command = ["c++", "-x", "c", "-shared", "-fPIC", "-nostdlib", "-o", str(library), str(source)]
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            raise NoCompiler(
                "the double of a Panda needs a compiler, c++, to make what its clients fetch; install one (apt install "
                "g++)"
            ) from None
        return library.read_bytes()


class PandaServer(RobotServer):
    version = 5

    def __init__(self, robot: BaseRobot, hostnames: Iterable[str], with_hand: bool = True):
        self.library = model_library()
        self._generator = 0    # mode of the motion generator that a client has asked for, as states name it
        super().__init__(robot, hostnames, with_hand)
        known: dict[enum.IntEnum, type[BaseCommand]] = getattr(self, CLASSES)
        renumbered: dict[enum.IntEnum, type[BaseCommand]] = {
            Command.kConnect: known[Command.kConnect],
            Number.kLoadModelLibrary: _LoadModelLibrary,
        }
        for command, taken in known.items():
            if command.name in Number.__members__:
                number = Number[command.name]
                renumbered[number] = type(taken.__name__, (taken,), {"command_type": number})
        setattr(self, CLASSES, renumbered)
        setattr(self, TYPES, {command.value: command for command in renumbered})

    def number_of(self, status: MoveStatus | AutomaticErrorRecoveryStatus) -> int:
        return MOVE[status] if isinstance(status, MoveStatus) else RECOVERY[status]

    def start_motion(
        self,
        controller_mode: MoveCommandControllerMode,
        motion_generator_mode: MoveCommandMotionGeneratorMode,
        motion_id: int,
    ) -> None:
        super().start_motion(controller_mode, motion_generator_mode, motion_id)
        self._generator = motion_generator_mode + 1

    def _process_udp_commands(self) -> bool:
        if not self.udp_connected:
            return False
        while data := self._FrankaServer__udp_receiver.receive(COMMAND_SIZE):
            self._handle_udp_command(data + b"\0")
        return True

    def _state_bytes(self) -> bytes:
        state = self.robot_state
        idle = state.motion_generator_mode == StateMotionGeneratorMode.kIdle
        return packed(state, 0 if idle else self._generator)


@dataclass
class _LoadModelLibrary(BaseCommand):
    command_type = Number.kLoadModelLibrary

    @classmethod
    def from_bytes(cls, data: bytes, command_id: int, client_socket: socket.socket) -> _LoadModelLibrary:
        return cls(command_id, client_socket)

    def handle(self, server: FrankaServer) -> None:
        assert isinstance(server, PandaServer)
        self.reply(0, server.library)
