# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `double`: an arm's servos on a pseudo terminal, in front of the simulated world's arm or of nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter

from arm_controller.running import DriverNode, run_node
from molmoact2_contract import ContractError
from mujoco_driver.bus import BusError, default_address

from ..port import PortError
from .arm import default_link, make_double
from .bus import USAGE, FaultError
from .plants import LedPlant, MujocoPlant, Plant, PointPlant, WorldPlant

PLANTS = ("world", "mujoco", "point", "led")
PRIORITY = 45      # of the real-time class; below the controller, which never waits for more than an answer
PATIENCE = 60.0    # [s]; the world builds its scene first


class DoubleNode(DriverNode):
    """Serves the double. Each setting of the parameter `fault` puts one in; its value is what was last."""

    def __init__(self, **options: Any) -> None:
        super().__init__("double", **options)
        self._port: Any = None
        self.add_on_set_parameters_callback(self._on_parameters)

        def declare(name: str, default: Any, description: str) -> Any:
            fixed = ParameterDescriptor(description=description, read_only=True)
            return self.declare_parameter(name, default, fixed).value

        declare("contract", "", "unused; every process is given one")
        declare("simulation", True, "always true: this node is a simulation")
        link = declare("link", "so101", "path of the port, or the arm that port=double stands for: so101, leader")
        link = link if "/" in link else default_link(link)
        address = declare("address", "", "path of the world's unix socket; empty: the default") or default_address()
        plant = self._plant(declare("plant", "world", f"what moves: {', '.join(PLANTS)}"), address)
        self._port = make_double(plant, link)
        forms = "; ".join([*(f"{form}: {what}" for form, what in USAGE.items()), "unplug", "replug"])
        self.declare_parameter("fault", "ok", ParameterDescriptor(description=forms))
        self.get_logger().info(f"six servos on {link}")

    @staticmethod
    def _plant(name: str, address: str) -> Plant:
        if name not in PLANTS:
            raise ContractError(f"parameter plant is {name!r}; it must be one of {', '.join(PLANTS)}")
        if name != "world":
            return {"mujoco": MujocoPlant, "point": PointPlant, "led": LedPlant}[name]()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return WorldPlant(address)
            except BusError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "fault" and self._port is not None:
                try:
                    self._port.spoil(parameter.value)
                except FaultError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    @property
    def error(self) -> str:
        return f"the double ended: {self._port.error}" if self._port.error else ""

    def close(self) -> None:
        self._port.close()


def main() -> int:
    # All of its threads, for they share an interpreter: a servo does not answer late because a computer is busy.
    with contextlib.suppress(OSError):    # not permitted
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    return run_node("double", DoubleNode, PortError, BusError)


if __name__ == "__main__":
    sys.exit(main())
