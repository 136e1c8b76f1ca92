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
# Of what decoding one by one costs for all codes: so much more may have been spent before it is asked whether drafting
# pays. It is about three passes; after a draft that was given up, one or two.
SPARE, SPARE_AFTER_LOSS = 0.12, 0.05
RECENT = 3    # passes by which it is judged


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

    def _reach(self, draft: np.ndarray, begin: int) -> int:
        """How many codes of a draft from `begin` on are as they turned out to be, as far as is sure."""
        wrong = np.flatnonzero(draft[begin : self.sure] != self.codes[begin : self.sure])
        return int(wrong[0]) if wrong.size else self.sure - begin


class Budget:
    """Whether drafting still pays, or the codes that are not sure yet are sooner generated one by one.

    Both are counted in passes over one token, by the tokens that are read and not by a clock, so that the same call is
    always computed in the same way. Drafting is given up when it has cost `spare` of all codes one by one more than
    those that are sure would have, and going on as in the last passes would cost more than the others one by one.
    """

    def __init__(self, free: np.ndarray, token_cost: float, spare: float = SPARE):
        """free: bool (cells,), the codes that are generated where it is done one by one; token_cost: 0 where a pass
        costs the same however many tokens it reads, and is never given up."""
        self._token_cost, self._spare, self._spent = token_cost, spare, 0.0
        self._one_by_one = np.append(0, np.cumsum(free + token_cost))    # up to each code
        self._sure = [0]    # after each pass

    def lasts(self, tokens: int, sure: int) -> bool:
        """After a pass over `tokens`, since when `sure` codes are."""
        self._spent += 1 + tokens * self._token_cost
        self._sure.append(sure)
        done, all_of_them = self._one_by_one[sure], self._one_by_one[-1]
        if not self._token_cost or self._spent <= done + self._spare * all_of_them:
            return True
        recent = self._sure[-1 - RECENT :]
        rest = self._one_by_one.size - 1 - sure
        passes = rest * (len(recent) - 1) / (recent[-1] - recent[0])
        return bool(passes * (1 + rest / 2 * self._token_cost) <= all_of_them - done)
