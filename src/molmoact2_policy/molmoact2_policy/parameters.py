# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the policy node: declared with descriptions and ranges, checked when the node is configured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from molmoact2_contract import Contract, ContractError, NormTag, find_resource, load_contract
from molmoact2_model import EngineOptions, InputError
from molmoact2_model.engine_options import (
    DRAFT_HELP,
    EULER,
    LANGUAGE_WEIGHTS,
    LANGUAGE_WEIGHTS_HELP,
    NO_OFFLOAD,
    NOISE_SCALE_HELP,
    NOISE_SCALES,
    OFFLOAD_HELP,
    OFFLOADS,
    OPTIMIZATIONS_HELP,
    SOLVER_HELP,
    SOLVERS,
    STORED,
    check_noise_scale,
)
from molmoact2_model.serving.connection import Address

from .act_backend import UNTRIED, Remote
from .backend import Settings
from .smoothing import LONGEST

CHOICES = {
    "backend": ("in_process", "act"),
    "server_images": ("raw", "png", "jpeg"),
    "depth": ("off", "full", "adaptive", "verified"),
    "action_mode": ("continuous", "discrete"),
    "cache_policy": ("bounded", "reference"),
    "dtype": ("float32", "bfloat16", "float16"),
    "rtc": ("gradient", "replace", "off"),
    "check_frozen": ("auto", "on", "off"),
    "solver": tuple(SOLVERS),
    "language_weights": LANGUAGE_WEIGHTS,
    "offload": OFFLOADS,
}
TEXTS = {
    "contract": ("", "path or name of the embodiment contract"),
    "checkpoint": ("", "checkpoint: a folder, a name in checkpoints/, or a Hub id owner/name"),
    "norm_tag": ("", "norm tag: in the checkpoint and in the contract"),
    "depth": ("off", "depth reasoning: off, full, adaptive, verified"),
    "action_mode": ("continuous", "continuous (flow) or discrete (OpenFAST)"),
    "cache_policy": ("bounded", "of adaptive depth: bounded, or reference (the reference's rule alone)"),
    "base_checkpoint": ("", "of a checkpoint that LeRobot saved: the one its training began from"),
    "fast_tokenizer": ("", "folder of a FAST tokenizer, for discrete actions"),
    "device": ("cpu", "torch device: cpu, cuda, cuda:1"),
    "dtype": ("float32", "float32, bfloat16 or float16"),
    "rtc": ("gradient", "where controllers join by rtc: gradient (through the expert), replace (rougher), off"),
    "backend": ("in_process", "where inference happens: in_process, or act (a server: docs/remote.md)"),
    "server_url": ("http://127.0.0.1:8202", "with backend act: the server's address"),
    "server_token_file": ("", "with backend act: file with the server's token in its first line; empty: none"),
    "server_images": ("raw", "with backend act: how images are sent: raw, png, or jpeg (smaller, and loses detail)"),
    "server_image_keys": ("", "names of images on a plain server: a,b,c or yam, droid ...; empty: by the norm tag"),
    "check_frozen": ("auto", "whether a camera that repeats one frame is frozen; auto: yes, except in simulation"),
    "joint_state_topic": ("joint_states", "topic of the joint states"),
    "solver": (EULER, SOLVER_HELP),
    "optimizations": ("", OPTIMIZATIONS_HELP),
    "language_weights": (STORED, LANGUAGE_WEIGHTS_HELP),
    "offload": (NO_OFFLOAD, OFFLOAD_HELP),
}
INTEGERS = {
    "full_refresh_every": (0, 0, 1_000_000, "full depth pass at least every so many inferences; 0: only by cause"),
    "num_steps": (0, 0, 1000, "flow steps; 0: the checkpoint's"),
    "n_action_steps": (0, 0, 10_000, "waypoints of a chunk; 0: the norm tag's"),
    "seed": (-1, -1, 2**62, "seed of the flow's noise; -1 draws a new one for each inference"),
    "server_jpeg_quality": (95, 50, 100, "with server_images jpeg: quality"),
    "threads": (0, 0, 1024, "processor threads of the engine; 0: all cores but one"),
}

