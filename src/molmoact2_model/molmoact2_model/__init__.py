# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""MolmoAct2 as a Python library: load a released checkpoint, give it images, state and an instruction, get
actions.

    from molmoact2_model import MolmoAct2Policy

    policy = MolmoAct2Policy.from_pretrained("path/or/hub-id")
    session = policy.session(norm_tag="so100_so101_molmoact2", depth="off", action_mode="continuous")
    result = session.infer(images=[front, wrist], state=state, instruction="pick up the red cube")

It needs no ROS and runs no code from a checkpoint. Importing the package is light: torch is loaded with the
first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import find_checkpoint
    from .engine_options import EngineOptions
    from .errors import CheckpointError, DecodeError, InputError, ModelError, UnsupportedError
    from .fast import FastTokenizer
    from .fingerprints import fingerprint
    from .images import image_fault
    from .policy import MolmoAct2Policy, machine, set_threads
    from .results import InferenceResult, Trace
    from .session import Session

_HOME = {
    "CheckpointError": "errors",
    "InputError": "errors",
    "ModelError": "errors",
    "UnsupportedError": "errors",
    "DecodeError": "errors",
    "EngineOptions": "engine_options",
    "FastTokenizer": "fast",
    "InferenceResult": "results",
    "MolmoAct2Policy": "policy",
    "Session": "session",
    "Trace": "results",
    "find_checkpoint": "checkpoint",
    "fingerprint": "fingerprints",
    "image_fault": "images",
    "machine": "policy",
    "set_threads": "policy",
}

__all__ = [
    "CheckpointError",
    "DecodeError",
    "EngineOptions",
    "FastTokenizer",
    "InferenceResult",
    "InputError",
    "ModelError",
    "MolmoAct2Policy",
    "Session",
    "Trace",
    "UnsupportedError",
    "find_checkpoint",
    "fingerprint",
    "image_fault",
    "machine",
    "set_threads",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
