# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The policy's own engine, loaded and asked: whether it answers, how fast, and what it plans. No ROS here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from molmoact2_contract import Contract, NormTag
from molmoact2_policy.backend import Backend, BackendError, Unanswered
from molmoact2_policy.continuity import least_loss
from molmoact2_policy.model_frame import ModelFrame
from molmoact2_policy.parameters import Configuration
from molmoact2_policy.runner import MARGIN

from .line import Line, failed, passed, skipped, warned
from .report import Interrupted

LOADS, ANSWERS, LATENCY, PLAN, TIMEOUTS = "checkpoint loads", "inference", "latency", "first plan", "policy timeouts"
COUNT, WHOLE = 5, 3    # inferences, as they follow each other; and with every depth code anew
BUDGET = 30.0          # [s]; of slower ones fewer are made, of each kind one at least
INSTRUCTION = "pick up the red cube"
SLOWER = "use a GPU (policy.device=cuda), policy.dtype=bfloat16, policy.depth=off or fewer policy.num_steps"


@dataclass(frozen=True)
class Measured:
    """seconds: of each inference; whole: of each with every depth code anew, empty without depth; actions: float32
    (H, D) of the last, in the checkpoint's frame."""

    seconds: tuple[float, ...]
    whole: tuple[float, ...]
    actions: np.ndarray


def load(backend: Backend, clock: Callable[[], float] = time.perf_counter) -> Line:
    """Loads and warms up, as the policy does when it is configured."""
    began = clock()
    try:
        backend.load()
    except Exception as error:    # e.g. a GPU without enough memory, whose error is torch's own
        text = str(error) if isinstance(error, BackendError) else repr(error)
        return failed(LOADS, text, "see the message; docs/checkpoints.md says what loads")
    return passed(LOADS, f"loaded and warm after {clock() - began:.1f} s, fingerprint {backend.fingerprint[:16]}")


def measure(
    backend: Backend, configuration: Configuration, images: Sequence[np.ndarray], state: np.ndarray,
    clock: Callable[[], float] = time.perf_counter, stopped: Callable[[], bool] = lambda: False,
) -> Measured | Line:
    """Inferences on these images, uint8 (H, W, 3), and this state, float64 (D,) in ROS units; a line where there is no
    answer. stopped: whether to give up. Errors: Interrupted where it was so."""
    model_state = ModelFrame(configuration.contract, configuration.tag).to_model(state)
    instruction = configuration.instruction.strip() or INSTRUCTION

    def one() -> tuple[float, np.ndarray]:
        if stopped():
            raise Interrupted
        began = clock()
        actions = backend.infer(images, model_state, instruction, configuration.seed).actions
        return clock() - began, actions

    try:
        backend.check_instruction(instruction)
        _, actions = one()    # of another size than what it was warmed up with
        seconds: list[float] = []
        while len(seconds) < COUNT and sum(seconds) < BUDGET:
            seconds.append(one()[0])
        whole: list[float] = []
        while configuration.settings.depth != "off" and len(whole) < WHOLE and sum(whole) < BUDGET:
            backend.reset()
            whole.append(one()[0])
    except (BackendError, Unanswered, ValueError) as error:
        return failed(ANSWERS, str(error), "see what the cameras show (cameras.png), and policy.instruction")
    return Measured(tuple(seconds), tuple(whole), actions)


def lasts_of(steps: int, tag: NormTag) -> float:
    """How long a chunk of so many waypoints lasts, from its observation on [s]."""
    return (steps - 1 + tag.first_offset) * tag.dt


def latency_lines(measured: Measured, age: float | None, configuration: Configuration) -> list[Line]:
    """age: of images when they come [s], None where it was not measured."""
    lasts = lasts_of(len(measured.actions), configuration.tag)
    return [
        _latency_line(measured, age or 0.0, lasts, age is not None),
        _timeouts_line(measured, age or 0.0, configuration),
    ]


