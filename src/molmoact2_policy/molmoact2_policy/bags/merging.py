# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Merging what is sorted, without opening all of it at once."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def merged(sources: Sequence[tuple[int, Iterator[T]]], time_of: Callable[[T], int]) -> Iterator[T]:
    """The items of all sources in the order of their times.

    sources: (time of the first item or earlier, sorted items); one is begun only when its time has come.
    """
    waiting = sorted(enumerate(sources), key=lambda s: (s[1][0], s[0]))
    heads: list[tuple[int, int, T, Iterator[T]]] = []

    def push(number: int, items: Iterator[T]) -> None:
        for item in items:
            heapq.heappush(heads, (time_of(item), number, item, items))
            return

    while waiting or heads:
        while waiting and (not heads or waiting[0][1][0] <= heads[0][0]):
            number, (_, items) = waiting.pop(0)
            push(number, items)
        if heads:
            _, number, item, items = heapq.heappop(heads)
            yield item
            push(number, items)