NUMBERS = {
    "similarity_threshold": (0.996, 1.0, "of adaptive depth: a cell less alike than that is generated anew"),
    "max_gap": (5.0, 3600.0, "of adaptive depth, bounded: a longer pause between inferences forces a full pass [s]"),
    "noise_scale": (1.0, NOISE_SCALES[1], NOISE_SCALE_HELP),
    "smoothing": (0.0, LONGEST, "a cubic is fitted to so long a stretch of a chunk around each waypoint; 0: none [s]"),
    "min_period": (0.0, 60.0, "least time between the starts of two inferences, unless motion would pause for it [s]"),
    "least_latency": (0.0, 10.0, "in simulations only: an inference lasts so long from capture on, at least [s]"),
    "inference_timeout": (60.0, 3600.0, "an inference that takes longer hangs, which is a failure of the policy [s]"),
    "server_timeout": (10.0, 600.0, "with backend act: an answer that takes longer is given up [s]"),
    "server_connect_timeout": (2.0, 60.0, "with backend act: a connection that takes longer is given up [s]"),
    "rtc_beta": (5.0, 20.0, "where controllers join by rtc, with gradient: largest guidance factor"),
}


@dataclass(frozen=True)
class Configuration:
    """The checked parameters."""

    settings: Settings
    remote: Remote | None    # None: in this process
    contract: Contract
    tag: NormTag
    check_frozen: bool
    joint_topic: str
    min_period: float
    least_latency: float
    inference_timeout: float
    simulation: bool
    seed: int | None
    instruction: str


def declare(node: Node) -> None:
    """Declares every parameter. All are read when configuring; only the instruction may change while running."""
    for name, (text, description) in TEXTS.items():
        node.declare_parameter(name, text, ParameterDescriptor(description=description))
    for name, (default, least, most, description) in INTEGERS.items():
        ranges = [IntegerRange(from_value=least, to_value=most, step=1)]
        node.declare_parameter(name, default, ParameterDescriptor(description=description, integer_range=ranges))
    node.declare_parameter("draft", False, ParameterDescriptor(description=DRAFT_HELP))
    node.declare_parameter("simulation", False, ParameterDescriptor(description="whether the robot is simulated"))
    node.declare_parameter(
        "instruction", "", ParameterDescriptor(description="the task in words; may change while running")
    )
    for name, (number, highest, description) in NUMBERS.items():
        span = [FloatingPointRange(from_value=0.0, to_value=highest)]
        node.declare_parameter(name, number, ParameterDescriptor(description=description, floating_point_range=span))


def configuration(node: Node) -> Configuration:
    """Reads and checks the parameters. Errors: ContractError that names the parameter."""
    return configured(lambda name: node.get_parameter(name).value)


def configured(value: Callable[[str], Any]) -> Configuration:
    """The same of parameters from anywhere. value: gives one by its name. Errors: as there."""
    for name, allowed in CHOICES.items():
        if value(name) not in allowed:
            raise ContractError(f"parameter {name} is {value(name)!r}; it must be one of {', '.join(allowed)}")
    remote = _remote(value) if value("backend") == "act" else None
    for name in ("contract", "checkpoint", "norm_tag", "joint_state_topic"):
        if not value(name) and (name != "checkpoint" or remote is None):    # a server has its own
            raise ContractError(f"parameter {name} is empty: {TEXTS[name][1]}")
    contract = load_contract(value("contract"))
    tag = contract.norm_tag(value("norm_tag"))
    fast, base = value("fast_tokenizer"), value("base_checkpoint")
    settings = Settings(
        checkpoint=_checkpoint(value("checkpoint")) if value("checkpoint") else "",
        norm_tag=tag.name,
        base_checkpoint=_checkpoint(base) if base else "",
        fast_tokenizer=str(find_resource("checkpoints", fast)) if fast else "",
        **{name: value(name) for name in ("depth", "action_mode", "cache_policy", "device", "dtype")},
        **{name: value(name) for name in ("full_refresh_every", "num_steps", "n_action_steps", "threads")},
        **{name: value(name) for name in ("rtc", "rtc_beta", "max_gap", "similarity_threshold")},
        **{name: value(name) for name in ("noise_scale", "smoothing")},
        **{name: value(name) for name in ("draft", "solver", "optimizations", "language_weights", "offload")},
    )
    settings = replace(settings, optimizations=_optimizations(settings, value("simulation"), remote))
    seed = value("seed")
    return Configuration(
        settings=settings,
        remote=remote,
        contract=contract,
        tag=tag,
        check_frozen=value("check_frozen") == "on" or (value("check_frozen") == "auto" and not value("simulation")),
        joint_topic=value("joint_state_topic"),
        min_period=value("min_period"),
        least_latency=_least_latency(value("least_latency"), value("simulation"), contract),
        inference_timeout=value("inference_timeout"),
        simulation=value("simulation"),
        seed=None if seed < 0 else seed,
        instruction=value("instruction"),
    )


