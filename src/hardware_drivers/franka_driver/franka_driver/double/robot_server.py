# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The robot controller's side of libfranka's protocol, on franky-sim's server, with the faults that franky-sim lacks.

No robot was at hand: what a real controller answers in these cases is taken from the statuses and errors that libfranka
itself knows.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from franky_sim.base_simulator import BaseRobot
from franky_sim.franka_robot_protocol import (
    AutomaticErrorRecoveryCommand,
    AutomaticErrorRecoveryStatus,
    BaseCommand,
    MoveCommand,
    MoveCommandControllerMode,
    MoveCommandMotionGeneratorMode,
    MoveStatus,
    RobotCommand,
    RobotMode,
    SetCollisionBehaviorCommand,
)
from franky_sim.franka_robot_server import FrankaRobotServer
from franky_sim.franka_robot_state import FrankaRobotState
from franky_sim.franka_server import Command, ConnectCommand, ConnectStatus, FrankaServer, MessageHeader

from .hand_server import HandServer

# Places of the errors in the state's list of 41 (libfranka's research interface).
ERRORS = {
    "joint_position_limits_violation": 0,
    "self_collision_avoidance_violation": 2,
    "joint_velocity_violation": 3,
    "joint_reflex": 6,
    "cartesian_reflex": 7,
    "joint_motion_generator_velocity_discontinuity": 14,
    "communication_constraints_violation": 25,
    "power_limit_violation": 26,
    "controller_torque_discontinuity": 32,
}
NUMBER = "_FrankaServer__message_id"    # of the next state: franky-sim's own
LOST_IN_A_ROW = 20    # commands; after that many a robot ends the motion, which until then goes on with the last one


class Rejected(Exception):
    """A move that the robot does not begin; carries the status that says so."""

    def __init__(self, status: MoveStatus):
        super().__init__(status.name)
        self.status = status


@dataclass
class Faults:
    """What is wrong with the robot now. mode: what it says of itself instead of idle; None: nothing is wrong. errors:
    places in the list of errors; by_hand: recovery needs a person at Desk; refuses: thresholds of the collision reflex;
    drops: commands of the client are lost; frozen: the state repeats itself; silent: nothing is sent; version: of the
    protocol, 0: the robot's own; success_rate: of commands."""

    mode: RobotMode | None = None
    errors: frozenset[int] = frozenset()
    by_hand: bool = False
    refuses: bool = False
    drops: bool = False
    frozen: bool = False
    silent: bool = False
    version: int = 0
    success_rate: float = 1.0

    @property
    def unheard(self) -> bool:
        """Whether a client hears nothing new, and so commands nothing."""
        return self.frozen or self.silent


