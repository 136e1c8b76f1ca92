# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Judges what cameras, joints and devices said. No ROS here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from molmoact2_contract import Camera, Contract
from molmoact2_contract.image_fault import image_fault

from .heard import ERROR, OK, Heard, Images, Report, Ticks
from .line import Line, failed, passed, skipped, warned

HEALTH = ": health"    # an arm's entry of this name on /diagnostics has what its device says of itself
BUS = "bus cycle"      # its readings of this name say how long the bus takes
SLOW = 0.8             # share of the images asked for
LEAST_IMAGES = 5.0     # per second
LATE_TICKS = 0.02      # share of setpoint ticks
LONG = 2.0             # times the period of setpoints
GUIDE = "docs/cameras.md"
SLOW_BUS = "look at the bus: its rate, its adapter's latency timer, a hub or cameras on the same USB"


def camera_line(images: Images, camera: Camera, rate: float | None, simulation: bool, saved: str) -> Line:
    """rate: images per second that were asked for, None where that is not known; saved: name of the picture."""
    what = f"camera {camera.name}"
    if not len(images):
        return failed(what, f"nothing came on {images.topic}", f"start it, see its process in log.txt, {GUIDE}")
    if min(images.stamps) <= 0:
        return failed(what, "its stamps are zero", "use a driver that stamps with the time of capture")
    if images.frames != {camera.frame_id}:
        return failed(
            what, f"its frame is {', '.join(sorted(images.frames))}, the contract's {camera.frame_id}; is it another "
            "camera?", "exchange the cameras' names in the system file, or set frame_id in the contract",
        )
    if images.image is None:
        return failed(what, images.error or "its images cannot be read", "have it send rgb8, bgr8 or JPEG")
    if len(images.sizes) > 1:
        sizes = ", ".join(f"{width} x {height}" for width, height in sorted(images.sizes))
        return failed(what, f"its size changes: {sizes}", "fix its size in its driver")
    fault = image_fault(images.image)
    if fault:
        mend = "look whether its lens is covered, and at light and exposure"
        return failed(what, f"it is {fault} ({saved})", mend)
    frozen = images.repeats >= len(images) - 1 > 0
    if frozen and not simulation and camera.frozen_after is not None:
        return failed(what, f"all {len(images)} images are equal", "plug it in anew; docs/cameras.md")
    (width, height), = images.sizes
    text = f"{width} x {height} {', '.join(sorted(images.encodings))}, {images.rate:.1f} images per second; {saved}"
    if frozen and simulation:
        text += "; all are equal, as a simulated scene that stands still may be"
    if rate is not None and images.rate < SLOW * rate:
        mend = "more light or fixed exposure; fewer cameras on one USB controller"
        return warned(what, f"{text}; {rate:g} were asked for", mend)
    if images.rate < LEAST_IMAGES:
        return warned(what, f"{text}; what moves is seen late", "ask its driver for more")
    return passed(what, text)


