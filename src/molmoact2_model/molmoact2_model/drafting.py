# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What to draft where a model generates depth codes by draft and verify."""

from __future__ import annotations

import numpy as np

LOSE_ONE_IN = 10
# What each token of a pass costs beyond the pass itself, in passes over one token. On a processor 0.034 and 0.044 were
# measured, with two small checkpoints. A GPU is reckoned to be busy with the weights, whatever the tokens
# (docs/performance.md).
TOKEN_COST = {"cpu": 0.04}
SPARE = 0.25    # of what decoding one by one costs for all codes: so much more may have been spent


class Drafting:
    """Codes int (cells,) that are verified pass by pass, from the first one on.

    Two drafts are at hand for what is not sure yet: the one that was given, and what the model itself said in the last
    pass. The second has seen the new image, but was conditioned on codes that turned out otherwise. After each pass it
    is known how far each of them would have reached; the one that reached further more often is used, at first the one
    that was given. So a model whose codes depend on each other much needs a pass for each change and one more, and one
    whose codes follow from the image fewer.

    How many passes at most, where `changes` codes come out otherwise than given: changes + 1 where that is 0 or 1, else
    changes + 2 + changes // LOSE_ONE_IN, and never more than free codes + 1. Each pass but the last replaces one code.
    Drafting with what was given, that code is a change; only a pass over the model's own words may replace one that was
    given rightly. It pays where those words were right about changes, which then cost no pass. So the model's own words
    are used only while hardly more passes than changes are behind: they may lose one pass, and one more for every
    LOSE_ONE_IN changes.
    """

    def __init__(self, draft: np.ndarray, free: np.ndarray):
        """free: bool (cells,): the others stay as they are."""
        self.codes = draft.astype(np.int64)
        self.sure = 0    # codes from the first one on that will not change
        self._given, self._free = self.codes.copy(), free
        self._said: np.ndarray | None = None
        self._lead = 0    # how much more often the model's own draft reached further
        self._replaced = 0    # passes so far, each of which replaced a code

    def verify(self, chosen: np.ndarray) -> bool:
        """Takes what the model chose for all codes that are not sure, int (cells - sure,), each conditioned on
        `codes` before it. Returns whether all codes stand and the model has read them."""
        begin, said = self.sure, self._given.copy()
        said[begin:] = np.where(self._free[begin:], chosen, self._given[begin:])
        wrong = np.flatnonzero(said[begin:] != self.codes[begin:])
        if not wrong.size:
            self.sure = self.codes.size
            return True
        first = begin + int(wrong[0])
        self.codes[first] = said[first]
        self.sure, self._replaced = first + 1, self._replaced + 1
        if self._said is not None:
            self._lead += int(np.sign(self._reach(self._said, begin) - self._reach(self._given, begin)))
        self._said = said
        changes = int((self.codes[: self.sure] != self._given[: self.sure]).sum())
        affordable = self._replaced <= changes + changes // LOSE_ONE_IN
        draft = said if self._lead > 0 and affordable else self._given
        self.codes[self.sure :] = draft[self.sure :]
        return False

    @property
    def likely_passes(self) -> int:
        """How many are to come: one for each code that the model would have otherwise, or as often as before, whichever
        is fewer. The first is too many where what the model says of a code depends on the one before it, the second
        where what is wrong comes first."""
        given, rest = self._given[self.sure :], self.codes.size - self.sure
        otherwise = rest if self._said is None else int((self._said[self.sure :] != given).sum())
        return 1 + min(otherwise, rest * self._replaced // max(self.sure, 1))

    def _reach(self, draft: np.ndarray, begin: int) -> int:
        """How many codes of a draft from `begin` on are as they turned out to be, as far as is sure."""
        wrong = np.flatnonzero(draft[begin : self.sure] != self.codes[begin : self.sure])
        return int(wrong[0]) if wrong.size else self.sure - begin


class Budget:
    """Whether drafting still pays, or the codes that are not sure yet are sooner generated one by one.

    Both are counted in passes over one token, by the tokens that are read and not by a clock, so that the same call is
    always computed in the same way. Drafting is given up when the passes that are likely to come would cost more than
    the codes one by one, or when it has cost SPARE of all codes one by one more than those that are sure would have.
    So a draft that is wrong throughout costs one pass.
    """

    def __init__(self, free: np.ndarray, token_cost: float):
        """free: bool (cells,), the codes that are generated where it is done one by one; token_cost: 0 where a pass
        costs the same however many tokens it reads, and is never given up."""
        self._token_cost, self._spent = token_cost, 0.0
        self._one_by_one = np.append(0, np.cumsum(free + token_cost))    # up to each code

    def lasts(self, tokens: int, drafting: Drafting) -> bool:
        """After a pass over `tokens`."""
        self._spent += 1 + tokens * self._token_cost
        rest = drafting.codes.size - drafting.sure
        drafted = drafting.likely_passes * (1 + rest / 2 * self._token_cost)
        done, all_of_them = self._one_by_one[drafting.sure], self._one_by_one[-1]
        return not self._token_cost or (
            drafted <= all_of_them - done and self._spent <= done + SPARE * all_of_them
        )