class RobotServer(FrankaRobotServer):
    """One robot. faults: may be changed at any time from the thread that runs the server. version: of the protocol."""

    version = 10

    def __init__(self, robot: BaseRobot, hostnames: Iterable[str], with_hand: bool = True):
        self.faults = Faults()
        self.hand: HandServer | None = None
        self.clients = 0
        self.recoveries = 0
        self.collision: dict[str, list[float]] = {}    # thresholds that the client has set
        self.powered = True
        self._with_hand, self._robot = with_hand, robot
        self._lost = 0
        self._frozen: bytes | None = None
        self._untold: tuple[int, MoveStatus] | None = None    # a motion that has ended, and how
        super().__init__(robot, hostnames)
        commands = self._FrankaServer__command_class_map
        commands[Command.kConnect] = _Connect
        commands[RobotCommand.kAutomaticErrorRecovery] = _Recover
        commands[RobotCommand.kMove] = _Move
        commands[RobotCommand.kSetCollisionBehavior] = _Collision

    def _bind_children(self, hostname: str) -> None:
        if self._with_hand:
            self.hand = HandServer(self._robot, hostname)
            self.hand.init()
            self._FrankaRobotServer__gripper_server = self.hand

    # --- faults -------------------------------------------------------------------------------------------------------
    def reflex(self, name: str) -> None:
        """The robot stops itself, says why, and waits for its recovery."""
        self.faults.mode, self.faults.errors = RobotMode.kReflex, frozenset({ERRORS[name]})
        self._abort(MoveStatus.kReflexAborted)

    def user_stop(self) -> None:
        """The user stop is pressed."""
        self.faults.mode = RobotMode.kUserStopped
        self._abort(MoveStatus.kEmergencyAborted)    # which libfranka words as "User Stop pressed"

    def lock_brakes(self) -> None:
        """The joints are locked in Desk."""
        self.faults.mode = RobotMode.kOther
        self._abort(MoveStatus.kPreemptedDueToActivatedSafetyFunctions)

    def release(self) -> None:
        """The user stop is released, the brakes are open."""
        self.faults.mode, self.faults.errors = None, frozenset()

    def power_off(self) -> None:
        """The brakes close, and nobody is there on the network any more; no client is told."""
        self.faults.mode, self.powered = RobotMode.kOther, False
        self.reset_state()
        if self.hand is not None:
            self.hand.reset_state()
        self.cleanup()

    def power_on(self) -> None:
        """It is there again, with its joints locked until somebody releases them."""
        self.init()
        self.powered = True

    def _abort(self, status: MoveStatus) -> None:
        motion = self.current_motion_id
        if not motion:
            return
        self.stop_motion(send_preemption_signal=False)
        self._untold = motion, status
        self._tell_end()

    def _tell_end(self) -> None:
        """Tells the client how its motion has ended, as soon as it hears anything."""
        if self._untold is None or self.faults.unheard:
            return
        motion, status = self._untold
        self.send_state()    # libfranka takes the names of the errors from the newest state
        BaseCommand.send_response(self._tcp_socket, RobotCommand.kMove, motion, self.number_of(status))
        self._untold = None
        self.reset_current_motion_id()

    def _reset_state(self) -> None:
        self._untold = None
        super()._reset_state()

    @property
    def moves(self) -> bool:
        """Whether a motion of the client's is under way, as far as the robot knows."""
        return bool(self.current_motion_id) and self._untold is None

    # --- protocol -----------------------------------------------------------------------------------------------------
    def number_of(self, status: MoveStatus | AutomaticErrorRecoveryStatus) -> int:
        """How the protocol's version writes a status."""
        return status.value

    def start_motion(
        self,
        controller_mode: MoveCommandControllerMode,
        motion_generator_mode: MoveCommandMotionGeneratorMode,
        motion_id: int,
    ) -> None:
        if self.faults.mode == RobotMode.kUserStopped:
            raise Rejected(MoveStatus.kCommandRejectedDueToActivatedSafetyFunctions)
        if self.faults.mode is not None:
            raise Rejected(MoveStatus.kCommandNotPossibleRejected)
        self._lost = 0
        super().start_motion(controller_mode, motion_generator_mode, motion_id)

    def _handle_udp_command(self, command_data: bytes) -> None:
        if not self.faults.drops:
            self._lost = 0
            super()._handle_udp_command(command_data)

    def process_commands(self) -> None:
        if self.powered:
            super().process_commands()
        else:
            self._post_process_commands()    # which holds the arm

    def _pre_process_commands(self) -> None:
        super()._pre_process_commands()
        self._tell_end()
        # Counted where a fault takes them: a computer that is busy for a moment loses more than a real-time one may.
        if (self.faults.drops or self.faults.unheard) and self.moves:
            self._lost += 1
            if self._lost > LOST_IN_A_ROW:
                self.reflex("communication_constraints_violation")

    @property
    def robot_state(self) -> FrankaRobotState:
        state = super().robot_state
        faults = self.faults
        named = tuple(place in faults.errors for place in range(41))
        return state.replace(
            robot_mode=state.robot_mode if faults.mode is None else faults.mode,
            errors=named,
            reflex_reason=named,
            control_command_success_rate=faults.success_rate if self.moves else 0.0,
        )

    def send_state(self) -> None:
        if self.faults.silent:
            return
        number: int = getattr(self, NUMBER)
        super().send_state()
        if self.faults.frozen:    # the same datagram again: a client takes it for an old one
            setattr(self, NUMBER, number)

    def _get_state_bytes(self) -> bytes:
        if not self.faults.frozen:
            self._frozen = self._state_bytes()
        assert self._frozen is not None
        return self._frozen

    def _state_bytes(self) -> bytes:
        return super()._get_state_bytes()


@dataclass
class _Connect(ConnectCommand):
    def handle(self, server: FrankaServer, command_type_struct: str = "I") -> None:
        assert isinstance(server, RobotServer)
        server.clients += 1
        version = server.faults.version or server.version
        fits = version == self.version
        status = ConnectStatus.kSuccess if fits else ConnectStatus.kIncompatibleLibraryVersion
        header = MessageHeader(self.command_type, self.command_id, 8)
        answer = struct.pack("<BH5x", status.value, version)
        self.client_socket.sendall(header.to_bytes(command_type_struct=command_type_struct) + answer)
        if fits:
            server._setup_udp_connection(self.network_udp_port)


@dataclass
class _Move(MoveCommand):
    def handle(self, server: FrankaServer) -> None:
        assert isinstance(server, RobotServer)
        try:
            server.start_motion(self.controller_mode, self.motion_generator_mode, self.command_id)
        except Rejected as rejected:
            self.reply(server.number_of(rejected.status))
        else:
            self.reply(MoveStatus.kMotionStarted)


@dataclass
class _Recover(AutomaticErrorRecoveryCommand):
    @classmethod
    def from_bytes(cls, data: bytes, command_id: int, client_socket: socket.socket) -> _Recover:
        return cls(command_id, client_socket)

    def handle(self, server: FrankaServer) -> None:
        assert isinstance(server, RobotServer)
        faults, status = server.faults, AutomaticErrorRecoveryStatus
        server.recoveries += 1
        if faults.mode == RobotMode.kUserStopped:
            answer = status.kCommandRejectedDueToActivatedSafetyFunctions
        elif faults.by_hand:
            answer = status.kManualErrorRecoveryRequiredRejected
        elif faults.mode not in (RobotMode.kReflex, None):
            answer = status.kCommandNotPossibleRejected
        else:
            server.release()
            answer = status.kSuccess
        self.reply(server.number_of(answer))


@dataclass
class _Collision(SetCollisionBehaviorCommand):
    def handle(self, server: FrankaServer) -> None:
        assert isinstance(server, RobotServer)
        if server.faults.refuses:
            self.reply(1)    # not possible in the mode that the robot is in
            return
        told = vars(self).items()
        server.collision = {key: list(value) for key, value in told if key.startswith(("lower_", "upper_"))}
        super().handle(server)
