# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `world`: a simulated scene and its servo bus. Thin: parameters and topics around the world's process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from arm_controller.running import DriverNode, run_node
from molmoact2_contract import load_contract
from molmoact2_contract.qos import DIAGNOSTICS, SUCCESS_TESTS
from molmoact2_msgs.msg import SuccessTest

from .bus import BusError, default_address
from .bus_faults import FAULTS
from .nodes import diagnostics, fixed, time_message
from .success import Held
from .world_client import WorldClient
from .world_process import Settings

TEST_PERIOD = 0.1    # [s]
SEED = "seed of the scene; setting it begins the scene anew, arm and cubes, while no controller commands the arm"


class WorldNode(DriverNode):
    """Starts the world's process, states its tests of success and its health, and passes on what an operator asks."""

    def __init__(self, **options: Any) -> None:
        super().__init__("world", **options)
        # Until the process is there the fault is one of its settings.
        self._set_bus_fault: Callable[[str], None] = lambda fault: None
        self._begin: Callable[[int], str] = lambda seed: ""
        self.add_on_set_parameters_callback(self._on_parameters)
        settings = self._settings()
        self._scene, self.address = settings.scene, settings.address
        self.client = WorldClient(settings)
        self._set_bus_fault, self._begin = self.client.set_bus_fault, self.client.begin
        self._dropped_before, self._held = 0.0, Held()
        self._tests = self.create_publisher(SuccessTest, "success_tests", SUCCESS_TESTS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.create_service(Trigger, "~/reset", self._reset)
        self.create_timer(TEST_PERIOD, self._test)
        self.create_timer(1.0, self._diagnose)
        self.get_logger().info(f"scene {settings.scene}, seed {settings.seed}; servo bus at {self.address}")
        if self.client.privileges:
            self.get_logger().info(f"servos may answer late on a busy machine: {self.client.privileges}")

    def _settings(self) -> Settings:
        """Reads and checks the parameters. Errors: ContractError, ParameterException."""
        declare = self.declare_parameter
        path = declare("contract", "", fixed("path or name of the embodiment contract")).value
        declare("simulation", True, fixed("always true: this node is a simulation"))
        whole = [IntegerRange(from_value=0, to_value=2**31 - 1, step=1)]
        faults = "; ".join(f"{fault}: {what}" for fault, what in FAULTS.items())
        return Settings(
            contract=load_contract(path),
            scene=declare("scene", "so101_tabletop", fixed("name of the scene")).value,
            seed=declare("seed", 1, ParameterDescriptor(description=SEED, integer_range=whole)).value,
            address=declare("address", "", fixed("path of the servo bus's unix socket; empty: the default")).value
            or default_address(),
            bus_fault=declare("bus_fault", "ok", ParameterDescriptor(description=f"of the servo bus; {faults}")).value,
        )

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            reasons = [self._refusal(parameter.name, parameter.value) for parameter in parameters]
        except BusError as error:
            reasons = [str(error)]
        reason = next((text for text in reasons if text), "")
        return SetParametersResult(successful=not reason, reason=reason)

    def _refusal(self, name: str, value: Any) -> str:
        """Does what a parameter's new value asks for; returns why not, else an empty text. Errors: BusError."""
        if name == "seed":
            return self._begin(value)
        if name == "bus_fault":
            if value not in FAULTS:
                return f"bus_fault is {value!r}; it must be one of {', '.join(FAULTS)}"
            self._set_bus_fault(value)
        return ""

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, f"cubes placed anew with seed {self.client.reset()}"
        except BusError as error:
            response.success, response.message = False, str(error)
        return response

    def _test(self) -> None:
        """Silent while the world does not answer: silence is not success."""
        try:
            report = self.client.report()
        except BusError:
            return
        header = Header(stamp=time_message(report.stamp_ns))
        for name, holds in self._held.update(report.stamp_ns, report.tests).items():
            self._tests.publish(SuccessTest(header=header, name=name, holds=holds))

    def _diagnose(self) -> None:
        values = {"scene": self._scene}
        try:
            report = self.client.report()
        except BusError as error:
            level, text = DiagnosticStatus.ERROR, str(error)
        else:
            slow = report.dropped_seconds > self._dropped_before
            self._dropped_before = report.dropped_seconds
            level = DiagnosticStatus.WARN if slow else DiagnosticStatus.OK
            text = "slower than real time" if slow else "in real time"
            values |= {
                "seed": str(report.seed),
                "simulated time dropped so far [s]": f"{report.dropped_seconds:.3f}",
            }
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics(stamp, level, "world: simulation", text, values))

    @property
    def error(self) -> str:
        return self.client.error

    def close(self) -> None:
        self.client.close()


def main() -> int:
    return run_node("world", WorldNode, BusError)


if __name__ == "__main__":
    sys.exit(main())
