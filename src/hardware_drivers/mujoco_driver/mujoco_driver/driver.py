# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm driver that reaches an arm of the simulated world over its servo bus."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from arm_controller.driver import ArmDriver, ArmState, DriverError, Reading
from arm_controller.health import Durations
from molmoact2_contract import Arm, Contract

from .bus import BusClient, BusError, default_address

TIMEOUT = 0.1    # [s]; the bus answers within a millisecond


class MujocoArmDriver(ArmDriver):
    """One arm of the simulated world.

    Converts between ROS (arm joints in rad, gripper 0 closed .. 1 open) and the bus (rad, the gripper's angle too).
    A contract joint is the servo of the same name. When this driver goes away the servos keep their last goal,
    and guided ones go on yielding.
    """

    real = False

    def __init__(self, contract: Contract, arm: Arm, address: str, patience: float = 30.0):
        """address: the world's socket. patience: how long to wait for it to appear [s]."""
        self._arm, self._address, self._patience = arm, address, patience
        self._gripper = np.array([contract.joints[j].is_gripper for j in arm.joints])
        self._bus: BusClient | None = None
        self._sent: np.ndarray | None = None    # last, ROS units; None where the servos do not hold at it
        self._cycles, self._failures = Durations(), 0

    def connect(self) -> None:
        """Opens the bus and finds the arm's servos; moves nothing. Errors: DriverError.

        Waits for the world: it is started beside the controller, and first builds its scene.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self._attach(BusClient(self._address, TIMEOUT))
            except BusError as error:
                if time.monotonic() > deadline:
                    raise DriverError(str(error)) from error
                time.sleep(0.05)

    def _attach(self, bus: BusClient) -> None:
        """Finds the arm's servos. Errors: BusError, DriverError."""
        servos = bus.identify()
        names = [servo.name for servo in servos]
        missing = [joint for joint in self._arm.joints if joint not in names]
        if missing:
            bus.close()
            raise DriverError(
                f"the simulated world has no servo {', '.join(missing)} (it has {', '.join(names)}); "
                "choose a scene that fits the contract"
            )
        self._indices = np.array([names.index(joint) for joint in self._arm.joints])
        lower = np.array([servos[i].lower for i in self._indices])
        upper = np.array([servos[i].upper for i in self._indices])
        self._scale = np.where(self._gripper, upper - lower, 1.0)
        self._offset = np.where(self._gripper, lower, 0.0)
        self._lower, self._upper = lower, upper
        self._bus, self._sent = bus, None

    def read(self) -> ArmState:
        """Positions in ROS units, and their capture time. Errors: DriverError."""
        began = time.monotonic()
        try:
            bus = self._connected()
            if bus.closed:    # it did not answer once, or its process was started anew
                self._attach(BusClient(self._address, TIMEOUT))
            stamp, positions = self._connected().read()
        except BusError as error:
            self._failures += 1
            raise DriverError(str(error)) from error
        self._cycles.add(time.monotonic() - began)
        return ArmState(self.to_ros(positions[self._indices]), stamp)

    def write(self, positions: np.ndarray) -> None:
        """Sends one setpoint in ROS units. Errors: DriverError."""
        bus = self._connected()
        # A limit of the contract may lie a rounding error beyond the servo's own.
        goals = np.clip(self.to_device(positions), self._lower, self._upper)
        try:
            bus.write([(int(i), float(goal)) for i, goal in zip(self._indices, goals, strict=True)])
        except BusError as error:
            raise DriverError(str(error)) from error
        self._sent = np.array(positions, dtype=np.float64)

    def stop(self) -> None:
        """Holds where the arm is, and what its gripper holds. Errors: DriverError."""
        here = self.read().positions
        self.write(here if self._sent is None else np.where(self._gripper, self._sent, here))

    def held(self) -> np.ndarray | None:
        """What this driver has sent last."""
        return self._sent

    def guide(self) -> None:
        """The servos yield and carry the weight of their links, until stop() or the next write. Errors: DriverError."""
        try:
            self._connected().guide(self._indices.tolist())
        except BusError as error:
            raise DriverError(str(error)) from error
        self._sent = None

    def health(self) -> Sequence[Reading]:
        """How the bus does; simulated servos have no temperature."""
        return (*self._cycles.readings("bus cycle"), Reading("failed readings", self._failures, ""))

    def close(self) -> None:
        """Leaves the bus; the servos go on as they are."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def to_ros(self, device: np.ndarray) -> np.ndarray:
        """Servo angles [rad] to ROS units."""
        return (np.asarray(device, dtype=np.float64) - self._offset) / self._scale

    def to_device(self, ros: np.ndarray) -> np.ndarray:
        """ROS units to servo angles [rad]."""
        return np.asarray(ros, dtype=np.float64) * self._scale + self._offset

    def _connected(self) -> BusClient:
        if self._bus is None:
            raise DriverError(f"the driver of arm {self._arm.name!r} is not connected; call connect() first")
        return self._bus


def create(contract: Contract, arm: Arm, options: dict[str, str]) -> MujocoArmDriver:
    """Makes the driver. options: `address`, path of the world's socket. Errors: DriverError for an unknown option."""
    unknown = sorted(set(options) - {"address"})
    if unknown:
        raise DriverError(f"driver mujoco has no option {', '.join(unknown)}; it has: address")
    return MujocoArmDriver(contract, arm, options.get("address") or default_address())
