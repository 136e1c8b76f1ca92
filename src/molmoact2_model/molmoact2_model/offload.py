# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""For a GPU that is too small: the language model's blocks stay in main memory, and two of them at a time are on the
device. While one is computed the next is copied, on a stream of its own. The numbers are those that are computed with
otherwise, in the same order. That order is tested on a processor; on a GPU it is untried: nobody has had it on one yet.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

PLACES = 2    # on the device: the block that is computed, and the one that is copied meanwhile


def kept_back(language: Any) -> set[nn.Module]:
    """What of transformers' text model stays in main memory: the linear layers of its blocks."""
    return {module for module in language.layers.modules() if isinstance(module, nn.Linear)}


class Block(Protocol):
    """What is computed from a few large weights."""

    def weights(self) -> list[torch.Tensor]: ...

    def over(self, weights: Sequence[torch.Tensor]) -> Block:
        """The same block computed from these, with all else that it has on their device."""


class Lane(Protocol):
    """Where copies are made, and in which order with what is computed. A mark stands for all that was asked for before
    it, in the one order or the other."""

    def mark(self) -> Any:
        """Of what is computed."""

    def copy(self, goals: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], after: Any) -> Any:
        """Copies, not before the mark `after` is reached; returns a mark of the copies."""

    def wait(self, mark: Any) -> None:
        """What is computed from now on comes after the mark."""


class AtOnce:
    """Of a processor: everything is done when it is asked for."""

    def mark(self) -> None:
        return None

    def copy(self, goals: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], after: None) -> None:
        for goal, source in zip(goals, sources, strict=True):
            goal.copy_(source)

    def wait(self, mark: None) -> None:
        return None


class Beside:
    """Of a GPU: a stream for the copies beside the one that computes."""

    def __init__(self, device: torch.device):
        self._device, self._stream = device, torch.cuda.Stream(device)

    def mark(self) -> torch.cuda.Event:
        return torch.cuda.current_stream(self._device).record_event()

    def copy(
        self, goals: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], after: torch.cuda.Event
    ) -> torch.cuda.Event:
        self._stream.wait_event(after)
        with torch.cuda.stream(self._stream):
            for goal, source in zip(goals, sources, strict=True):
                goal.copy_(source, non_blocking=True)
        return self._stream.record_event()

    def wait(self, mark: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(mark)


AnyBlock = TypeVar("AnyBlock", bound=Block)


class Streamed(Sequence[AnyBlock]):
    """Blocks to be computed from the first to the last, again and again, each as soon as it is given and before the
    next is asked for. Their weights are of equal shapes. Who iterates has them alone until it ends."""

    def __init__(self, blocks: Sequence[AnyBlock], device: torch.device, lane: Lane | None = None):
        self._lane: Lane = lane or (Beside(device) if device.type == "cuda" else AtOnce())
        self._sources = [block.weights() for block in blocks]
        self.places = [
            [torch.empty_like(weight, device=device, pin_memory=False) for weight in self._sources[0]]
            for _ in range(min(PLACES, len(blocks)))
        ]
        self._blocks: list[Any] = [block.over(self.places[index % PLACES]) for index, block in enumerate(blocks)]
        self._free = [self._lane.mark() for _ in self.places]    # when each place was used last
        self._arrived: list[Any] = [None] * len(self.places)
        self._alone = threading.Lock()

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("blocks that are copied as they are needed can only be gone through from the first on")

    def __iter__(self) -> Iterator[AnyBlock]:
        with self._alone:
            self._fetch(0)
            for index, block in enumerate(self._blocks):
                if index + 1 < len(self):
                    self._fetch(index + 1)
                place = index % PLACES
                self._lane.wait(self._arrived[place])
                try:
                    yield block
                finally:    # also where the computing was given up: what was asked for of the device still runs
                    self._free[place] = self._lane.mark()

    def _fetch(self, index: int) -> None:
        place = index % PLACES
        self._arrived[place] = self._lane.copy(self.places[place], self._sources[index], self._free[place])
