# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is measured, and the figures as a text in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from molmoact2_policy.continuity import least_loss

from .buses import BusCost
from .cameras import CameraCost
from .cost import Cost
from .motion import DISPLACED, RULES, UPSTREAM
from .passage import PARTS, RosPath
from .reaction import NOTICED, Reaction, latest_arrival, mean, worst
from .recorder import CAMERAS, HEIGHT, RATE, WIDTH, Recorded
from .ros_path import JOINT_STATES
from .ros_path import RATE as IMAGE_RATE
from .setpoints import Lateness
from .system import SystemCost
from .trace import Case, Run

NOTE = "Chunks: of molmoact2-tiny-sway-so101, which is fitted to a sway and trained on no task; a still picture."
SMOOTH = "Waypoints smoothed (see above)."
LATENCIES = (0.2, 0.35, 0.45)
COMPUTE = 0.3    # [s] of a latency that is inference where there is a transport delay
JOINED = tuple(Case(rule, latency) for latency in LATENCIES for rule in (UPSTREAM, *RULES))
CHANGED = tuple(replace(case, smooth=True) for case in JOINED)
LATE = tuple(Case("splice", latency, late, smooth=True) for latency in (0.45, 0.6, 0.8) for late in ("hold", "slow"))
WAVERING = (*(Case(rule, 0.35, wavers=True) for rule in RULES), Case("rtc", 0.35, wavers=True, replaces=True))
TRANSPORTED = tuple(
    Case(rule, latency, late, in_flight, smooth=True)
    for latency in (0.6, 0.8)
    for in_flight in (1, 2)
    for rule, late in (("splice", "hold"), ("rtc", "hold"), ("splice", "slow"))
)


@dataclass(frozen=True)
class Results:
    """All that was measured. length: H of a chunk [s]."""

    runs: dict[Case, Run]
    reactions: dict[Case, list[Reaction]]
    costs: list[Cost]
    lateness: Lateness
    recorded: list[Recorded]
    ros_paths: list[RosPath]
    system: SystemCost
    buses: list[BusCost]
    camera: CameraCost
    length: float


def report(results: Results) -> str:
    """All tables. Each ratio is to figures of the same run of the bench."""
    sections = (_borders, _wavering, _late, _transport, _reaction, _guidance, _setpoints, _recorder)
    parts = ["\n".join(section(results)) for section in sections]
    parts += [of_ros_paths(results.ros_paths), "\n".join(_system(results)), of_drivers(results.buses, results.camera)]
    return "\n\n".join(["# Motion, setpoints, recorder, ROS path, replay, drivers", NOTE, *parts]) + "\n"


def table(head: str, rows: Sequence[Sequence[object]]) -> list[str]:
    """head: the titles, with | between them."""
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _borders(results: Results) -> list[str]:
    rows = []
    for case in JOINED:
        run, reference = results.runs[case], results.runs[replace(case, rule=UPSTREAM)]
        steps = [run.border_step(order) for order in (1, 2)]
        times = [f"×{step / reference.border_step(order):.3f}" for order, step in enumerate(steps, 1)]
        rows.append(
            (f"{case.latency:g}", case.rule, f"{steps[0]:.3f}", times[0], f"{steps[1]:.1f}", times[1],
             f"{run.standing:.0%}", f"{run.slowdown:.0%}")
        )  # fmt: skip
    return [
        "## Where chunks meet\n",
        "Largest change from one setpoint to the next at chunk borders, any joint, and its ratio to `upstream`; "
        "share of time standing still; slowdown to stay within limits. `upstream` holds while the model runs, then "
        "plays the chunk from its first waypoint, within no limits.\n",
        *table(
            "L [s] | rule | velocity [rad/s] | ratio | acceleration [rad/s²] | ratio | standing | slowdown", rows
        ),
        "\nThe waypoints of this checkpoint scatter, which the limits slow at any L. So that lateness and reactions "
        "are seen by themselves, the tables below use chunks smoothed by polynomials, and say so.",
    ]


def _wavering(results: Results) -> list[str]:
    rows = []
    for case in WAVERING:
        run, reference = results.runs[case], results.runs[WAVERING[0]]
        seam, other = float(np.median(run.seams)), float(np.median(reference.seams))
        steps = (f"{run.border_step(order):.{digits}f}" for order, digits in ((1, 3), (2, 1)))
        name = f"{case.rule}, replace" if case.replaces else case.rule
        rows.append((name, f"{seam:.3f}", f"×{seam / other:.2f}", *steps, f"{run.slowdown:.0%}"))
    return [
        "## Plans that disagree\n\nThe demo's plans hardly disagree, so **disagreement is scripted**: every "
        f"other chunk is displaced by {DISPLACED:g} rad in one joint; L = {WAVERING[0].latency:g} s. Seam: the largest "
        "difference between the two chunks where they meet, before blending, median; its ratio to `splice`. They meet "
        "between the last frozen waypoint and the one after it. The gradient can draw a chunk only as far as the "
        "policy holds other plans possible, and this one was fitted to a single motion.\n",
        *table("rule | seam [rad] | ratio | velocity step [rad/s] | acceleration step [rad/s²] | slowdown", rows),
    ]


