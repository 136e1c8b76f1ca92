# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth codes generated one after another without the program in between: one step whose shapes never change, recorded
once as a CUDA graph and played again. The step itself is tested on a processor, where it is not recorded but run; the
recording is untried: nobody has had it on a GPU yet. Off unless `Optimizations.graphs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from .fused_language import Buffers, FusedLanguage

WARM_UPS = 3    # what libraries allocate when they are first called must not be recorded


class CodeSteps:
    """Feeds a code and chooses the next. rows: of the head, those of the codes; first: the id of code 0. It holds for
    one allocation of the cache."""

    def __init__(self, language: FusedLanguage, embed: Any, rows: torch.Tensor, first: int, cache: Buffers):
        self._language, self._embed, self._rows, self._first, self._cache = language, embed, rows, first, cache
        # Held, because a recorded graph reads and writes them where they lie: who grows them makes others.
        self._data, self._tables, device = cache.data, cache.tables, rows.device
        self._token, self._position = (torch.zeros(1, dtype=torch.long, device=device) for _ in range(2))
        self._prob = torch.zeros(1, device=device)
        self._play: Callable[[], object] | None = None

    def holds(self, cache: Buffers) -> bool:
        """Whether the cache still is where it was."""
        return cache.data is self._data

    def run(self, code: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Feeds `code` int64 (1,) and the count - 1 codes that follow it; returns the `count` codes that follow, and
        their probabilities (count,)."""
        begin = self._cache.length
        if self._play is None:
            self._play = self._recorded(begin) if code.device.type == "cuda" else self._step
        self._token.copy_(code + self._first)
        self._position.fill_(begin)
        codes, probs = [], []
        for _ in range(count):
            self._play()
            codes.append(self._token - self._first)
            probs.append(self._prob.clone())
        self._cache.length = begin + count
        return torch.cat(codes), torch.cat(probs)

    def _step(self) -> None:
        hidden = self._language.at(self._embed(self._token), self._position, self._cache.capacity, self._cache)
        scores = functional.linear(hidden, self._rows)
        chosen = scores.argmax(dim=-1)
        self._prob.copy_(scores.float().softmax(dim=-1).gather(-1, chosen[:, None])[:, 0])
        self._token.copy_(chosen + self._first)
        self._position.add_(1)

    def _recorded(self, begin: int) -> Callable[[], object]:
        """What it writes into the cache meanwhile lies behind what is in use, and is written anew."""
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self._position.fill_(begin)
                self._step()
            self._position.fill_(begin)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay
