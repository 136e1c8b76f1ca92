# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a system file says of its policy and its controllers, read as those processes would read it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from molmoact2_contract import Contract, ContractError, Process, System

if TYPE_CHECKING:    # not on a robot's own computer
    from molmoact2_policy.parameters import Configuration

CONTROLLER, POLICY = ("arm_controller", "arm_controller"), ("molmoact2_policy", "policy")
CAMERAS = (("mujoco_driver", "cameras"), ("camera_driver", "camera"))


def _kind(process: Process) -> tuple[str, str]:
    return process.package, process.executable


def policy_of(system: System) -> Process | None:
    """The policy; None where the system has none."""
    return next((p for p in system.processes if _kind(p) == POLICY), None)


def controllers_of(system: System) -> dict[str, Process]:
    """Arm controllers, by arm."""
    found = (p for p in system.processes if _kind(p) == CONTROLLER)
    return {str(p.parameters.get("arm", "arm")): p for p in found}


def configuration_of(process: Process) -> Configuration:
    """The policy's configuration. Errors: ContractError, also for parameters that the policy does not have, which ROS
    passes over without a word, and for values of another type or out of range."""
    from molmoact2_policy.parameters import INTEGERS, NUMBERS, configured

    ranges: dict[str, tuple[float, float]] = {
        **{name: (least, most) for name, (_, least, most, _) in INTEGERS.items()},
        **{name: (0.0, highest) for name, (_, highest, _) in NUMBERS.items()},
    }
    defaults = policy_defaults()
    for name, value in process.parameters.items():
        if name not in defaults:
            raise ContractError(f"process {process.name!r}: the policy has no parameter {name!r}; is it misspelt?")
        expected = type(defaults[name])
        if type(value) is not expected:
            raise ContractError(f"process {process.name!r}: {name} is {value!r}; it must be a {expected.__name__}")
        least, most = ranges.get(name, (value, value))
        if not least <= value <= most:
            raise ContractError(f"process {process.name!r}: {name} is {value!r}; it must be {least:g} to {most:g}")
    return configured(lambda name: process.parameters.get(name, defaults[name]))


def policy_defaults() -> dict[str, Any]:
    """All parameters of the policy node."""
    from molmoact2_policy.parameters import INTEGERS, NUMBERS, TEXTS

    return {
        **{name: entry[0] for entries in (TEXTS, INTEGERS, NUMBERS) for name, entry in entries.items()},
        "simulation": False,
        "draft": False,
        "instruction": "",
    }


def image_names(contract: Contract, configuration: Configuration | None) -> tuple[str, ...]:
    """Cameras in the model's order; in the contract's where there is no policy."""
    return configuration.tag.cameras if configuration else tuple(contract.cameras)


def publishers_of(system: System) -> dict[str, Process]:
    """By camera of the contract, the process that publishes it, as far as that shows: the suite's own camera nodes."""
    found: dict[str, Process] = {}
    for process in system.processes:
        if _kind(process) == CAMERAS[0]:
            found |= dict.fromkeys(system.contract.cameras, process)
        elif _kind(process) == CAMERAS[1]:
            found[str(process.parameters.get("camera", ""))] = process
    return found


def rate_of(process: Process | None) -> float | None:
    """Images per second that a camera's process is asked for; None where that is not known."""
    given = process.parameters if process else {}
    rate = given.get("camera_rate", given.get("rate"))
    return float(rate) if rate else None


def heard_as(system: System, topic: str) -> str:
    """The name under which the policy hears a topic; where there is no policy, that which a controller gives it."""
    policy = policy_of(system)
    for process in [policy] if policy else controllers_of(system).values():
        if topic in process.remap:
            return process.remap[topic]
    return topic


def without_motion(system: System, leave_out: tuple[str, ...] = ()) -> System:
    """What senses: the system without policy, visualizer and recorder, its controllers in shadow, so that nothing can
    move. leave_out: names of processes to leave out besides."""
    return _chosen(system, leave_out, shadow=True)


def with_motion(system: System, arm: str) -> System:
    """What moves one arm: its controller alone, armed by nobody, and where it is simulated what it stands on."""
    others = tuple(p.name for a, p in controllers_of(system).items() if a != arm)
    chosen = _chosen(system, others, shadow=False)
    needed = [p for p in chosen.processes if _kind(p) == CONTROLLER or (system.simulation and _kind(p) not in CAMERAS)]
    return replace(chosen, processes=tuple(needed))


def _chosen(system: System, leave_out: tuple[str, ...], shadow: bool) -> System:
    processes = []
    for process in system.processes:
        if process.package == POLICY[0] or process.name in leave_out:
            continue
        if _kind(process) == CONTROLLER:
            changed = {"shadow": shadow, "auto_arm": False}
            # Of several arms one is moved alone: nobody else's controller runs then.
            changed |= {} if shadow else {"alone": True}
            process = replace(process, parameters={**process.parameters, **changed})
        processes.append(process)
    return replace(system, processes=tuple(processes))
