# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The controller node over real DDS, in a domain of its own, at its real pace."""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from servo_rig import CONTRACT, ServoArm
from std_srvs.srv import Trigger

from arm_controller.driver import DriverError, Reading
from arm_controller.messages import seconds, time_message
from arm_controller.node import ArmControllerNode
from molmoact2_contract import ContractError
from molmoact2_contract.qos import CHUNK, DIAGNOSTICS, SENSOR_SUBSCRIBE, STATUS
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus

DOMAIN = 73
PATIENCE = 20.0    # seconds; only a failing test waits that long


class Operator:
    """Stands beside the arm: hears what the controller says, calls its services, and plays the policy."""

    def __init__(self, context, contract):
        self.contract = contract
        self.node = rclpy.create_node("operator", context=context)
        self.statuses: list[ControllerStatus] = []
        self.joint_states: list[JointState] = []
        self._news = threading.Condition()
        self.node.create_subscription(ControllerStatus, "arm/status", lambda m: self._keep(self.statuses, m), STATUS)
        self.node.create_subscription(
            JointState, "joint_states", lambda m: self._keep(self.joint_states, m), SENSOR_SUBSCRIBE
        )
        self.diagnostics: list[DiagnosticStatus] = []
        self.healths: list[DiagnosticStatus] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, DIAGNOSTICS)
        self._chunks = self.node.create_publisher(ActionChunk, "policy/action_chunk", CHUNK)
        self._policy = self.node.create_publisher(PolicyStatus, "policy/status", STATUS)
        self._sent = self.setpoint_process = 0
        self._announced = PolicyStatus(process_id="process", episode_id="episode")
        self.node.create_timer(0.1, lambda: self._policy.publish(self._announced))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._keep(self.diagnostics, message.status[0])
        for status in message.status[1:]:
            self._keep(self.healths, status)

    def _keep(self, kept: list, message) -> None:
        with self._news:
            kept.append(message)
            self._news.notify_all()

    def next(self, kept: list, wanted: Callable = lambda m: True):
        """The first message from now on that is as wanted."""
        with self._news:
            seen = len(kept)
            found = self._news.wait_for(lambda: any(map(wanted, kept[seen:])), PATIENCE)
            assert found, f"what came last: {kept[-1:]}"
            return next(filter(wanted, kept[seen:]))

    def until(self, condition: Callable[[], bool]) -> None:
        """Asks at each message that comes."""
        with self._news:
            assert self._news.wait_for(condition, PATIENCE)

    def state(self, state: int) -> ControllerStatus:
        return self.next(self.statuses, lambda s: s.state == state)

    def call(self, verb: str) -> Trigger.Response:
        client, done = self.node.create_client(Trigger, f"arm/{verb}"), threading.Event()
        assert client.wait_for_service(PATIENCE)
        future = client.call_async(Trigger.Request())
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE)
        return future.result()

    def send(self, turn: float = 0.0, **changes) -> ActionChunk:
        """A chunk of 15 waypoints, observed now, that turns the first joint from home by `turn` rad."""
        self._sent += 1
        home = self.contract.values("home", self.contract.joint_names)
        positions = np.tile(home, (15, 1))
        positions[:, 0] += turn * np.linspace(0, 1, 15)
        chunk = ActionChunk(chunk_id=self._sent, episode_id="episode", joint_names=list(self.contract.joint_names))
        chunk.header.stamp = self.node.get_clock().now().to_msg()
        chunk.dt, chunk.first_offset, chunk.horizon, chunk.positions = 1 / 30, 1.0, 15, positions.ravel().tolist()
        for name, value in changes.items():
            setattr(chunk, name, value)
        self._chunks.publish(chunk)
        return chunk


class Memory:
    """What a test and the arm in the setpoint process share."""

    def __init__(self, joints: int):
        context = multiprocessing.get_context("spawn")
        self._goal = context.Array("d", joints)
        self._failure, self._sent = context.Value("b", 0), context.Value("q", 0)
        self._largest_step, self._temperature = context.Value("d", 0.0), context.Value("d", 31.0)


