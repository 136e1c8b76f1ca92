# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The devices' part of the check: starts what senses, with controllers in shadow, and listens. Nothing can move."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from molmoact2_contract import Contract, System

from ..running import RunningSystem
from .alone import ANNOUNCED, DISCOVERY, MEND, speaking
from .clocks import clock_lines, moments_line
from .heard import Heard
from .line import Line, failed, passed, skipped, warned
from .listener import Listener
from .no_policy import NoPolicy
from .options import Options
from .pictures import SHEET, save
from .ranges import state_lines
from .report import Interrupted, Report
from .sensors import camera_line, cycle_line, health_line, joints_line, report_lines, reported_bus_line
from .wanted import controllers_of, image_names, publishers_of, rate_of, without_motion

if TYPE_CHECKING:    # of the computer with the policy
    from molmoact2_policy.parameters import Configuration

    from .checkpoint import Known
    from .policy import PolicyCheck

STARTED_WITHIN = 45.0  # [s]; a simulated world builds its scene first
THERE_WITHIN = 8.0     # [s] where nothing is started
LOOK = 0.1             # [s]
PROCESSES, IN_USE = "processes", "already running"


class Log:
    """Takes the lines of processes, and remembers the last of each that tells of an error."""

    def __init__(self, write: Callable[[str], None]):
        self._write = write
        self._errors: dict[str, str] = {}

    def __call__(self, line: str) -> None:
        self._write(line)
        name, bracket, text = line.partition("] ")
        if bracket and name.startswith("[") and "error" in text.lower():
            self._errors[name[1:]] = text.strip()

    def error(self, process: str) -> str:
        """Empty where it told of none."""
        return self._errors.get(process, "")


class DeviceCheck:
    def __init__(
        self, system: System, configuration: Configuration | None, known: Known | None, options: Options,
        report: Report, log: Callable[[str], None],
    ):
        self._system, self._contract, self._options, self._report = system, system.contract, options, report
        self._configuration, self._known, self._log = configuration, known, Log(log)
        self._nothing, self._taken = replace(system, processes=()), list[str]()

    def look_around(self) -> bool:
        """Whether devices may be opened and processes started: not where another system runs in this ROS domain, which
        is then a line of the report. Comes before run(). Errors: Interrupted."""
        with RunningSystem(self._nothing, self._log) as graph:
            self._taken = others(graph, self._contract)
        if self._options.running or not self._taken:
            return not self._options.running
        mend = f"look at it as it runs: --running; or {MEND}"
        self._report.add(failed(IN_USE, f"a system runs in this ROS domain: {', '.join(self._taken)}", mend))
        return False

    def run(self, unfit: tuple[str, ...], policy: PolicyCheck | NoPolicy) -> float:
        """unfit: controllers not to start. Returns the bytes per second that were heard. Errors: Interrupted."""
        taken = self._taken
        if taken and not self._options.running:
            policy.ask(None)
            return 0.0
        started = self._nothing if self._options.running else without_motion(self._system, unfit)
        cameras = image_names(self._contract, self._configuration)
        with RunningSystem(started, self._log) as running:
            listener = Listener(running.node, self._system, cameras)
            self._wait(running, listener)
            if self._options.running:
                self._report.add(passed(PROCESSES, f"listening to {', '.join(taken) or 'what runs'}; none was started"))
            else:
                self._report.add(self._processes(running))
            heard = self._listen(running, listener)
            self._judge(heard)
            if self._options.running and heard.policy is None:
                policy.load()
            policy.ask(heard, running.stopping.is_set)
            _stop_if_asked(running)
        for exit_ in running.unclean:
            self._report.add(warned(PROCESSES, f"on ending, {exit_}", "see log.txt"))
        return rate_of_recording(heard)

    def _wait(self, running: RunningSystem, listener: Listener) -> None:
        """Until everything was heard, or patience is over."""
        alive = len(running.system.processes)
        deadline = time.monotonic() + (STARTED_WITHIN if alive else THERE_WITHIN)
        while listener.silent() and time.monotonic() < deadline:
            _stop_if_asked(running)
            if alive and len(running.ended) == alive:
                return
            running.stopping.wait(LOOK)

    def _listen(self, running: RunningSystem, listener: Listener) -> Heard:
        listener.begin()
        running.stopping.wait(self._options.seconds)
        _stop_if_asked(running)
        return listener.end()

    def _processes(self, running: RunningSystem) -> list[Line]:
        ended = running.ended
        lines = []
        for exit_ in ended:
            said = self._log.error(exit_.name)
            lines.append(failed(PROCESSES, f"{exit_}" + (f": {said}" if said else ""), "as it says; see log.txt"))
        alive = [p.name for p in running.system.processes if p.name not in {e.name for e in ended}]
        if alive:
            lines.append(passed(PROCESSES, f"{', '.join(alive)} run, controllers in shadow: nothing can move"))
        return lines or [skipped(PROCESSES, "there is none to start")]

    def _judge(self, heard: Heard) -> None:
        contract, add = self._contract, self._report.add
        names = save(heard.cameras, self._options.out)
        for camera, images in heard.cameras.items():
            rate = None if self._options.running else rate_of(publishers_of(self._system).get(camera))
            add(camera_line(images, contract.cameras[camera], rate, self._system.simulation, names[camera]))
        shown = ", ".join(f"image {n} {camera}" for n, camera in enumerate(heard.cameras, 1))
        if any(images.image is not None for images in heard.cameras.values()):
            add(passed("pictures", f"{self._options.out / SHEET}: {shown}; look whether each is what its name says"))
        add(joints_line(heard, contract))
        state = heard.state(contract.joint_names)
        if state is None:
            add(skipped("joint ranges", "not every joint was heard"))
        else:
            tag = self._configuration.tag if self._configuration else None
            add(state_lines(state, self._known.seen if self._known else None, contract, tag))
        self._judge_arms(heard)
        add(clock_lines(heard, contract))
        add(moments_line(heard, contract))
        add(report_lines(heard))

    def _judge_arms(self, heard: Heard) -> None:
        contract, add = self._contract, self._report.add
        for arm in contract.arms:
            add(cycle_line(arm, heard, contract))
            # Of a device of its own the bus was measured before its controller took it.
            if self._system.simulation or self._options.running:
                add(reported_bus_line(arm, heard.reports, 1.0 / contract.setpoint_hz))
            process = controllers_of(self._system).get(arm)
            driver = str(process.parameters.get("driver", "")) if process else ""
            add(health_line(arm, driver, heard.reports))


def others(graph: RunningSystem, contract: Contract) -> list[str]:
    """Topics of controllers and policies that run in this ROS domain, whatever their robot, once they have shown
    themselves. Errors: Interrupted."""
    own = {f"{arm}/status" for arm in contract.arms} | {ANNOUNCED}
    deadline = time.monotonic() + DISCOVERY
    while time.monotonic() < deadline and not own <= set(speaking(graph.node)):
        _stop_if_asked(graph)
        graph.stopping.wait(LOOK)
    return sorted(speaking(graph.node))


def _stop_if_asked(running: RunningSystem) -> None:
    if running.stopping.is_set():
        raise Interrupted


def rate_of_recording(heard: Heard) -> float:
    """Bytes per second of images and joint states, as they come."""
    joints = sum(group.rate * 24 * len(names) for names, group in heard.joints.items())
    return joints + sum(images.rate * images.bytes_each for images in heard.cameras.values())
