# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `leader`: an SO-101 leader arm in the policy's place, so that people can record demonstrations.

It announces itself and sends chunks as a policy does; the controller checks and limits them as it does any. Services
policy/set_instruction and policy/reset begin an episode, as the policy's do. policy/status says why nothing is sent.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor
from sensor_msgs.msg import JointState

from arm_controller.driver import DriverError
from arm_controller.running import DriverNode, run_node
from molmoact2_contract import ContractError, load_contract
from molmoact2_contract.qos import CHUNK, SENSOR_PUBLISH, SENSOR_SUBSCRIBE, STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus
from molmoact2_msgs.srv import ResetEpisode, SetInstruction

from .calibration import CalibrationError, load_calibration
from .double.arm import NAME as DOUBLE
from .double.arm import default_link, double_calibration
from .leader import LeaderArm, LeaderPlan, LeaderWatch
from .registers import BAUD_RATES

STATUS_PERIOD = 0.2    # [s]
MOST_MISSED = 15       # readings in a row
FOR_THE_DOUBLE = 30.0    # [s]; it is started beside this
STATES = {
    ControllerStatus.DISARMED: "is not armed", ControllerStatus.STOPPING: "is being stopped",
    ControllerStatus.FAULT: "is in fault",
}


class LeaderNode(DriverNode):
    """Publishes leader/joint_states, policy/status, and policy/action_chunk while the follower is armed."""

    def __init__(self, **options: Any) -> None:
        super().__init__("leader", **options)
        declare = self._declare
        contract = self._contract = load_contract(declare("contract", "", "path or name of the embodiment contract"))
        declare("simulation", False, "whether the follower is simulated")
        self._arm = contract.arm(declare("arm", "arm", "name of the follower in the contract"))
        tag = self._tag = contract.norm_tag(declare("norm_tag", "", "norm tag whose timing the chunks have"))
        rate = declare("rate", 15.0, "plans per second")
        if not 2 <= rate <= 1 / tag.dt + 1e-6:
            raise ContractError(f"parameter rate is {rate:g}; it must be from 2 to {1 / tag.dt:g} plans per second")
        self._instruction = declare("instruction", "", "what is demonstrated, in words")
        self._leader = self._open(declare)
        self._plan, self._watch = LeaderPlan(contract, self._arm, tag), LeaderWatch(contract, self._arm)
        # Why nothing is sent; why the leader was not read.
        self._withheld, self._missing = "the leader was not read yet", ""
        self._follower: np.ndarray | None = None
        self._state, self._missed, self._chunk_id, self._error = ControllerStatus.DISARMED, 0, 0, ""
        self._process, self._episode = uuid.uuid4().hex, uuid.uuid4().hex
        self._joints = self.create_publisher(JointState, "leader/joint_states", SENSOR_PUBLISH)
        self._chunks = self.create_publisher(ActionChunk, "policy/action_chunk", CHUNK)
        self._status = self.create_publisher(PolicyStatus, "policy/status", STATUS)
        self.create_subscription(JointState, "joint_states", self._on_follower, SENSOR_SUBSCRIBE)
        self.create_subscription(ControllerStatus, f"{self._arm.name}/status", self._on_status, STATUS)
        self.create_service(SetInstruction, "policy/set_instruction", self._set_instruction)
        self.create_service(ResetEpisode, "policy/reset", self._reset)
        self.create_timer(STATUS_PERIOD, self._announce)
        self.create_timer(1.0 / rate, self._lead)
        self._announce()

    def _declare(self, name: str, default: Any, description: str) -> Any:
        return self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True)).value

    def _open(self, declare: Any) -> LeaderArm:
        port = declare("port", "", "the leader's servo bus, e.g. /dev/ttyACM1")
        source = declare("calibration", "", "name or file of the leader's calibration")
        baud = declare("baud", BAUD_RATES[0], "rate of its servos")
        if not port or not source:
            raise ContractError("parameters port and calibration of the leader are needed (docs/robots/so101.md)")
        calibration = double_calibration() if source == DOUBLE else load_calibration(source)
        if port == DOUBLE:
            port, deadline = default_link("leader"), time.monotonic() + FOR_THE_DOUBLE
            while not os.path.exists(port) and time.monotonic() < deadline:
                time.sleep(0.05)
        return LeaderArm(port, baud, calibration, source, self._arm.joints)

    # --- what comes in ------------------------------------------------------------------------------------------------
    def _on_follower(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position, strict=False))
        if all(joint in positions for joint in self._arm.joints):
            self._follower = np.array([positions[joint] for joint in self._arm.joints])

    def _on_status(self, message: ControllerStatus) -> None:
        self._state = message.state
        if message.state == ControllerStatus.DISARMED:    # whoever arms it again begins anew
            self._watch.begin()

    def _set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        self._instruction = request.instruction
        if request.new_episode:
            self._begin_episode()
        self._announce()
        response.success, response.message, response.episode_id = True, "demonstrating it", self._episode
        return response

    def _reset(self, _: ResetEpisode.Request, response: ResetEpisode.Response) -> ResetEpisode.Response:
        self._begin_episode()
        self._announce()
        response.success, response.message, response.episode_id = True, "a new episode began", self._episode
        return response

    def _begin_episode(self) -> None:
        self._episode = uuid.uuid4().hex
        self._watch.begin()

    # --- what goes out ------------------------------------------------------------------------------------------------
    def _announce(self) -> None:
        message = PolicyStatus(process_id=self._process, episode_id=self._episode, state=PolicyStatus.ACTIVE)
        message.header.stamp = self.get_clock().now().to_msg()
        message.arms, message.backend, message.instruction = [self._arm.name], "leader arm", self._instruction
        message.norm_tag, message.chunks = self._tag.name, self._chunk_id
        message.withheld, message.last_error = self._missing or self._withheld, self._missing
        self._status.publish(message)

    def _lead(self) -> None:
        now = self.get_clock().now()
        try:
            state = self._leader.read(now.nanoseconds)
        except DriverError as error:
            # Without chunks the follower comes to rest within half a second.
            self._missed, self._missing = self._missed + 1, str(error)
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            self._error = str(error) if self._missed > MOST_MISSED else ""
            return
        self._missed, self._missing = 0, ""
        names, stamp = list(self._arm.joints), now.to_msg()
        message = JointState(name=names, position=state.positions.tolist())
        message.header.stamp = stamp
        self._joints.publish(message)
        seconds, done = now.nanoseconds / 1e9, self.get_clock().now().nanoseconds / 1e9
        self._withhold(self._why_not(state.positions, seconds, done))
        if not self._withheld:
            self._send(self._plan.waypoints(state.positions, seconds), stamp, names)

    def _why_not(self, leader: np.ndarray, seconds: float, done: float) -> str:
        """Why nothing may be sent now; empty where the plan may. seconds, done: times around the leader's reading."""
        if self._follower is None:
            return f"nothing was heard of the follower; is the controller of {self._arm.name!r} running?"
        led = self._state == ControllerStatus.FOLLOWING and not self._withheld    # and not by what another has sent
        if not led or self._plan.at is None:
            self._plan.begin(self._follower, seconds)
        assert self._plan.at is not None
        text = self._watch.look(leader, self._plan.at, seconds, done, led)
        if self._state in (ControllerStatus.HOLDING, ControllerStatus.FOLLOWING):
            return text
        return f"the follower {STATES.get(self._state, f'is in state {self._state}')}"

    def _withhold(self, text: str) -> None:
        """Says once what begins to stand in the way."""
        if text and bool(self._watch.stopped) and text != self._withheld:
            self.get_logger().error(text)
        elif text and not self._withheld:
            self.get_logger().info(f"nothing is sent: {text}")
        elif self._withheld and not text:
            self.get_logger().info("leading")
        self._withheld = text

    def _send(self, waypoints: np.ndarray, stamp: Time, names: list[str]) -> None:
        self._chunk_id += 1
        chunk = ActionChunk(chunk_id=self._chunk_id, episode_id=self._episode, joint_names=names)
        chunk.header.stamp, chunk.dt, chunk.first_offset = stamp, self._tag.dt, self._tag.first_offset
        chunk.first_offset_known, chunk.horizon = True, len(waypoints)
        chunk.positions = waypoints.ravel().tolist()
        if self._follower is not None:
            chunk.state, chunk.state_stamp = self._follower.tolist(), stamp
        self._chunks.publish(chunk)

    @property
    def error(self) -> str:
        return self._error

    def close(self) -> None:
        self._leader.close()


def main() -> int:
    return run_node("leader", LeaderNode, DriverError, CalibrationError)


if __name__ == "__main__":
    sys.exit(main())