def running_line(usual: float, late: float, lasts: float) -> Line:
    """usual, late: from capture to chunk, median and 95th percentile, as a policy that runs says [s]; 0 before its
    first."""
    if not late:
        return skipped(LATENCY, "the policy that runs has made no chunk yet")
    text = f"from capture to chunk {usual:.3f} s (median, 95 % within {late:.3f} s), by the policy that runs"
    return _held_against(usual, late, lasts, text)


def _latency_line(measured: Measured, age: float, lasts: float, age_is_known: bool) -> Line:
    usual, slowest = median(measured.seconds), max(measured.seconds)
    text = f"an inference takes {usual:.3f} s (median of {len(measured.seconds)}, slowest {slowest:.3f} s)"
    if measured.whole:
        text += f", with every depth code anew {median(measured.whole):.3f} s"
    text += f"; images are {age:.3f} s old when they come" if age_is_known else "; the age of images was not measured"
    latency, anew = usual + age, median(measured.whole or measured.seconds) + age
    return _held_against(latency, anew, lasts, text)


def _held_against(latency: float, longest: float, lasts: float, text: str) -> Line:
    """longest: what it may take now and then [s]."""
    text += f": {latency:.3f} s of the {lasts:.3f} s that a chunk lasts"
    useful = lasts - MARGIN
    if latency >= useful:
        return failed(LATENCY, f"{text}; chunks come when they are over", SLOWER)
    if latency > useful / 2:
        lost = least_loss(latency, useful)
        pauses = f"{text}; motion pauses between chunks, at least {lost:.0%} of the time is lost"
        return warned(LATENCY, pauses, f"{SLOWER}; when_late: slow of the controller moves on slowly (docs/motion.md)")
    if longest > useful / 2:
        return warned(LATENCY, f"{text}; motion pauses where it takes {longest:.3f} s", SLOWER)
    return passed(LATENCY, text)


def _timeouts_line(measured: Measured, age: float, configuration: Configuration) -> Line:
    slowest = max((*measured.seconds, *measured.whole))
    oldest, patience = configuration.contract.max_observation_age, configuration.inference_timeout
    text = (
        f"chunks are {slowest + age:.3f} s old at their arrival at most, {oldest:g} s are allowed "
        f"(max_observation_age); an inference counts as hung after {patience:g} s"
    )
    if slowest + age > oldest:
        return failed(TIMEOUTS, text, SLOWER)
    if slowest > patience:
        return failed(TIMEOUTS, text, "raise policy.inference_timeout, or make inferences faster")
    return passed(TIMEOUTS, text)


def plan_line(actions: np.ndarray, state: np.ndarray, contract: Contract, tag: NormTag) -> Line:
    """Whether the plan begins where the arm is and stays within its limits: the controller's own conditions. actions:
    (H, D) in the checkpoint's frame; state: float64 (D,) in ROS units."""
    waypoints, _ = ModelFrame(contract, tag).actions_to_ros(actions)
    if not np.isfinite(waypoints).all():
        return failed(PLAN, "the model asks for positions that are not numbers", "use another checkpoint")
    off, plausible = np.abs(waypoints[0] - state), contract.values("max_step")
    joint = int(np.argmax(off / plausible))
    name = contract.joint_names[joint]
    begins = f"it begins {off[joint]:.3f} from where {name} is ({plausible[joint]:g} is plausible)"
    if off[joint] > plausible[joint]:
        return warned(
            PLAN, f"{begins}; the controller would refuse it",
            f"see unit, sign and offset of {name} in model_frame, the order of the cameras, and the arm's pose",
        )
    lower, upper = contract.values("lower"), contract.values("upper")
    outside = ((waypoints < lower) | (waypoints > upper)).any(axis=0)
    if outside.any():
        names = ", ".join(n for n, is_out in zip(contract.joint_names, outside, strict=True) if is_out)
        return warned(PLAN, f"{begins}; it leaves the limits of {names}", "begin at a pose as in the demonstrations")
    return passed(PLAN, f"{begins}, and stays within the limits")
