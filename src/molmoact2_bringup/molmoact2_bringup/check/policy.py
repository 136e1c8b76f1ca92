# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The policy's part of the check: memory, loading, and inferences on what the cameras show. No ROS here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from molmoact2_contract import System
from molmoact2_model.memory import free_memory, idle_gpu
from molmoact2_policy.backend import Backend
from molmoact2_policy.parameters import Configuration

from . import machine
from .checkpoint import Known
from .heard import Heard, Thinking
from .latency import ANSWERS, LATENCY, LOADS, lasts_of, latency_lines, load, measure, plan_line, running_line
from .line import FAIL, Line, failed, passed, skipped, warned
from .report import Report
from .wanted import policy_of, publishers_of

RUNS = "policy"
SIZE = 640, 480    # of a made-up image where the system file names no other [px]


class PolicyCheck:
    """configuration, known: None where the lines before say why; known also where a server has the checkpoint. make:
    the policy's backend, not loaded."""

    def __init__(
        self, system: System, configuration: Configuration | None, known: Known | None, report: Report,
        make: Callable[[Configuration], Backend],
    ):
        self._system, self._report = system, report
        self._configuration, self._known, self._make = configuration, known, make
        self._backend: Backend | None = None

    def load(self) -> None:
        """Weights that do not fit into memory are not loaded."""
        configuration = self._configuration
        remote = configuration is not None and configuration.remote is not None
        if configuration is None or (self._known is None and not remote):
            why = "the checkpoint cannot be used" if policy_of(self._system) else "the system file has no policy"
            self._report.add([skipped(machine.MEMORY, why), skipped(LOADS, why)])
            return
        if remote or self._known is None:
            memory = skipped(machine.MEMORY, "the weights are in a server's memory")
        else:
            memory = _memory(configuration.settings.device, self._known.weights)
        self._report.add(memory)
        if memory.outcome == FAIL:
            self._report.add(skipped(LOADS, "there is no memory for it"))
            return
        backend = self._make(configuration)
        line = load(backend)
        self._report.add(line)
        if line.outcome != FAIL:
            self._backend = backend

    def ask(self, heard: Heard | None, stopped: Callable[[], bool] = lambda: False) -> None:
        """Inferences on what was heard; on made-up images where not everything was. Of a policy that runs, what it says
        of its own. Errors: Interrupted where a stop was asked for."""
        if heard is not None and heard.policy is not None and self._backend is None:
            self._report.add(self._as_it_runs(heard.policy))
            return
        if self._backend is None or self._configuration is None:
            self._report.add(skipped(LATENCY, "the checkpoint was not loaded"))
            return
        configuration, contract = self._configuration, self._configuration.contract
        state = heard.state(contract.joint_names) if heard else None
        images = [images.image for images in heard.cameras.values()] if heard else []
        seen = [image for image in images if image is not None]
        real = state is not None and len(seen) == len(configuration.tag.cameras)
        if not real:
            seen, state = made_up(self._system, configuration), contract.values("home")
        assert state is not None
        measured = measure(self._backend, configuration, seen, state, stopped=stopped)
        if isinstance(measured, Line):
            unreal = skipped(LATENCY, f"no action for made-up images, which says little: {measured.text}")
            self._report.add(measured if real else unreal)
            return
        ages = [float(np.median(i.ages)) for i in heard.cameras.values() if len(i)] if heard else []
        lines = latency_lines(measured, max(ages) if real else None, configuration)
        self._report.add(lines)
        if real:
            self._report.add(plan_line(measured.actions, state, contract, configuration.tag))
        else:
            self._report.add(skipped(ANSWERS, "made-up images were shown: not every camera and joint was heard"))

    def _as_it_runs(self, policy: Thinking) -> list[Line]:
        configuration, known = self._configuration, self._known
        if configuration is None or known is None:
            return [skipped(LATENCY, "the checkpoint of the system file is not known")]
        wanted = (configuration.settings.checkpoint, configuration.tag.name)
        text = f"it runs {policy.checkpoint} with norm tag {policy.norm_tag}"
        if (policy.checkpoint, policy.norm_tag) != wanted:
            line = failed(RUNS, f"{text}, the system file says {' and '.join(wanted)}", "start the system anew")
        elif not policy.active or policy.trouble:
            trouble = policy.trouble or "it is not active"
            line = warned(RUNS, f"{text}; it makes no chunks: {trouble}", "as it says")
        else:
            line = passed(RUNS, text)
        return [line, running_line(policy.latency, policy.late, lasts_of(known.steps, configuration.tag))]

    def close(self) -> None:
        """Frees the memory of the checkpoint."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None


def _memory(device: str, needed: int) -> Line:
    try:
        free, of = free_memory(device)
        return machine.memory_line(needed, free, of, idle_gpu(device))
    except RuntimeError as error:
        return failed(machine.MEMORY, str(error), "set policy.device=cpu, or see that the GPU's driver is loaded")


def made_up(system: System, configuration: Configuration) -> list[np.ndarray]:
    """An image for each camera, uint8 (H, W, 3), of the size that its process is asked for."""
    publishers, images = publishers_of(system), []
    for camera in configuration.tag.cameras:
        process = publishers.get(camera)
        given = process.parameters if process else {}
        width = int(given.get("image_width", given.get("width", 0))) or SIZE[0]
        height = int(given.get("image_height", given.get("height", 0))) or SIZE[1]
        shade = np.linspace(40, 215, width)[None, :] * np.linspace(0.6, 1.0, height)[:, None]
        images.append(np.repeat(shade[..., None], 3, axis=2).astype(np.uint8))
    return images
