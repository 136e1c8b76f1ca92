# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is done again and again without the program in between: steps whose shapes never change, recorded once as CUDA
graphs and played again. The steps themselves are tested on a processor, where they are not recorded but run; the
recording is untried: nobody has had it on a GPU yet. Off unless `Optimizations.graphs`.

The prompt and the flow are recorded for lengths of whole buckets, and what is short of that is masked; the last used
are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.nn import functional

from .flow import sample_flow
from .fused_expert import FusedContext, FusedExpert
from .fused_language import BUCKET, Buffers, FusedLanguage

WARM_UPS = 3    # what libraries allocate when they are first called must not be recorded
MOST_GRAPHS = 4    # of each kind that are kept, those last used
Play = Callable[[], object]
Kind = TypeVar("Kind")


def recorded(step: Play, device: torch.device, begin: Play = lambda: None) -> Play:
    """What does `step` again: played from a graph, on a processor the step itself. begin: puts back what a step before
    has changed. What the steps write meanwhile is written anew when it is played."""
    if device.type != "cuda":
        return step
    with torch.cuda.device(device):    # streams are made on the current device, and a graph hears but its own
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                begin()
                step()
            begin()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # By default torch records on one stream for all devices, that of the first which recorded.
        with torch.cuda.graph(graph, stream=beside):
            step()
    return graph.replay


def bucket(tokens: int) -> int:
    """The length that is recorded for so many tokens."""
    return -(-tokens // BUCKET) * BUCKET


class Kept(Generic[Kind]):
    """The last used of what was made, by key."""

    def __init__(self) -> None:
        self.made: dict[Hashable, Kind] = {}

    def get(self, key: Hashable, make: Callable[[], Kind]) -> Kind:
        found = self.made.pop(key, None)
        self.made[key] = found = make() if found is None else found
        while len(self.made) > MOST_GRAPHS:
            del self.made[next(iter(self.made))]
        return found


class CodeSteps:
    """Feeds a code and chooses the next. rows: of the head, those of the codes; first: the id of code 0. It holds for
    one allocation of the cache."""

    def __init__(self, language: FusedLanguage, embed: Any, rows: torch.Tensor, first: int, cache: Buffers):
        self._language, self._embed, self._rows, self._first, self._cache = language, embed, rows, first, cache
        # Held, because a recorded graph reads and writes them where they lie: who grows them makes others.
        self._data, self._tables, device = cache.data, cache.tables, rows.device
        self._token, self._position = (torch.zeros(1, dtype=torch.long, device=device) for _ in range(2))
        self._prob = torch.zeros(1, device=device)
        self._play: Play | None = None

    def holds(self, cache: Buffers) -> bool:
        """Whether the cache still is where it was."""
        return cache.data is self._data

    def run(self, code: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Feeds `code` int64 (1,) and the count - 1 codes that follow it; returns the `count` codes that follow, and
        their probabilities (count,)."""
        begin = self._cache.length
        if self._play is None:
            # What it writes into the cache meanwhile lies behind what is in use.
            self._play = recorded(self._step, code.device, lambda: self._position.fill_(begin))
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


class PromptGraphs:
    """Reads whole prompts into one cache, by graphs of whole buckets."""

    def __init__(self, language: FusedLanguage, cache: Buffers):
        self._language, self._cache, self._data = language, cache, cache.data
        self.kept: Kept[_Prompt] = Kept()

    def run(self, embeddings: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Embeddings (k, hidden) of all tokens, visible bool (k, k) -> the last hidden state (1, hidden). The cache is
        empty and has room for a whole bucket."""
        if self._cache.data is not self._data:    # it grew, and lies elsewhere
            self._data, self.kept = self._cache.data, Kept()
        count = len(embeddings)
        made = self.kept.get(bucket(count), lambda: _Prompt(self._language, self._cache, embeddings, bucket(count)))
        return made.run(embeddings, visible)


class _Prompt:
    """Of one length. What stands behind the prompt is written into the cache behind it, and never seen from there: what
    follows is written over it before it is seen."""

    def __init__(self, language: FusedLanguage, cache: Buffers, like: torch.Tensor, length: int):
        self._language, self._cache, self._tables = language, cache, cache.tables
        self._embeddings = torch.zeros((length, like.shape[1]), dtype=like.dtype, device=like.device)
        self._hidden = torch.zeros_like(self._embeddings)
        # Those behind it see something, or they would not be numbers.
        self._before = torch.ones((length, length), dtype=torch.bool, device=like.device).tril()
        self._visible = self._before.clone()
        self._play: Play | None = None

    def run(self, embeddings: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        count = len(embeddings)
        self._embeddings[:count] = embeddings
        self._embeddings[count:] = 0.0
        self._visible.copy_(self._before)
        self._visible[:count, :count] = visible
        if self._play is None:
            self._play = recorded(self._step, embeddings.device)
        self._play()
        self._cache.length = count
        return self._hidden[count - 1 : count].clone()

    def _step(self) -> None:
        self._cache.length = 0
        self._hidden.copy_(self._language(self._embeddings, self._visible, self._cache))


class FlowGraphs:
    """Runs whole flows of one expert, by graphs for contexts of whole buckets."""

    def __init__(self, expert: FusedExpert):
        self._expert = expert
        self.kept: Kept[_Flow] = Kept()

    def run(
        self, context: FusedContext, noise: torch.Tensor, modulations: Sequence[Any], valid: torch.Tensor | None,
        dims: int | None, solver: str,
    ) -> torch.Tensor:    # fmt: skip
        """As of sample_flow, without guidance. dims: how many are valid, which is not asked of the device."""
        seen = bucket(context.keys.shape[2])
        key = (seen, noise.shape, len(modulations), solver, dims)
        made = self.kept.get(key, lambda: _Flow(self._expert, context, seen, noise, modulations, valid, solver))
        return made.run(context, noise)


class _Flow:
    """Of one kind: number of tokens, waypoints, steps, solver."""

    def __init__(
        self, expert: FusedExpert, like: FusedContext, seen: int, noise: torch.Tensor, modulations: Sequence[Any],
        valid: torch.Tensor | None, solver: str,
    ):    # fmt: skip
        self._expert, self._solver, self._valid, self._modulations = expert, solver, valid, modulations
        layers, heads, _, width = like.keys.shape
        self._keys, self._values = (like.keys.new_zeros((layers, heads, seen, width)) for _ in range(2))
        self._mask = torch.zeros((1, seen), dtype=torch.bool, device=noise.device)
        self._noise, self._chunk = torch.zeros_like(noise), torch.zeros_like(noise)
        self._play: Play | None = None

    def run(self, context: FusedContext, noise: torch.Tensor) -> torch.Tensor:
        count = context.keys.shape[2]
        for goal, states in ((self._keys, context.keys), (self._values, context.values)):
            goal[:, :, :count] = states
            goal[:, :, count:] = 0.0    # what is masked is still multiplied, by 0: it must be a number
        self._mask[:, :count], self._mask[:, count:] = True, False
        self._noise.copy_(noise)
        if self._play is None:
            self._play = recorded(self._step, noise.device)
        self._play()
        return self._chunk.clone()

    def _step(self) -> None:
        context = FusedContext(self._keys, self._values, self._mask)
        found = sample_flow(self._expert, context, self._noise, self._modulations, self._valid, None, self._solver)
        self._chunk.copy_(found)
