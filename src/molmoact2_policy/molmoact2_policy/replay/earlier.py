# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""An earlier replay, read back from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..bags.bag import Bag, BagError, stamp_ns
from ..report.run import CHUNKS, TRACES
from .figures import RunFigures
from .output import PREFIX


def read_earlier(folder: Path) -> tuple[RunFigures, dict[str, str]]:
    """The new run of an earlier replay, and its settings. Errors: BagError where the folder is none."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        joints, open_loop, settings = tuple(summary["joints"]), summary["open_loop"], dict(summary["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BagError(f"{folder} is no folder of an earlier replay ({error!r}); name one with summary.json") from error
    run = RunFigures(str(folder), joints)
    run.open_loop = np.array(open_loop, np.float64).reshape(-1, len(joints))
    with Bag(folder / "bag") as bag:
        chunks = {message.trace_id: message for _, _, message, _ in bag.messages({PREFIX + CHUNKS})}
        ready = {message.trace_id: stamp_ns(message.finished) for _, _, message, _ in bag.messages({TRACES})}
        for _, _, trace, _ in bag.messages({PREFIX + TRACES}):
            finished = ready.get(trace.trace_id, stamp_ns(trace.finished))
            run.add(trace, chunks.pop(trace.trace_id, None), finished)
    return run, settings