def _late(results: Results) -> list[str]:
    rows = [(f"{case.latency:g}", case.when_late, *_lost(results, case)) for case in LATE]
    return [
        f"## Chunks that come too late\n\n{SMOOTH} One inference at a time, H = {results.length:.2f} s. Slowdown: "
        "motion that is lost, standing included. The limits brake softly towards the end of a chunk, which costs "
        "something just before chunks are late, and makes the arm creep before it stands.\n",
        *table("L [s] | when_late | standing | slowdown | bound max(0, 2L − H)/L", rows),
    ]


def _lost(results: Results, case: Case) -> tuple[str, str, str]:
    run = results.runs[case]
    bound = least_loss(case.latency, results.length, case.in_flight)
    return f"{run.standing:.0%}", f"{run.slowdown:.0%}", f"{bound:.0%}"


def _transport(results: Results) -> list[str]:
    rows = []
    for case in TRANSPORTED:
        run, parts = results.runs[case], f"{COMPUTE:g} + {case.latency - COMPUTE:g}"
        steps = f"{run.border_step(1):.3f}", f"{run.border_step(2):.1f}"
        rows.append((parts, case.in_flight, case.rule, case.when_late, *steps, *_lost(results, case)))
    return [
        f"## Transport delay: several requests in flight\n\n{SMOOTH} L = inference + transport. A request begins every "
        f"L/k; k is at most L over the {COMPUTE:g} s of one inference, since inferences do not overlap.\n",
        *table(
            "L [s] | k | rule | when_late | velocity [rad/s] | acceleration [rad/s²] | standing | slowdown | "
            "bound max(0, 1 − k(H − L)/L)", rows
        ),
    ]  # fmt: skip


def _reaction(results: Results) -> list[str]:
    rows = []
    for case, found in results.reactions.items():
        times = (f"{of(found, which):.2f}" for which in ("first", "half") for of in (mean, worst))
        arrival = latest_arrival(case, results.length, case.rule == UPSTREAM)
        reference = results.reactions[replace(case, rule=UPSTREAM)]
        ratio = f"×{mean(found, 'half') / mean(reference, 'half'):.2f}"
        rows.append((f"{case.latency:g}", case.rule, *times, f"{arrival:.2f}", ratio))
    return [
        "## Reaction: from a changed scene to changed motion\n",
        f"{SMOOTH} **What the scene does to the plan is scripted**: this checkpoint plans the same motion "
        f"whatever it sees, so a changed scene displaces its plan by {DISPLACED:g} rad in one joint; the engine, "
        "its guidance, the timing and the controller are the real ones. Two runs, alike but for the scene: the time "
        f"from the change until setpoints differ by {NOTICED:.0%} of the displacement (first) and by half of it "
        "(half), mean and worst over the moments at which the scene may change. A change just after an observation "
        "waits for the next: the first chunk that knows of it arrives up to 2L after it, with `upstream` L + H + L. "
        "Ratio: of the mean of half to `upstream`. Cameras are taken to show the scene at once; real ones add up to "
        "one frame.\n",
        *table(
            "L [s] | rule | first, mean [s] | first, worst [s] | half, mean [s] | half, worst [s] | "
            "chunk arrives by [s] | ratio", rows
        ),
    ]  # fmt: skip


def _guidance(results: Results) -> list[str]:
    plain = results.costs[0]
    rows = [
        (cost.name, f"{cost.total * 1e3:.1f}", f"×{cost.total / plain.total:.2f}", f"{cost.expert * 1e3:.1f}",
         f"×{cost.expert / plain.expert:.2f}")
        for cost in results.costs
    ]  # fmt: skip
    return [
        "## What real-time chunking costs\n",
        "Medians, turn by turn, a new picture for each. Only the flow expert pays; how much the whole inference does "
        "depends on its share, which is large in this small checkpoint.\n",
        *table("inference | whole [ms] | ratio | expert [ms] | ratio", rows),
    ]


def _setpoints(results: Results) -> list[str]:
    late = results.lateness
    ms = [f"{value * 1e3:.2f}" for value in (late.p50, late.p99, late.p999, late.worst)]
    return [
        "## Setpoints\n\nWith a busy process on each core: how much later than a period after the last one.\n",
        *table(
            "p50 [ms] | p99 [ms] | p99.9 [ms] | worst [ms] | setpoints | periods lost", [(*ms, late.count, late.lost)]
        ),
        f"\nPrivileges not permitted: {late.privileges or 'none'}.",
    ]