def joints_line(heard: Heard, contract: Contract) -> Line:
    """Names, numbers, and pauses of the joint states."""
    what, topic = "joint states", heard.joint_topic
    if not heard.joints:
        return failed(what, f"nothing came on {topic}", "see the arm's line and log.txt")
    errors = sorted(error for group in heard.joints.values() for error in group.errors)
    if errors:
        return failed(what, errors[0], f"see what publishes {topic}: ros2 topic info -v {topic}")
    names = [name for group in heard.joints for name in group]
    foreign = sorted(set(names) - set(contract.joints))
    missing = [name for name in contract.joints if name not in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    for problem, joints in (("do not name", missing), ("name unknown", foreign), ("come twice for", twice)):
        if joints:
            mend = f"only controllers may publish {topic}; rename what else does (docs/robots/ros2_control.md)"
            return failed(what, f"they {problem} {', '.join(joints)}", mend)
    if heard.state(contract.joint_names) is None:
        return failed(what, "a position is not a number", "look at the encoder of the joint, and at the driver's log")
    rates = [group.rate for group in heard.joints.values()]
    longest = max(float(group.gaps.max(initial=0.0)) for group in heard.joints.values())
    text = f"{len(names)} joints, {min(rates):.0f} states per second, longest pause {longest * 1e3:.0f} ms"
    text += f" (joint_state_timeout {contract.joint_state_timeout * 1e3:.0f} ms)"
    if longest > contract.joint_state_timeout:
        return warned(what, text, "free the processor and the network; observations wait for joint states")
    return passed(what, text)


def cycle_line(arm: str, heard: Heard, contract: Contract) -> Line:
    """The device's cycle by the stamps of its joint states, and the controller's own count of late setpoints."""
    what, ticks, period = f"cycle {arm}", heard.arms[arm], 1.0 / contract.setpoint_hz
    groups = [group for names, group in heard.joints.items() if set(names) >= set(contract.arms[arm].joints)]
    if not len(ticks) or not groups or len(groups[0]) < 2:
        return failed(what, "its controller says nothing", "see its process in log.txt")
    if ticks.fault:
        return failed(what, f"its controller is in fault: {ticks.fault}", "as it says")
    steps = groups[0].steps
    steps = steps[steps > 0]
    if not len(steps):
        return failed(what, "the stamps of its joint states stand still", "see the driver; positions may be old")
    late = _late(ticks)
    text = (
        f"positions are read each {np.median(steps) * 1e3:.1f} ms (median; longest {steps.max() * 1e3:.1f} ms, "
        f"{period * 1e3:.0f} ms asked for), {late:.1%} of the setpoints were late"
    )
    if steps.max() > contract.joint_state_timeout:
        return failed(
            what, f"{text}; over joint_state_timeout, an armed arm would be in fault",
            "look at the bus and free the processor",
        )
    if np.median(steps) > LONG * period or late > LATE_TICKS:
        return warned(what, text, "look at the bus, free the processor, permit real-time priority (docs/deployment.md)")
    return passed(what, text)


def _late(ticks: Ticks) -> float:
    made = ticks.ticks[-1] - ticks.ticks[0]
    return (ticks.missed[-1] - ticks.missed[0]) / made if made > 0 else 0.0


def reported_bus_line(arm: str, reports: Mapping[str, Report], period: float) -> Line:
    """What the driver itself says of the time its bus takes. period: of setpoints [s]."""
    what, report = f"bus {arm}", reports.get(f"{arm}{HEALTH}")
    given = report.values if report else {}
    figures = {key.removesuffix(" [ms]").split()[-1]: float(v) for key, v in given.items() if key.startswith(BUS)}
    if "median" not in figures:
        return skipped(what, "its driver does not say how long its bus takes")
    text = f"a cycle takes {', '.join(f'{name} {ms:.2f} ms' for name, ms in figures.items())}"
    text += f" of the {period * 1e3:.0f} ms between setpoints"
    if figures["median"] > period * 1e3:
        return failed(what, text, SLOW_BUS)
    return warned(what, text, SLOW_BUS) if max(figures.values()) > period * 1e3 else passed(what, text)


def health_line(arm: str, driver: str, reports: Mapping[str, Report]) -> Line:
    """Temperatures, voltages and what else the device says of itself."""
    what, report = f"health {arm}", reports.get(f"{arm}{HEALTH}")
    values = {k: v for k, v in report.values.items() if not k.startswith(BUS)} if report else {}
    if report is None or (not values and report.level == OK):
        return skipped(what, f"driver {driver or 'of this arm'} reports no temperatures, voltages or errors")
    text = "; ".join(filter(None, (report.message, *grouped(values))))
    return _by_level(what, report.level, text, "let it cool down, look at supply and cables (docs/robots)")


def grouped(values: Mapping[str, str]) -> list[str]:
    """Readings of one kind together: "temperature [°C] 29.0 to 41.0 (elbow_flex)" of the temperatures of all servos."""
    kinds: dict[str, dict[str, str]] = {}
    for key, value in values.items():
        name, _, unit = key.partition(" [")
        of, _, kind = name.rpartition(" ")
        kinds.setdefault(f"{kind} [{unit}" if unit else name, {})[of] = value
    texts = []
    for kind, each in kinds.items():
        try:
            least, most = (choose(each, key=lambda of: float(each[of])) for choose in (min, max))
        except ValueError:    # a word, no figure
            texts += [f"{of} {kind} {value}".strip() for of, value in each.items()]
            continue
        if len(each) == 1:
            texts.append(f"{most} {kind} {each[most]}".strip() if " [" in kind else f"{kind} {each[most]}")
        else:
            texts.append(f"{kind} {each[least]} to {each[most]} ({most})")
    return texts


def report_lines(heard: Heard) -> list[Line]:
    """What else is said on /diagnostics: one line where all is well, one for each that is not."""
    others = [report for name, report in heard.reports.items() if not name.endswith(HEALTH)]
    unwell = [report for report in others if report.level != OK]
    if not unwell:
        said = ", ".join(report.name for report in others) or "nothing was said"
        return [passed("diagnostics", said)] if others else [skipped("diagnostics", said)]
    return [_by_level(f"diagnostics {r.name}", r.level, r.message, "see its process in log.txt") for r in unwell]


def _by_level(what: str, level: int, text: str, mend: str) -> Line:
    if level == OK:
        return passed(what, text)
    return failed(what, text, mend) if level == ERROR else warned(what, text, mend)
