# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What an arm is made of: its motors, gains and model, as i2rt describes them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from xml.etree import ElementTree

import numpy as np
from i2rt.motor_drivers.utils import MotorType
from i2rt.robots.get_robot import _load_joint_limits_from_xml
from i2rt.robots.utils import ArmType, GripperType, _load_arm_config, combine_arm_and_gripper_xml

from arm_controller.driver import DriverError

ARMS = tuple(arm.value for arm in ArmType if arm != ArmType.NO_ARM)
# The teaching handle is a leader's, and no motor moves it.
GRIPPERS = tuple(g.value for g in GripperType if g not in (GripperType.YAM_TEACHING_HANDLE, GripperType.NO_GRIPPER))
GRIPPER_ID = 7
VENDOR_GRACE = 0.15    # [rad] by which i2rt lets a joint go beyond its model's range


@dataclass(frozen=True)
class Motor:
    """id: on the bus. kind: i2rt's name of the model, e.g. DM4340. gear: its gear ratio, which no setting can change.
    position, velocity, torque: what the ends of its 16 and 12 bit numbers mean [rad], [rad/s], [N m]."""

    id: int
    kind: str
    gear: float
    position: float
    velocity: float
    torque: float


@dataclass(frozen=True)
class Hardware:
    """One arm with its gripper; the gripper is the last motor."""

    arm: ArmType
    gripper: GripperType

    @cached_property
    def motors(self) -> tuple[Motor, ...]:
        rows = [*_load_arm_config(self.arm).motor_list, (GRIPPER_ID, self.gripper.get_motor_type(self.arm))]
        return tuple(_motor(int(number), str(kind)) for number, kind in rows)

    @cached_property
    def directions(self) -> np.ndarray:
        """Which way each motor turns, +1 or -1: (J,)."""
        return np.array([*_load_arm_config(self.arm).directions, self.gripper.get_motor_direction(self.arm)], float)

    @cached_property
    def gains(self) -> tuple[np.ndarray, np.ndarray]:
        """Stiffness [N m/rad] and damping [N m s/rad], each (J,)."""
        config, (kp, kd) = _load_arm_config(self.arm), self.gripper.get_motor_kp_kd(self.arm)
        return np.append(config.kp, kp), np.append(config.kd, kd)

    @cached_property
    def guiding_damping(self) -> np.ndarray:
        return np.append(_load_arm_config(self.arm).grav_comp_kd, 0.0)

    @cached_property
    def gravity_factor(self) -> np.ndarray:
        return np.append(_load_arm_config(self.arm).gravity_comp_factor, 1.0)

    @cached_property
    def limits(self) -> np.ndarray:
        """The arm joints' ranges of the model [rad]: (J - 1, 2)."""
        limits = _load_joint_limits_from_xml(self.arm.get_xml_path(), self.gripper.get_xml_path())
        return limits[: len(self.motors) - 1]

    def model_file(self) -> str:
        """The model of arm and gripper in one MJCF file, without shapes: masses are what carries an arm, and its meshes
        take a third of a second to load. The caller removes it."""
        file = combine_arm_and_gripper_xml(self.arm, self.gripper)
        tree = ElementTree.parse(file)
        for parent in list(tree.iter()):
            for child in list(parent):
                if child.tag in ("geom", "asset"):
                    parent.remove(child)
        tree.write(file)
        return file


def _motor(number: int, kind: str) -> Motor:
    scale = MotorType.get_motor_constants(kind)
    return Motor(
        number, kind, MotorType.get_gear_ratio(kind), scale.POSITION_MAX, scale.VELOCITY_MAX, scale.TORQUE_MAX
    )


def find_hardware(arm: str, gripper: str) -> Hardware:
    """Errors: DriverError for an unknown arm or gripper."""
    if arm not in ARMS:
        raise DriverError(f"option arm_type={arm!r} is unknown; there are: {', '.join(ARMS)}")
    if gripper not in GRIPPERS:
        raise DriverError(f"option gripper={gripper!r} is unknown; there are: {', '.join(GRIPPERS)}")
    return Hardware(ArmType(arm), GripperType(gripper))


def remove(file: str) -> None:
    """Removes a model file that i2rt wrote; nothing else."""
    if os.path.dirname(file) == tempfile.gettempdir() or file.startswith("/tmp/i2rt_"):
        os.unlink(file)
