# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How much memory is taken at most: by this process, and on a GPU by each row."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch


def memory() -> dict[str, float]:
    """Main memory of this process, MiB: "resident" now, and at its "height" so far."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    now, most = pages * resource.getpagesize(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"resident": now / 2**20, "height": max(now, most) / 2**20}    # the kernel counts the second a little late


def allocated(device: torch.device) -> int:
    """Bytes that torch has allocated on a GPU now; 0 on a processor."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


class Holder(Protocol):
    """A runner. network: whose weights it computes with, which rows may share; weights: bytes of them on the device."""

    network: Any
    weights: float


class GpuMemory:
    """What torch allocates on a GPU for each row at the height of its calls: the weights of its network, what its
    session keeps, and what a call needs besides.

    Rows run one after the other, so what is allocated meanwhile is the row's own, and what others keep beside it is not
    counted. What is made when a session is opened belongs to the network (joined weights, places for blocks that are
    offloaded), whichever row was opened first. Not in it: what CUDA and its libraries take for themselves.
    """

    def __init__(self, device: torch.device):
        self._device, self._watched = device, device.type == "cuda"
        self._networks: dict[int, float] = {}    # bytes
        self._kept: dict[int, float] = {}    # by the sessions of the load that is measured

    @contextmanager
    def opening(self, runner: Holder) -> Iterator[None]:
        """While a session of it is opened; what an earlier one kept was given back before."""
        before = allocated(self._device)
        yield
        network = id(runner.network)
        self._networks[network] = self._networks.get(network, runner.weights) + allocated(self._device) - before
        self._kept[id(runner)] = 0.0

    @contextmanager
    def calling(self, runner: Holder, heights: list[float]) -> Iterator[None]:
        """While it is called once. heights: takes the bytes of it; none on a processor."""
        if self._watched:
            torch.cuda.reset_peak_memory_stats(self._device)
        before = allocated(self._device)
        yield
        if self._watched:
            held = self._networks[id(runner.network)] + self._kept[id(runner)]
            heights.append(held + torch.cuda.max_memory_allocated(self._device) - before)
            self._kept[id(runner)] += allocated(self._device) - before
