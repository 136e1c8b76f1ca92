# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which depth codes are generated anew, and why (spec section 6.3). Plain numpy; the decoding itself is
engine.py's.

The reference rule reuses the code of every cell that looks as in the previous call's frame. It measures
cosine similarity alone, so it has holes: brightness scales out of a cosine, a black cell counts as unchanged,
and a change spread over many calls never passes the threshold between two of them. `BoundedPolicy` closes
them by forcing a full pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .errors import InputError
from .images import image_fault

CELL_SIZE = 32
SIMILARITY_THRESHOLD = 0.996


def resize_for_cells(image: np.ndarray, side: int) -> np.ndarray:
    """Squashes a uint8 (H, W, 3) frame to (side * 32, side * 32, 3) as the reference does (PIL bilinear)."""
    target = side * CELL_SIZE
    if image.shape[:2] == (target, target):
        return image
    return np.asarray(Image.fromarray(image).resize((target, target), Image.Resampling.BILINEAR))


def cells_of(resized: np.ndarray) -> np.ndarray:
    """uint8 (side * 32, side * 32, 3) -> float32 (side * side, 32 * 32 * 3), cells row-major."""
    side = resized.shape[0] // CELL_SIZE
    tiles = resized.astype(np.float32).reshape(side, CELL_SIZE, side, CELL_SIZE, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(tiles.reshape(side * side, -1))


def similarity(current: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Cosine similarity of each cell; 1 where one of the two is black. (cells, values) twice -> (cells,)."""
    product = np.linalg.norm(current, axis=-1) * np.linalg.norm(previous, axis=-1)
    dot = np.sum(current * previous, axis=-1)
    return np.where(product < 1e-8, 1.0, dot / (product + 1e-12))


def changed_cells(
    current: np.ndarray, previous: np.ndarray, threshold: float = SIMILARITY_THRESHOLD
) -> np.ndarray:
    """The reference rule on two arrays of cells: bool (cells,), True where the similarity is below the threshold."""
    return similarity(current, previous) < threshold


def check_threshold(threshold: float) -> None:
    """Errors: InputError for what is no similarity."""
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not number or not 0 < threshold <= 1:
        raise InputError(f"similarity_threshold is {threshold!r}, expected a cosine over 0 and at most 1")


def runs(refreshed: np.ndarray) -> list[tuple[int, int, bool]]:
    """Splits a bool (cells,) mask, in raster order, into (start, end, value) runs of equal value."""
    edges = np.flatnonzero(np.diff(refreshed)) + 1
    bounds = [0, *edges.tolist(), refreshed.size]
    return [(start, end, bool(refreshed[start])) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


@dataclass(frozen=True)
class Codes:
    """The depth codes of one call: code, probability given when generated, and age in calls, each (cells,)."""

    codes: np.ndarray
    probs: np.ndarray
    ages: np.ndarray


@dataclass(frozen=True)
class Request:
    """What the policy looks at before a call. main_image: the caller's own, not to be read when the call is over. `now`
    is monotonic time [s]."""

    main_image: np.ndarray
    image_shapes: tuple[tuple[int, ...], ...]
    instruction: str
    norm_tag: str
    now: float


@dataclass(frozen=True)
class Decision:
    """`refreshed` bool (cells,): which codes to generate. `cause` says why all of them; empty for an adaptive
    pass. `cells` is the main image as the rule saw it."""

    refreshed: np.ndarray
    cause: str
    cells: np.ndarray


class ReferencePolicy:
    """The reference rule alone: a full pass when nothing is cached, else the cells that changed since the last call.

    threshold: a similarity below it is a change; the reference has 0.996.
    """

    def __init__(self, grid_side: int, threshold: float = SIMILARITY_THRESHOLD) -> None:
        self.side, self._threshold = grid_side, threshold
        self.codes: Codes | None = None
        self._cells: np.ndarray | None = None
        self._empty_because = "first_call"

    def forget(self, because: str) -> None:
        """Drops the cache; `because` names the cause of the full pass that follows."""
        if self.codes is not None or because != "reset":
            self._empty_because = because
        self.codes = self._cells = None

    def decide(self, request: Request) -> Decision:
        cells = cells_of(resize_for_cells(request.main_image, self.side))
        cause = self._cause(request, cells)
        if cause:
            return Decision(np.ones(self.side**2, bool), cause, cells)
        assert self._cells is not None
        return Decision(changed_cells(cells, self._cells, self._threshold), "", cells)

    def commit(self, request: Request, decision: Decision, codes: Codes, now: float) -> None:
        """Remembers what a successful call generated. `now`: monotonic time [s] at its end."""
        self._cells, self.codes = decision.cells, codes

    def _cause(self, request: Request, cells: np.ndarray) -> str:
        return self._empty_because if self.codes is None else ""


@dataclass(frozen=True)
class Bounds:
    """Thresholds of `BoundedPolicy`; the defaults are justified there."""

    max_gap: float = 5.0
    full_refresh_every: int | None = None
    colour_step: float = 8.0
    stale_similarity: float = 0.99
    stale_share: float = 0.05
    stale_calls: int = 10
    changed_share: float = 0.5


class BoundedPolicy(ReferencePolicy):
    """The reference rule, and a full pass wherever that rule would go on believing codes that no longer hold.

    A full pass is what the first call of an episode does, so it stays inside what the model saw in training.
    It is forced, in this order of precedence, by:

    * `first_call`, `reset`, `call_failed` (the last call ended in an error): nothing trustworthy is cached.
    * `norm_tag_changed`, `instruction_changed`, `camera_size_changed` (count, order or size of the images).
    * `gap`: more than `max_gap` seconds (5) between the end of a call and the start of the next; in that time
      a scene changes unseen.
    * `main_image_black`, `main_image_saturated` (see images.image_fault), and `main_image_recovered` on the
      first good frame after one: a black cell has no direction, so its cosine says nothing.
    * `full_refresh_every`: the last full pass is that many calls ago.
    * `main_image_changed`: the view has moved on from the last full pass. Each cell is compared with its own
      content in the frame its code was generated from (the frame of the last full pass, or of its own refresh
      since). It is *stale* when the rule would reuse its code although a colour mean moved by more than
      `colour_step` levels or the similarity fell below `stale_similarity`. The pass is forced when
      `stale_share` of the cells are stale at once, when any cell has been stale for `stale_calls` calls
      running, or when `changed_share` of the cells are stale or due anyway. It is also forced when
      `changed_share` of the cells have changed, by the rule or by colour, since the last full pass itself: then
      most of the codes that condition each other come from different scenes.

    Why these numbers. Colour means of a 32 x 32 cell hardly feel sensor noise (sigma 4 moves a mean by 0.13
    levels), and 8 levels, 3 % of the range, lie above the flicker of an automatic exposure and below any
    change of light that matters: a scene of medium brightness dimmed to 0.9 moves by 10 or more. 0.99 is a
    change 2.5 times as large as the rule's own 0.996, so cells that hover about the rule's threshold in noise
    are not called stale, while a drift passes it soon after. Five stale cells in a hundred are a fade or a
    drift of the scene; one or two may be a flickering edge, hence ten calls of patience. With half the cells
    new, a full pass costs at most twice as much and conditions every code on the scene.

    A frame identical to the last, byte for byte, is not a cause: a quiet simulator repeats itself.
    """

    def __init__(self, grid_side: int, bounds: Bounds, threshold: float = SIMILARITY_THRESHOLD) -> None:
        super().__init__(grid_side, threshold)
        self.bounds = bounds
        self._last: Request | None = None
        self._last_end = 0.0
        self._fault = ""
        self._calls_since_full = 0
        self._generated_from: np.ndarray | None = None
        self._full_pass: np.ndarray | None = None
        self._stale_for = 0

    def commit(self, request: Request, decision: Decision, codes: Codes, now: float) -> None:
        super().commit(request, decision, codes, now)
        self._last, self._last_end = request, now
        self._fault = image_fault(request.main_image)
        self._calls_since_full = 0 if decision.cause else self._calls_since_full + 1
        if decision.cause or self._generated_from is None:
            self._generated_from = self._full_pass = decision.cells
            self._stale_for = 0
        else:
            self._generated_from = np.where(decision.refreshed[:, None], decision.cells, self._generated_from)

    def _cause(self, request: Request, cells: np.ndarray) -> str:
        if self.codes is None or self._last is None:
            return self._empty_because
        if request.norm_tag != self._last.norm_tag:
            return "norm_tag_changed"
        if request.instruction != self._last.instruction:
            return "instruction_changed"
        if request.image_shapes != self._last.image_shapes:
            return "camera_size_changed"
        if request.now - self._last_end > self.bounds.max_gap:
            return "gap"
        fault = image_fault(request.main_image)
        if fault:
            return f"main_image_{fault}"
        if self._fault:
            return "main_image_recovered"
        every = self.bounds.full_refresh_every
        if every is not None and self._calls_since_full + 1 >= every:
            return "full_refresh_every"
        return "main_image_changed" if self._moved_on(cells) else ""

    def _moved_on(self, cells: np.ndarray) -> bool:
        assert self._cells is not None and self._generated_from is not None and self._full_pass is not None
        if np.array_equal(cells, self._cells):
            return False
        due = changed_cells(cells, self._cells, self._threshold)
        dissimilar = similarity(cells, self._generated_from) < self.bounds.stale_similarity
        stale = ~due & (self._recoloured(cells, self._generated_from) | dissimilar)
        replaced = changed_cells(cells, self._full_pass, self._threshold) | self._recoloured(cells, self._full_pass)
        self._stale_for = self._stale_for + 1 if stale.any() else 0
        return bool(
            stale.mean() >= self.bounds.stale_share
            or self._stale_for >= self.bounds.stale_calls
            or (stale | due).mean() >= self.bounds.changed_share
            or replaced.mean() >= self.bounds.changed_share
        )

    def _recoloured(self, cells: np.ndarray, before: np.ndarray) -> np.ndarray:
        return np.abs(_colour_means(cells) - _colour_means(before)).max(axis=-1) > self.bounds.colour_step


def _colour_means(cells: np.ndarray) -> np.ndarray:
    """(cells, 32 * 32 * 3) -> mean of each channel, (cells, 3)."""
    return cells.reshape(cells.shape[0], -1, 3).mean(axis=1)


def make_policy(
    kind: str, grid_side: int, bounds: Bounds, threshold: float = SIMILARITY_THRESHOLD
) -> ReferencePolicy:
    """`bounded` (ours) or `reference`."""
    if kind == "reference":
        return ReferencePolicy(grid_side, threshold)
    return BoundedPolicy(grid_side, bounds, threshold)
