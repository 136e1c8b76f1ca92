# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Motors that let go though the arm was driven: nobody's setpoint may lift what has fallen, into whoever reaches for
it. No bus here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from arm_controller.driver import DriverError

from .hardware import Motor
from .motors import ON, Feedback


class Fallen:
    """Of one arm, until an operator clears that. names: the joints, in motor order."""

    def __init__(self, motors: Sequence[Motor], names: Sequence[str]):
        self._words = [f"{motor.id} ({name})" for motor, name in zip(motors, names, strict=True)]
        self._limp: set[int] = set()
        self._cleared: set[int] = set()    # may be switched on, once

    def look(self, readings: Sequence[Feedback], driven: bool) -> None:
        """driven: whether all should be on."""
        if driven:
            self._limp |= {i for i, reading in enumerate(readings) if reading.status != ON} - self._cleared

    def lose(self, driven: bool) -> None:
        """Nothing can be said to the motors any more: they let go by themselves."""
        if driven:
            self._limp, self._cleared = set(range(len(self._words))), set()

    def clear(self, readings: Sequence[Feedback]) -> None:
        """An operator clears a fault: those that are off now may be switched on."""
        self._cleared = {i for i, reading in enumerate(readings) if reading.status != ON}
        self._limp.clear()

    def begin(self, trouble: str, returned: Collection[int]) -> None:
        """Motors are about to be switched on; where that then fails, an operator has to clear it again. trouble: what
        is wrong now. returned: those that came back off and are not believed yet. Errors: DriverError."""
        if trouble:
            raise DriverError(trouble)
        if self._limp:
            raise DriverError(f"motor {self._named(self._limp)} let go and stays limp until clear_fault and arm")
        if returned:
            raise DriverError(f"motor {self._named(returned)} came back off and was not looked at yet; arm again")
        self._limp, self._cleared = self._cleared, set()

    def forget(self) -> None:
        """All are on."""
        self._limp.clear()

    def _named(self, indices: Collection[int]) -> str:
        return ", ".join(self._words[i] for i in sorted(indices))


def keeping(positions: np.ndarray, held: np.ndarray | None) -> np.ndarray:
    """Positions (J,), of which the last, the gripper's, is what was held at (J,), where that is known."""
    kept = positions.copy()
    if held is not None and np.isfinite(held[-1]):
        kept[-1] = held[-1]
    return kept