class PromptArm(ServoArm):
    """The servo arm at the wall's pace, in another process; a test reads and breaks it through shared memory."""

    FAILURE = "servo 3 does not answer; check its cable"

    def __init__(self, contract):
        home = contract.values("home", contract.arm("arm").joints)
        super().__init__(len(home), home)
        self.memory = Memory(len(home))
        self.memory._goal[:] = home

    def read(self):
        self.now_ns = time.time_ns()
        self.failure = self.FAILURE if self.memory._failure.value else ""
        return super().read()

    def write(self, positions):
        if self.sent:
            step = float(np.abs(positions - self.sent[-1]).max())
            self.memory._largest_step.value = max(self.memory._largest_step.value, step)
        super().write(positions)
        self.memory._goal[:] = positions
        self.memory._sent.value += 1

    def health(self):
        temperature = Reading("shoulder_pan temperature", self.memory._temperature.value, "°C", 60.0, 70.0)
        return [temperature, Reading("setpoints", len(self.sent), "")]

    # --- for the test -------------------------------------------------------------------------------------------------
    @property
    def goal_now(self) -> np.ndarray:
        return np.array(self.memory._goal[:])

    @property
    def sent_so_far(self) -> int:
        return self.memory._sent.value

    @property
    def largest_step(self) -> float:
        return self.memory._largest_step.value

    def heat(self, temperature: float) -> None:
        self.memory._temperature.value = temperature

    def break_down(self, broken: bool) -> None:
        self.memory._failure.value = broken


class RealArm(PromptArm):
    """Of a driver whose options name no double."""

    real = True


@pytest.fixture
def start(contract):
    """Starts a controller node on a servo arm; gives the operator and the arm."""
    context, ends = rclpy.Context(), []
    rclpy.init(context=context, domain_id=DOMAIN)

    def make(kind=PromptArm, **parameters):
        arm, operator = kind(contract), Operator(context, contract)
        values = {"contract": str(CONTRACT), "arm": "arm", "simulation": True, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        node = ArmControllerNode(arm, context=context, parameter_overrides=overrides)
        executor = SingleThreadedExecutor(context=context)
        for each in (node, operator.node):
            executor.add_node(each)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        ends.extend([node.close, executor.shutdown, thread.join, node.destroy_node, operator.node.destroy_node])
        operator.until(lambda: node._core.snapshot.announced == "episode")
        operator.setpoint_process = node._core._process.pid
        return operator, arm

    yield make
    for end in ends:
        end()
    rclpy.shutdown(context=context)


@pytest.fixture
def armed(start):
    operator, arm = start()
    operator.state(ControllerStatus.DISARMED)
    assert operator.call("arm").success
    operator.state(ControllerStatus.HOLDING)
    return operator, arm


def test_measured_joints_are_published_by_name_with_the_time_of_their_capture(start, contract):
    operator, _ = start()
    first, second = operator.next(operator.joint_states), operator.next(operator.joint_states)
    assert tuple(first.name) == contract.arm("arm").joints
    assert seconds(second.header.stamp) > seconds(first.header.stamp)
    assert list(first.position) == pytest.approx(contract.values("home", contract.arm("arm").joints).tolist())


def test_nothing_is_sent_before_an_operator_arms(start):
    operator, arm = start()
    operator.state(ControllerStatus.DISARMED)
    operator.send(turn=0.2)
    status = operator.next(operator.statuses, lambda s: s.refused_chunks)
    assert status.last_refusal == ControllerStatus.REFUSAL_STATE
    assert arm.sent_so_far == 0


def test_a_chunk_is_followed_to_its_end_and_then_the_arm_holds_and_says_why(armed):
    operator, arm = armed
    chunk = operator.send(turn=0.2)
    following = operator.state(ControllerStatus.FOLLOWING)
    assert (following.chunk_id, following.episode_id) == (chunk.chunk_id, "episode")
    assert 0 <= following.acceptance_latency < PATIENCE
    holding = operator.state(ControllerStatus.HOLDING)
    assert f"ran out of waypoints of chunk {chunk.chunk_id}" in holding.reason
    assert arm.goal_now[0] == pytest.approx(0.2, abs=1e-3)
    assert arm.largest_step < 0.02


def test_a_chunk_with_nan_is_refused_by_name_and_the_arm_holds(armed):
    operator, arm = armed
    goal = arm.goal_now
    broken = operator.send(positions=[math.nan] * 90)
    status = operator.next(operator.statuses, lambda s: s.refused_chunks)
    assert (status.state, status.last_refusal) == (ControllerStatus.HOLDING, ControllerStatus.REFUSAL_NOT_FINITE)
    assert status.last_refused_chunk_id == broken.chunk_id
    assert status.last_refusal_text
    assert np.array_equal(arm.goal_now, goal)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"episode_id": "another"}, ControllerStatus.REFUSAL_EPISODE),
        ({"joint_names": ["shoulder_pan"] * 6}, ControllerStatus.REFUSAL_JOINTS),
        ({"horizon": 14}, ControllerStatus.REFUSAL_SHAPE),
        ({"dt": 0.0}, ControllerStatus.REFUSAL_TIMING),
        ({"positions": [3.0] * 90}, ControllerStatus.REFUSAL_LIMITS),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_chunk_that_breaks_its_contract_is_refused_with_its_code(armed, changes, refusal):
    operator, arm = armed
    operator.send(**changes)
    status = operator.next(operator.statuses, lambda s: s.refused_chunks)
    assert (status.state, status.last_refusal, status.accepted_chunks) == (ControllerStatus.HOLDING, refusal, 0)


