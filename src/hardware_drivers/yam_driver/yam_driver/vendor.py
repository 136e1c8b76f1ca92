# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""i2rt's robot on a motor chain of ours: its gravity compensation, gains, gripper force limit and joint mapping.

i2rt runs two threads, one for the bus and one for the robot; both end for good at the first exception, with the motors
left on. Here neither runs: the loop (loop.py) calls the robot's `update` once a cycle and does the exchange itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from i2rt.motor_drivers.dm_driver import MotorChain, MotorCmd
from i2rt.motor_drivers.utils import MotorInfo
from i2rt.robots.motor_chain_robot import MotorChainRobot

from arm_controller.driver import DriverError

from .hardware import VENDOR_GRACE, Hardware, remove
from .motors import Feedback, Measured

GRIPPER_FORCE = 50.0    # [N], as i2rt limits it


@dataclass(frozen=True)
class Sent:
    """One motor's MIT command as it goes on the wire: [rad], [rad/s], [N m/rad], [N m s/rad], [N m]."""

    pos: float
    vel: float
    kp: float
    kd: float
    torque: float


class Chain(MotorChain):
    """i2rt's protocol of a motor chain: keeps what the robot commands, and shows it what was read last."""

    same_bus_device_driver = None

    def __init__(self, hardware: Hardware, offsets: np.ndarray):
        """offsets: what a motor reads at its joint's zero [rad], (J,)."""
        self.motor_list = [[motor.id, motor.kind] for motor in hardware.motors]
        self.motor_direction, self.motor_offset = hardware.directions, offsets
        self.running = True
        self.commands = [MotorCmd() for _ in self.motor_list]
        self.readings: Sequence[Feedback] = ()

    def __len__(self) -> int:
        return len(self.motor_list)

    def set_commands(self, torques, pos=None, vel=None, kp=None, kd=None, get_state: bool = True) -> list[MotorInfo]:
        zero = np.zeros(len(self))
        columns = [zero if column is None else column for column in (pos, vel, torques, kp, kd)]
        self.commands = [MotorCmd(pos=p, vel=v, torque=t, kp=s, kd=d) for p, v, t, s, d in zip(*columns, strict=True)]
        return self.read_states(torques) if get_state else []

    def read_states(self, torques=None) -> list[MotorInfo]:
        now = time.time()
        return [
            MotorInfo(
                id=self.motor_list[i][0],
                error_code=reading.status,
                target_torque=0 if torques is None else torques[i],
                vel=reading.velocity * self.motor_direction[i],
                eff=reading.torque * self.motor_direction[i],
                pos=(reading.position - self.motor_offset[i]) * self.motor_direction[i],
                temp_mos=reading.mos,
                temp_rotor=reading.rotor,
                timestamp=now,
            )
            for i, reading in enumerate(self.readings)
        ]

    def measured(self, gripper: tuple[float, float]) -> Measured:
        """Where the joints are by what was read last. gripper: what its motor reads closed and open [rad]."""
        positions = self.shafts()
        closed, opened = gripper
        positions[-1] = (positions[-1] - closed) / (opened - closed)
        return Measured(positions, min(reading.stamp_ns for reading in self.readings))

    def shafts(self) -> np.ndarray:
        """Where the motors' shafts are by what was read last, after offset and direction [rad], (J,)."""
        raw = np.array([reading.position for reading in self.readings])
        return (raw - self.motor_offset) * self.motor_direction

    def get_same_bus_device_states(self) -> None:
        return None

    def sent(self, index: int) -> Sent:
        """A motor's command, on its side of direction and offset."""
        command, direction = self.commands[index], self.motor_direction[index]
        return Sent(
            float(command.pos * direction + self.motor_offset[index]), float(command.vel * direction),
            float(command.kp), float(command.kd), float(command.torque * direction),
        )


class Robot(MotorChainRobot):
    """i2rt's robot without its thread. gripper: what its motor reads, after the offset, closed and open [rad]."""

    def __init__(self, hardware: Hardware, chain: Chain, gripper: tuple[float, float]):
        model = hardware.model_file()
        kp, kd = hardware.gains
        try:
            super().__init__(
                chain,
                xml_path=model,
                gravity_comp_factor=hardware.gravity_factor,
                gripper_index=len(hardware.motors) - 1,
                kp=list(kp),
                kd=list(kd),
                grav_comp_kd=hardware.guiding_damping,
                joint_limits=hardware.limits + np.array([-VENDOR_GRACE, VENDOR_GRACE]),
                gripper_limits=np.array(gripper),
                limit_gripper_force=GRIPPER_FORCE,
                gripper_type=hardware.gripper,
                arm_type=hardware.arm,
                zero_gravity_mode=True,
            )
        finally:
            remove(model)

    def start_server(self) -> None:
        """The loop calls `update`."""

    def _check_current_qpos_in_joint_limits(self, buffer_rad: float = 0.1) -> None:
        """A joint beyond its limits is no reason to leave an arm without gravity compensation; it is refused at
        connect, and what is commanded is kept inside."""

    def prepare(self, positions: np.ndarray) -> None:
        """Commands for an arm at rest at `positions` (J,), which is about to be switched on. Errors: DriverError."""
        self.command_joint_pos(positions)
        try:
            self.update()    # sees the newest readings
            self.update()    # and reckons with them
        except Exception as error:
            raise DriverError(
                f"the arm cannot be carried as it lies ({error}); fold it by hand, and check option arm_type"
            ) from error

    def sink(self, share: float, damping: np.ndarray) -> None:
        """For one cycle: no stiffness, the given damping, and a share of the torque that carries the arm."""
        for command, value in zip(self.motor_chain.commands, damping, strict=True):
            command.kp, command.kd, command.torque = 0.0, float(value), command.torque * share