def _optimizations(settings: Settings, simulation: bool, remote: Remote | None) -> str:
    """What differs from the default, always in the same words, with the engine's other options checked.

    Errors: ContractError."""
    options = EngineOptions.of(settings)
    try:
        options.check_session(settings.depth, settings.action_mode)
        check_noise_scale(settings.noise_scale, settings.action_mode)
        wanted = options.switches()
        if remote is None:    # else the server's, which knows its device
            options.check_device(settings.device)
    except InputError as error:
        names = "draft, solver, noise_scale, optimizations, language_weights, offload"
        raise ContractError(f"parameters {names}: {error}") from None
    untried = [name for name in UNTRIED if getattr(wanted, name)]
    if untried and not simulation:
        raise ContractError(
            f"parameter optimizations has {untried[0]}, which nobody has seen run on a GPU yet: it is for simulations "
            "and benchmarks, not for a robot that moves; leave it out"
        )
    if settings.offload != NO_OFFLOAD and not simulation:
        raise ContractError(
            f"parameter offload is {settings.offload}, which nobody has seen run on a GPU yet: it is for simulations "
            f"and benchmarks, not for a robot that moves; use {NO_OFFLOAD}"
        )
    return wanted.text()


def _least_latency(latency: float, simulation: bool, contract: Contract) -> float:
    """Errors: ContractError."""
    if latency > 0 and not simulation:
        raise ContractError(
            f"parameter least_latency is {latency:g}: it makes chunks late on purpose, which is for simulations; set "
            "it to 0, or say simulation: true in the system file of a simulation"
        )
    if latency >= contract.max_observation_age:
        raise ContractError(
            f"parameter least_latency is {latency:g} s; it must be less than {contract.max_observation_age:g} s "
            f"(max_observation_age of {contract.path.name}), after which controllers refuse a chunk"
        )
    return latency


def _remote(value: Callable[[str], Any]) -> Remote:
    """Errors: ContractError."""
    for name in ("server_timeout", "server_connect_timeout"):
        if not value(name) > 0:
            raise ContractError(f"parameter {name} is {value(name):g}; it must be above 0")
    if value("server_timeout") >= value("inference_timeout"):
        raise ContractError(
            f"parameter server_timeout is {value('server_timeout'):g} s; it must be less than inference_timeout, "
            f"{value('inference_timeout'):g} s, after which the policy fails"
        )
    try:
        url = Address.read(value("server_url")).url
    except ValueError as error:
        raise ContractError(f"parameter server_url: {error}") from None
    return Remote(
        url=url, token_file=value("server_token_file"), timeout=value("server_timeout"),
        connect_timeout=value("server_connect_timeout"), images=value("server_images"),
        jpeg_quality=value("server_jpeg_quality"), image_keys=value("server_image_keys"),
    )


def _checkpoint(name: str) -> str:
    """A folder or one of the suite's own checkpoints; what has the form owner/name may be a Hub id."""
    try:
        return str(find_resource("checkpoints", name))
    except ContractError:
        if name.count("/") == 1 and not name.startswith((".", "/")):
            return name
        raise