def test_a_chunk_that_comes_after_all_its_waypoints_is_refused(armed):
    operator, _ = armed
    late = operator.node.get_clock().now().nanoseconds - 600_000_000
    chunk = ActionChunk()
    chunk.header.stamp = time_message(late)
    operator.send(header=chunk.header)
    status = operator.next(operator.statuses, lambda s: s.refused_chunks)
    assert status.last_refusal in (ControllerStatus.REFUSAL_PAST, ControllerStatus.REFUSAL_STALE)


def test_a_driver_that_fails_latches_a_fault_that_names_it_until_an_operator_clears_it(armed):
    operator, arm = armed
    arm.break_down(True)
    status = operator.state(ControllerStatus.FAULT)
    assert status.fault_code == ControllerStatus.FAULT_DRIVER
    assert PromptArm.FAILURE in status.fault_text
    arm.break_down(False)
    operator.send(turn=0.1)
    assert operator.next(operator.statuses, lambda s: s.refused_chunks).state == ControllerStatus.FAULT
    assert "clear_fault first" in operator.call("arm").message
    assert operator.call("clear_fault").success
    operator.state(ControllerStatus.DISARMED)


def test_stop_brings_the_arm_to_rest_and_only_resume_lets_it_follow_again(armed):
    operator, arm = armed
    operator.send(turn=0.2)
    operator.state(ControllerStatus.FOLLOWING)
    assert operator.call("stop").success
    operator.state(ControllerStatus.HOLDING)
    operator.send()
    status = operator.next(operator.statuses, lambda s: s.refused_chunks)
    assert status.last_refusal == ControllerStatus.REFUSAL_RESUME
    assert operator.call("resume").success
    operator.send()
    operator.state(ControllerStatus.FOLLOWING)


