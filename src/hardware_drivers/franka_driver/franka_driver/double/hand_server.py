# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The hand's side of libfranka's protocol, on franky-sim's server, with its faults."""

from __future__ import annotations

import socket

from franky_sim.base_simulator import BaseRobot
from franky_sim.franka_gripper_protocol import GripperCommand, GripperCommandStatus, GripperState
from franky_sim.franka_gripper_server import FrankaGripperServer, _MotionState
from franky_sim.franka_server import BaseCommand


class HandServer(FrankaGripperServer):
    """fault: "ok", "unhomed" (its range is not known), "fails" (answers that it could not), "hangs" (never answers),
    "silent" (sends no state). commands: what it was told, in words."""

    def __init__(self, robot: BaseRobot, hostname: str):
        self.fault = "ok"
        self.commands: list[str] = []
        super().__init__(robot, hostname)

    def start_move(self, width: float, speed: float, command_id: int, tcp_socket: socket.socket) -> None:
        self.commands.append(f"move {width:.3f}")
        if self._answers(GripperCommand.kMove, command_id, tcp_socket):
            super().start_move(width, speed, command_id, tcp_socket)

    def start_grasp(
        self, width: float, speed: float, force: float, epsilon_inner: float, epsilon_outer: float, command_id: int,
        tcp_socket: socket.socket,
    ) -> None:
        self.commands.append(f"grasp {width:.3f} {force:.0f}")
        if self._answers(GripperCommand.kGrasp, command_id, tcp_socket):
            super().start_grasp(width, speed, force, epsilon_inner, epsilon_outer, command_id, tcp_socket)

    def start_homing(self, command_id: int, tcp_socket: socket.socket) -> None:
        self.commands.append("homing")
        if self.fault == "unhomed":
            self.fault = "ok"
        super().start_homing(command_id, tcp_socket)

    def forget(self) -> None:
        """As at the start, with nobody connected."""
        self.reset_state()
        self.fault = "ok"
        self.commands.clear()
        self._motion_state = _MotionState.IDLE
        self._pending_command_id = self._pending_tcp_socket = self._pending_command_type = None

    def _answers(self, command: GripperCommand, command_id: int, tcp_socket: socket.socket) -> bool:
        if self.fault == "fails":
            BaseCommand.send_response(
                tcp_socket, command, command_id, GripperCommandStatus.kFail,
                command_type_struct="H", status_type_struct="H",
            )
        return self.fault not in ("fails", "hangs")

    def send_state(self) -> None:
        if self.fault != "silent":
            super().send_state()

    def _get_state_bytes(self) -> bytes:
        if self.fault == "unhomed":
            return GripperState(width=0.0, max_width=0.0).pack()
        return super()._get_state_bytes()
