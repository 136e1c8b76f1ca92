# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node `policy`. Thin: parameters, topics and services around Runner."""

from __future__ import annotations

import itertools
import sys
import time
import uuid
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from std_msgs.msg import String

from molmoact2_contract import ContractError
from molmoact2_contract.qos import CHUNK, DIAGNOSTICS, STATUS, TRACE
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, PolicyStatus, ReasoningTrace
from molmoact2_msgs.srv import ResetEpisode, SetInstruction

from .act_backend import ActBackend
from .backend import Backend, BackendError, InProcessBackend, Settings
from .continuity import Heard
from .ingest import stamp_ns
from .matcher import Matcher
from .messages import chunk_message, diagnostics_message, status_message, trace_message
from .parameters import Configuration, configuration, declare
from .runner import Outcome, Runner
from .running import run_node
from .task_server import TaskServer

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):
    """configure loads and warms, activate runs, deactivate stops publishing, cleanup frees the memory."""

    def __init__(self, **options: Any):
        super().__init__("policy", **options)
        declare(self)
        self._process_id = uuid.uuid4().hex
        self._state = PolicyStatus.UNCONFIGURED
        self._last_error = ""
        self._failed = False
        self._chunk_ids = itertools.count(1)
        self._configuration: Configuration | None = None
        self._backend: Backend | None = None
        self._facts: dict[str, str] = {}
        self._runner: Runner | None = None
        self._matcher: Matcher | None = None
        self._controllers: list[Subscription] = []
        self._shown: tuple = ()
        self._chunks = self.create_publisher(ActionChunk, "policy/action_chunk", CHUNK)
        self._traces = self.create_publisher(ReasoningTrace, "policy/reasoning_trace", TRACE)
        self._status = self.create_publisher(PolicyStatus, "policy/status", STATUS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.create_service(SetInstruction, "policy/set_instruction", self._on_set_instruction)
        self.create_service(ResetEpisode, "policy/reset", self._on_reset)
        self.create_subscription(String, "policy/instruction", self._on_instruction, CHUNK)
        self._tasks = TaskServer(self, self._active_runner, self._publish_status)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_timer(0.5, self._publish_status)
        self.create_timer(0.1, self._watch)
        self.create_timer(1.0, self._publish_diagnostics)

    # --- lifecycle ----------------------------------------------------------------------------------------------------
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            wanted = configuration(self)
            backend = make_backend(wanted)
            what = wanted.settings.checkpoint if wanted.remote is None else f"from the server {wanted.remote.url}"
            self.get_logger().info(f"loading {what}")
            before = time.monotonic()
            backend.load()
            if wanted.instruction.strip():
                backend.check_instruction(wanted.instruction)
        except Exception as error:    # rclpy would swallow it, e.g. running out of memory while loading
            known = isinstance(error, (ContractError, BackendError, ValueError))
            self._last_error = str(error) if known else repr(error)
            self.get_logger().error(f"cannot be configured: {self._last_error}")
            self._go(PolicyStatus.UNCONFIGURED)
            return FAILURE
        self.get_logger().info(f"loaded and warm after {time.monotonic() - before:.1f} s")
        self._configuration, self._backend, self._last_error = wanted, backend, ""
        self._facts = {
            "contract": str(wanted.contract.path), "min_period": str(wanted.min_period),
            "least_latency": str(wanted.least_latency), **backend.facts(),
        }
        self._runner = Runner(
            wanted.contract,
            wanted.tag,
            backend,
            check_frozen=wanted.check_frozen,
            joint_topic=wanted.joint_topic,
            min_period=wanted.min_period,
            seed=wanted.seed,
            chunk_ids=self._chunk_ids,
            ros_now=lambda: self.get_clock().now().nanoseconds,
            deliver=self._deliver,
            failed=self._on_failure,
            least_latency=wanted.least_latency,
        )
        if wanted.least_latency:
            self.get_logger().warning(
                f"least_latency: every inference lasts {wanted.least_latency:g} s from capture on, at least, to see "
                "what a slower engine would do"
            )
        if wanted.instruction.strip():
            self._runner.set_instruction(wanted.instruction)
        self._go(PolicyStatus.INACTIVE)
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._configuration is not None and self._runner is not None
        if self._runner.hangs:
            self.get_logger().error("the last inference has not ended; start the policy's process anew")
            return FAILURE
        wanted = self._configuration
        self._matcher = Matcher(self, wanted.contract, wanted.tag, wanted.joint_topic)
        self._controllers = [
            self.create_subscription(ControllerStatus, f"{arm}/status", partial(self._on_controller, arm), STATUS)
            for arm in wanted.contract.arms
        ]
        self._last_error, self._failed = "", False
        self._runner.reset()
        # Controllers must know the episode before its first chunk.
        self._go(PolicyStatus.ACTIVE)
        self._runner.start(self._matcher)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt("the policy was deactivated")
        self._go(PolicyStatus.ERROR if self._failed else PolicyStatus.INACTIVE)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        self._go(PolicyStatus.UNCONFIGURED)
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt("the policy was shut down")
        self._release()
        self._go(PolicyStatus.FINALIZED)
        return SUCCESS

    def _halt(self, why: str) -> None:
        self._tasks.policy_ended(self._last_error if self._failed else why, self._failed)
        if self._matcher is not None:
            self._matcher.close(self)
            self._matcher = None
        for subscription in self._controllers:
            self.destroy_subscription(subscription)
        self._controllers = []
        if self._runner is not None:
            self._runner.stop()

    def _release(self) -> None:
        # An inference that hangs still uses it.
        if self._backend is not None and not (self._runner and self._runner.hangs):
            self._backend.close()
        self._backend = self._runner = self._configuration = None
        self._facts = {}

    # --- inference thread ---------------------------------------------------------------------------------------------
    def _deliver(self, outcome: Outcome) -> None:
        wanted = self._configuration
        assert wanted is not None
        if not outcome.withheld:
            self._chunks.publish(chunk_message(outcome, wanted.contract, wanted.tag))
        # After the chunk, which arms wait for: a trace takes longer to make, with the digests of its images.
        self._traces.publish(trace_message(outcome, wanted.tag, self.resolve_topic_name))

    def _on_failure(self, text: str) -> None:
        """The engine failed: no more chunks until an operator activates it again."""
        self.get_logger().error(text)
        # The executor's thread deactivates the node and tells of it.
        self._last_error, self._failed = text, True

    # --- executor thread ----------------------------------------------------------------------------------------------
    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "instruction" and self._runner is not None:
                try:
                    self._runner.set_instruction(parameter.value)
                except ValueError as error:
                    return SetParametersResult(successful=False, reason=str(error))
            elif self._configuration is not None and parameter.name not in ("instruction", "use_sim_time"):
                return SetParametersResult(
                    successful=False, reason=f"{parameter.name} is read when configuring; clean up and configure anew"
                )
        return SetParametersResult(successful=True)

    def _on_controller(self, arm: str, status: ControllerStatus) -> None:
        if self._runner is None:
            return
        self._tasks.hear_controller(arm, status)
        self._runner.state_health.measured(arm, stamp_ns(status), status.joint_names, status.measured)
        heard = Heard(
            status.joining, status.chunk_id, status.waypoints_consumed_at_acceptance, status.acceptance_latency,
            status.path_lag, status.last_refused_chunk_id,
        )
        self._runner.continuity.hear(arm, heard, status.episode_id == self._runner.episode_id)

    def _on_instruction(self, message: String) -> None:
        if self._runner is None:
            self.get_logger().warning("an instruction came before the node was configured; it is not kept")
            return
        try:
            self._runner.set_instruction(message.data)
        except ValueError as error:
            self.get_logger().warning(f"policy/instruction: {error}")

    def _on_set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        if self._runner is None:
            response.message = "the policy is not configured yet"
            return response
        try:
            self._runner.set_instruction(request.instruction)
        except ValueError as error:
            response.message = str(error)
        else:
            if request.new_episode:
                self._runner.reset()
            response.success, response.message = True, f"instruction is now {request.instruction!r}"
        response.episode_id = self._runner.episode_id
        self._publish_status()
        return response

    def _on_reset(self, _: ResetEpisode.Request, response: ResetEpisode.Response) -> ResetEpisode.Response:
        if self._runner is None:
            response.message = "the policy is not configured yet"
            return response
        response.success, response.message = True, "a new episode begins"
        response.episode_id = self._runner.reset()
        self._publish_status()
        return response

    # --- status -------------------------------------------------------------------------------------------------------
    def _active_runner(self) -> Runner | None:
        return self._runner if self._state == PolicyStatus.ACTIVE else None

    def _go(self, state: int) -> None:
        self._state = state
        self._publish_status()

    def _status_message(self) -> PolicyStatus:
        settings = self._configuration.settings if self._configuration else Settings("", "")
        now = self.get_clock().now()
        ages = {
            self.resolve_topic_name(topic): (now.nanoseconds - stamp) / 1e9 if stamp >= 0 else -1.0
            for topic, stamp in (self._matcher.stamps if self._matcher else {}).items()
        }
        backend, fingerprint = (self._backend.name, self._backend.fingerprint) if self._backend else ("", "")
        message = status_message(
            self._state, self._process_id, settings, self._facts, backend, self._runner, ages, self._last_error,
            now.to_msg(), fingerprint,
        )
        if self._tasks.last is not None:
            message.ended_episode_id, ending = self._tasks.last
            message.ended, message.ended_message = int(ending.ended), ending.message
        return message

    def _publish_status(self) -> None:
        self._status.publish(self._status_message())

    def _publish_diagnostics(self) -> None:
        lost = self._runner.continuity.standing_share() if self._runner else 0.0
        self._diagnostics.publish(diagnostics_message(self._status_message(), lost))

    def _watch(self) -> None:
        """Leaves the active state after a failure; publishes the status when what a watcher acts on has changed."""
        if self._failed and self._matcher is not None:
            self.trigger_deactivate()
        runner = self._runner
        if runner and self._configuration and runner.busy > self._configuration.inference_timeout and not self._failed:
            most = self._configuration.inference_timeout
            self._on_failure(f"an inference hangs: it has taken more than {most:g} s (parameter inference_timeout)")
        silent = runner.silent_because if runner else ""
        shown = (silent, runner.instruction, runner.episode_id) if runner else ()
        if shown != self._shown:
            if silent and self._state == PolicyStatus.ACTIVE:
                self.get_logger().info(f"no chunks: {silent}", throttle_duration_sec=1.0)
            self._shown = shown
            self._publish_status()

    def leave(self) -> None:
        """Ends publishing and the task, once; spin the node a little longer, so that its client hears of it."""
        if self._state == PolicyStatus.FINALIZED:
            return
        self._halt("the policy process is being ended")
        self._go(PolicyStatus.FINALIZED)

    def close(self) -> None:
        self.leave()
        self._release()
        self._tasks.close()


def make_backend(wanted: Configuration) -> Backend:
    if wanted.remote is None:
        return InProcessBackend(wanted.settings, wanted.contract)
    return ActBackend(wanted.settings, wanted.contract, wanted.remote, wanted.seed is not None, wanted.simulation)


def main() -> int:
    return run_node(PolicyNode, "policy", (ParameterException,), PolicyNode.leave, PolicyNode.close)


if __name__ == "__main__":
    sys.exit(main())