def test_an_arm_guided_by_hand_says_so_and_is_taken_back_by_resume(armed):
    operator, arm = armed
    assert operator.call("hand_guide").success
    guided = operator.next(operator.statuses, lambda s: s.guided)
    assert guided.state == ControllerStatus.HOLDING
    sent = arm.sent_so_far
    operator.send()
    assert operator.next(operator.statuses, lambda s: s.refused_chunks).last_refusal == ControllerStatus.REFUSAL_STATE
    assert arm.sent_so_far == sent
    assert operator.call("resume").success
    operator.next(operator.statuses, lambda s: not s.guided)
    operator.send(turn=0.1)
    operator.state(ControllerStatus.FOLLOWING)
    assert arm.largest_step < 0.02


def test_what_a_hung_setpoint_process_said_last_is_not_said_again_and_it_wakes_up_in_fault(armed):
    operator, _ = armed
    os.kill(operator.setpoint_process, signal.SIGSTOP)
    try:
        silent = operator.next(operator.diagnostics, lambda d: "has been silent" in d.message)
        assert silent.level == DiagnosticStatus.ERROR
        heard = len(operator.statuses)
        operator.next(operator.diagnostics, lambda d: "has been silent" in d.message)
        assert len(operator.statuses) == heard
    finally:
        os.kill(operator.setpoint_process, signal.SIGCONT)
    assert operator.state(ControllerStatus.FAULT).fault_code == ControllerStatus.FAULT_TIMER


def test_what_the_device_reports_is_in_diagnostics_while_the_arm_moves_and_what_is_past_its_bounds_is_named(armed):
    operator, arm = armed
    operator.send(turn=0.2)
    operator.state(ControllerStatus.FOLLOWING)
    well = operator.next(operator.healths, lambda h: int({v.key: v.value for v in h.values}["setpoints"]) > 0)
    assert (well.name, well.hardware_id, well.level) == ("arm: health", "arm", DiagnosticStatus.OK)
    assert {v.key: v.value for v in well.values}["shoulder_pan temperature [°C]"] == "31.0"
    arm.heat(66.0)
    warm = operator.next(operator.healths, lambda h: h.level == DiagnosticStatus.WARN)
    assert warm.message == "shoulder_pan temperature is 66.0 °C; the warning is at 60.0 °C"
    arm.heat(71.0)
    hot = operator.next(operator.healths, lambda h: h.level == DiagnosticStatus.ERROR)
    assert "the stop is at 70.0 °C" in hot.message
    # The driver judges what stops an arm; what is shown stops nothing.
    assert operator.next(operator.statuses).state == ControllerStatus.HOLDING


def test_a_shadowed_arm_is_never_written_to(start):
    operator, arm = start(shadow=True)
    operator.state(ControllerStatus.DISARMED)
    assert operator.call("arm").success
    operator.send(turn=0.2)
    status = operator.state(ControllerStatus.FOLLOWING)
    assert status.shadow
    operator.state(ControllerStatus.HOLDING)
    assert arm.sent_so_far == 0


def test_a_simulated_arm_may_arm_by_itself_and_a_real_one_may_not(start):
    operator, _ = start(auto_arm=True)
    assert operator.state(ControllerStatus.HOLDING).reason
    with pytest.raises(ContractError, match="a real arm is armed by an operator"):
        start(auto_arm=True, simulation=False)


def test_a_real_arm_in_a_system_that_says_simulation_is_in_shadow_and_never_armed_by_itself(start):
    with pytest.raises(ContractError, match="moves a real arm, which is armed by an operator: name the double"):
        start(RealArm, auto_arm=True)
    operator, arm = start(RealArm, shadow=False)
    assert operator.call("arm").success
    operator.send(turn=0.2)
    assert operator.state(ControllerStatus.FOLLOWING).shadow
    operator.state(ControllerStatus.HOLDING)
    assert arm.sent_so_far == 0


def test_a_driver_that_is_not_installed_is_refused_and_those_there_are_listed(contract):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    overrides = [Parameter("contract", value=str(CONTRACT)), Parameter("driver", value="wishful")]
    with pytest.raises(DriverError, match="driver 'wishful' is not installed; installed are: .*mujoco"):
        ArmControllerNode(context=context, parameter_overrides=overrides)
    rclpy.shutdown(context=context)