def _recorder(results: Results) -> list[str]:
    rows = [
        (r.storage, r.images, f"{r.share:.0%}", r.received, r.dropped, f"{r.megabytes:.1f}") for r in results.recorded
    ]
    return [
        f"## Recorder\n\n`molmoact2 record` of {CAMERAS} cameras ({WIDTH}x{HEIGHT}, {RATE:g} Hz) that run beside it.\n",
        *table("storage | images | share of one core | messages | dropped | bag [MB/s]", rows),
    ]


def of_ros_paths(paths: Sequence[RosPath]) -> str:
    """The table of the ROS path."""
    rows = [
        (path.transport, name, *(f"{path.times[part][place] * 1e3:.1f}" for part in PARTS), path.count, path.busy)
        for path in paths
        for place, name in enumerate(("p50", "p95"))
    ]
    lines = [
        "## ROS path\n\n"
        f"The policy node, and a process with three cameras ({WIDTH}x{HEIGHT}, {IMAGE_RATE:g} Hz) that fire together "
        f"and joint states ({IMAGE_RATE * JOINT_STATES:g} Hz), over DDS with shared memory as "
        "`docker/fastdds/same_host.xml` sets it; a small checkpoint with random weights. *All but the model* is the "
        "time from the arrival of the newest image in the policy's process to the published chunk, less the model's "
        "own. Its parts: *taken*, until the node has the messages; *read*, until the pixels of all three lie ready; "
        "*rest*, checks, actions, message, publishing. Not in it: *carried*, from the stamp of the images, "
        "before the first is sent, to the arrival of the newest. *Waited*: chunks that are not counted, because the "
        "model was still at work when their images came.\n",
        *table("images |  | all but the model [ms] | taken | read | rest | carried | model | chunks | waited", rows),
    ]
    return "\n".join(lines)


def _system(results: Results) -> list[str]:
    cost = results.system
    times, ratio = (f"{cost.replayed:.2f}", f"{cost.bare:.2f}"), f"×{cost.replayed / cost.bare:.2f}"
    return [
        "## Visualizer and replay\n\nA run of the simulated system; the visualizer's share of one core while nobody "
        "looks, and while its pictures, points and path are looked at. The run made again by `molmoact2 replay` "
        "(without the report), beside the bare model on the same observations, before and after.\n",
        *table(
            "visualizer, unseen | seen | inferences | replay [s] | bare model [s] | ratio",
            [(f"{cost.unseen:.0%}", f"{cost.seen:.0%}", cost.inferences, *times, ratio)],
        ),
    ]


def of_drivers(buses: Sequence[BusCost], camera: CameraCost) -> str:
    """The tables of the drivers of arms and cameras."""
    rows = []
    for cost in buses:
        times = (*_ms(cost.calls), *(_ms(cost.turns) if cost.turns else ("–", "–")))
        rate = f"{cost.rate:.1f} of {cost.wanted:g}"
        shares = f"{cost.late:.2%}", f"{cost.driver:.0%}", f"{cost.double:.0%}"
        rows.append((cost.system, cost.arm, cost.driver_name, *times, rate, *shares, "; ".join(cost.faults) or "none"))
    lines = [
        "## Drivers\n\n**Figures of doubles**: what stands for the device runs on the same computer, behind a pseudo "
        "terminal (so101, yam) or the loopback network (franka), in place of USB, CAN or a cable, whose own times are "
        "missing here. Each system runs whole, all of its arms following chunks. Cycle: read and write together, as "
        "the setpoint process makes them. Turn: an exchange with every motor, where the bus has a loop of its own; "
        "that of the Franka is libfranka's (1 kHz) and is not timed. CPU: of one core; of the driver: the setpoint "
        "process and all of its threads.\n",
        *table(
            "system | arm | driver | cycle p50 [ms] | p99 [ms] | turn p50 [ms] | p99 [ms] | setpoints/s | late | "
            "CPU, driver | CPU, double | faults", rows
        ),
        f"\nThe camera driver: one camera ({WIDTH}x{HEIGHT}), a video (MJPEG) in place of the device, which has to be "
        "decoded as what a UVC camera sends has; one receiver. A RealSense was not timed.\n",
        *table(
            "camera | images/s | CPU, driver",
            [(camera.kind, f"{camera.rate:.1f} of {camera.wanted:g}", f"{camera.share:.0%}")],
        ),
    ]  # fmt: skip
    return "\n".join(lines)


def _ms(times: tuple[float, float]) -> tuple[str, str]:
    return f"{times[0] * 1e3:.2f}", f"{times[1] * 1e3:.2f}"
